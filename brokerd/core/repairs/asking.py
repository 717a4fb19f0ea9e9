"""The repairs of a request: what real clients send and Copilot refuses.

Each has a pattern that is searched in the bytes. Only if one is found the body is read, once for
all; if nothing is to be changed after all, or it cannot be written again exactly, the very same
object goes on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brokerd.core.repairs.betas import BETAS, kept_betas
from brokerd.core.repairs.exact import edited


if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


__all__ = ["Asked", "RequestRepairs", "request_repairs"]

_MESSAGES: Final = "/v1/messages"
_RESPONSES: Final = "/responses"


class Asked(NamedTuple):
    """A request as it goes up."""

    body: bytes
    headers: Mapping[str, str]
    names: tuple[str, ...]
    """Of the repairs that were made."""


class _Edit(NamedTuple):
    """A change of a body."""

    name: str
    path: str
    looks: Callable[[bytes], Any]
    """Whether it may have something to change: one scan, a third of a millisecond for 1 MB."""


def _cache_controls(body: bytes) -> bool:
    count = body.count(b'"cache_control"')
    return count > 4 or (count > 0 and b'"scope"' in body)


def _typed(*begins: bytes) -> Callable[[bytes], Any]:
    """Look for a `type` that begins so."""
    return re.compile(rb'"type"\s*:\s*"(?:%b)' % b"|".join(begins)).search


_EDITS: Final = (
    _Edit("system_in_messages", _MESSAGES, re.compile(rb'"role"\s*:\s*"system"').search),
    _Edit(
        "hosted_tools",
        _RESPONSES,
        _typed(
            b"web_search", b"file_search", b"code_interpreter", b"computer", b"image_generation",
            b"mcp",
        ),
    ),
    _Edit(
        "hosted_tools",
        _MESSAGES,
        _typed(b"web_search_", b"web_fetch_", b"code_execution_", b"mcp_toolset"),
    ),
    _Edit("store_off", _RESPONSES, re.compile(rb'"store"\s*:\s*true').search),
    _Edit("tool_schema", _MESSAGES, re.compile(rb'"\$schema"').search),
    _Edit("cache_control", _MESSAGES, _cache_controls),
)  # fmt: skip
"""In the order in which they are made: what is moved first is counted later."""


class RequestRepairs:
    """The repairs of one endpoint's requests; holds nothing of a request."""

    def __init__(self, path: str, enabled: Collection[str]) -> None:
        self._edits = tuple(each for each in _EDITS if each.path == path and each.name in enabled)
        self._filters_betas = path == _MESSAGES and "anthropic_betas" in enabled
        self._is_idle = not (self._edits or self._filters_betas)

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> Asked:
        """Return what goes up; names of `headers` are lower-case. Never raises."""
        if self._is_idle:
            return Asked(body, headers, ())
        names: list[str] = []
        if self._filters_betas and BETAS in headers:
            betas = kept_betas(headers[BETAS])
            if betas != headers[BETAS]:
                names.append("anthropic_betas")
                headers = {name: value for name, value in headers.items() if name != BETAS}
                if betas:
                    headers[BETAS] = betas
        wanted = [each for each in self._edits if each.looks(body)]
        if wanted:
            body = _repaired(body, wanted, names)
        return Asked(body, headers, tuple(names))


def _repaired(body: bytes, wanted: list[_Edit], names: list[str]) -> bytes:
    from brokerd.core.repairs import bodies  # noqa: PLC0415 - few requests need it

    made: list[str] = []

    def change(fields: dict[str, Any]) -> bool:
        made.extend(each.name for each in wanted if bodies.EDITS[each.name, each.path](fields))
        return bool(made)

    new = edited(body, change)
    if new is not body:
        names.extend(made)
    return new


def request_repairs(path: str, enabled: Collection[str]) -> RequestRepairs:
    """Return the repairs of requests to `path` (of the Copilot API) that are switched on."""
    return RequestRepairs(path, enabled)
