"""What the rest of the door sees of HTTP: a request, an answer, and where answers go.

The library that parses is in `parser` alone. Names of headers are lower-case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.gate import Caller


__all__ = ["Handler", "Head", "Outlet", "Reply", "Request", "Work"]


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a request says; often one object for many that say the same."""

    method: str
    path: str
    """Without the query; percent-encoding as it came."""
    query: str
    headers: Mapping[str, str] = field(repr=False)
    """Of one that was sent several times, the values joined by ", " (RFC 9110 §5.3). Without
    `content-length`: how long the body is, the body says."""
    has_body: bool = False
    """Whether it announces one, an empty one too."""
    version: str = "1.1"
    """Of HTTP: 1.0 needs no Host."""
    notes: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What readers have concluded from this head and from nothing that may change: made once."""


class Request(NamedTuple):
    """One request, whole."""

    head: Head
    body: bytes

    def __repr__(self) -> str:
        """Show no prompt."""
        return f"Request({self.head!r}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Without framing (content-length, connection…): that is the session's."""
    body: bytes = field(default=b"", repr=False)


class Outlet(Protocol):
    """Where the answer to one request goes; the session's half.

    One answer: `reply`, or `start` and then `end` or `cut`. Nothing happens once the client has
    hung up.
    """

    def reply(self, reply: Reply) -> None:
        """Answer, whole."""
        ...

    def start(self, status: int, headers: Mapping[str, str], length: int | None = None) -> None:
        """Begin an answer; `length` in bytes, None: as long as it takes (chunked)."""
        ...

    def send(self, chunk: bytes) -> bool:
        """Send more of it, never empty. False: it was taken, but hold the rest until `go_on`."""
        ...

    def end(self) -> None:
        """End it: it is whole."""
        ...

    def cut(self) -> None:
        """Close after what was written, without an end: whoever reads knows it is not whole."""
        ...


class Work(Protocol):
    """A request that is being answered; the handler's half."""

    def go_on(self) -> None:
        """Know that there is room again after `send` returned False."""
        ...

    def close(self) -> None:
        """Know that the client has hung up: cut upstream. Not called after the answer's end."""
        ...


class Handler(Protocol):
    """Answers requests."""

    def refuses(self, head: Head, caller: Caller) -> bool:
        """Whether a head alone is enough to refuse it, before its body is read: a bare 403."""
        ...

    def begin(self, request: Request, outlet: Outlet, caller: Caller) -> Work | None:
        """Begin to answer; None: it is answered already. Never raises, never blocks.

        `caller` is the connection's, admitted by the gate.
        """
        ...
