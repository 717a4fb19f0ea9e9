"""The head of a completion's request: rendered from what never changes and the little that does.

It is made for every request, so what was found good once is remembered: paths, names of headers
and the token of the moment. Values of headers are looked at each time, all in one go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from brokerd.core.request_id import new_request_id
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.upstream.identity import presentable


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.completions import UpstreamCall


__all__ = ["RequestHead"]

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
"""RFC 9110 §5.6.2, lower case."""

PATH = re.compile(r"/[!-~]*")

REMEMBERED_MAX = 64
"""Names and paths; callers have a dozen."""

OURS = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What no caller may send: framing, and where the request and its credential go."""


class RequestHead:
    """Of all requests to one permitted origin."""

    def __init__(self, origin: str, identity: Mapping[str, str]) -> None:
        self.origin = origin
        self._lines = {
            name.lower(): f"{name}: {value}\r\n"
            for name, value in {
                "Host": urlsplit(origin).netloc,
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                **identity,
            }.items()
        }
        self._all_lines = "".join(self._lines.values())
        self._names: set[str] = set()
        """Of callers' headers: may be sent, and replace none of ours."""
        self._token = ""
        self._beginnings: dict[str, str] = {}
        """By path: the request line, our lines and the token's."""

    def render(self, call: UpstreamCall) -> bytes:
        """Return the head of `call`; what its headers say replaces what we would say.

        Raises PermanentError: USAGE for what cannot be sent, LOGIN_REQUIRED for an odd token.
        """
        headers = call.headers
        own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        # No line more than there are headers, and nothing but visible ASCII in them.
        bare = own.replace("\r\n", "")
        if len(own) - len(bare) != 2 * len(headers) or not (bare.isascii() and bare.isprintable()):
            raise _not_allowed("a header")
        if headers.keys() <= self._names or self._adds_only(headers):
            beginning = self._beginning(call.path, call.token)
        else:
            lines = "".join(line for name, line in self._lines.items() if name not in headers)
            beginning = _begin(call.path, lines, call.token)
        request_id = "" if "x-request-id" in headers else f"x-request-id: {new_request_id()}\r\n"
        text = f"{beginning}{request_id}{own}Content-Length: {len(call.body)}\r\n\r\n"
        return text.encode("ascii")

    def _adds_only(self, headers: Mapping[str, str]) -> bool:
        """Whether these replace none of our lines; remember them then."""
        if not (OURS.isdisjoint(headers) and all(map(HEADER_NAME.fullmatch, headers))):
            raise _not_allowed("a header")
        if not self._lines.keys().isdisjoint(headers):
            return False
        if len(self._names) < REMEMBERED_MAX:
            self._names.update(headers)
        return True

    def _beginning(self, path: str, token: str) -> str:
        if token != self._token:
            self._token = token
            self._beginnings.clear()
        beginning = self._beginnings.get(path)
        if beginning is None:
            beginning = _begin(path, self._all_lines, token)
            if len(self._beginnings) < REMEMBERED_MAX:
                self._beginnings[path] = beginning
        return beginning


def _begin(path: str, lines: str, token: str) -> str:
    if not PATH.fullmatch(path):
        raise _not_allowed("the path")
    return f"POST {path} HTTP/1.1\r\n{lines}Authorization: Bearer {presentable(token)}\r\n"


def _not_allowed(what: str) -> PermanentError:
    return PermanentError(
        Failure(
            ErrorClass.USAGE,
            "header_not_allowed",
            f"{what} cannot be sent",
            "See what may be: copilot-cred --help",
        )
    )
