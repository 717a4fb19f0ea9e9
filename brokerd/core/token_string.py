"""What a Copilot token says of itself: `k=v;k=v;…:mac`, the older `hex:org:exp:mac`, or nothing.

Only ever a fallback for what the exchange leaves unsaid; the token itself is passed on untouched.
It holds the person's address (`ip`, `asn`) besides being a secret: reprs show neither.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["MAX_LENGTH", "SKU", "TokenString", "parse"]

MAX_LENGTH: Final = 8192
"""Longer than any token of Copilot's; longer than this is no token."""

SKU: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""GitHub's words for plans are an open set, and shown to people: plain characters only."""

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST: Final = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_LEGACY: Final = re.compile(r"[0-9A-Fa-f]+:[^:]*:([0-9]{1,12}):[^:]+")


@dataclass(frozen=True)
class TokenString:
    """The fields of a token; empty for a string that has none."""

    fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Key → value, as they stand; of a repeated key the last."""
    expires_at: int | None = None
    """`exp`: Unix seconds."""
    sku: str = ""
    """`sku`: GitHub's word for the plan."""
    proxy_host: str = ""
    """`proxy-ep`: the host for fill-in-the-middle completions, lower case."""

    @property
    def api_host(self) -> str:
        """The Copilot API's host that goes with `proxy_host`, or "" where that is named oddly."""
        name = self.proxy_host.removeprefix("proxy.")
        return f"api.{name}" if name != self.proxy_host else ""


def parse(token: str) -> TokenString:
    """Read a token; never raises, and does not check the MAC (only GitHub can)."""
    if len(token) > MAX_LENGTH:
        return TokenString()
    legacy = _LEGACY.fullmatch(token)
    if legacy is not None:
        return TokenString(expires_at=int(legacy[1]))
    fields: dict[str, str] = {}
    for part in token.partition(":")[0].split(";"):
        key, equals, value = part.partition("=")
        if equals and _KEY.fullmatch(key):
            fields[key] = value
    return TokenString(
        fields=MappingProxyType(fields),
        expires_at=int(fields["exp"]) if _SECONDS.fullmatch(fields.get("exp", "")) else None,
        sku=_matching(SKU, fields.get("sku", "")),
        proxy_host=_matching(_HOST, fields.get("proxy-ep", "").lower()),
    )


def _matching(pattern: re.Pattern[str], value: str) -> str:
    return value if pattern.fullmatch(value) else ""
