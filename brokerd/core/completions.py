"""What a completion is made of on its way up: values only.

`proxy` makes an `UpstreamCall` of a caller's `CompletionRequest`; `upstream` sends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["CompletionRequest", "UpstreamCall"]


@dataclass(frozen=True)
class CompletionRequest:
    """What a caller wants sent, as it came through a door."""

    body: bytes = field(repr=False)
    """Goes up untouched."""
    path: str = "/chat/completions"
    """One of the paths that may be asked for, in its one normal form."""
    stream: bool = False
    """Whether the caller takes the answer in pieces; what upstream sends depends on the body."""
    account: str | None = None
    """None: the default one."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """The caller's own, lower-case names, none but those that may be passed on."""


@dataclass(frozen=True)
class UpstreamCall:
    """One POST to the Copilot API; sent at most once."""

    host: str
    """The account's GitHub host: it decides where a credential may go."""
    api_base: str
    """Origin of the Copilot API, as the exchange named it."""
    token: str = field(repr=False)
    path: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    """To be sent besides (and instead of) the identity headers; lower-case names."""
