"""One answer that goes wrong: what tests queue for a path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


__all__ = ["Fault"]


@dataclass(frozen=True)
class Fault:
    """One answer to give instead of, or on the way to, the true one.

    Without a `status` the true answer is given; `delay`, `headers`, `early`, the cuts and the
    changes to the body apply to it all the same.
    """

    status: int | None = None
    """None = the true answer."""
    headers: dict[str, str | None] = field(default_factory=dict)
    """None as value takes a header away."""
    body: Any = ""
    """A string goes out as it is, anything else as JSON."""
    delay: float = 0
    """Seconds before the head."""
    reset: bool = False
    """Drop the connection instead of answering."""
    drip: float = 0
    """Seconds between the bytes of the body (of an endless head: between its lines)."""
    framing: str = "length"
    """`length`, `chunked` or `close`; the true answer has its own."""
    early: bool = False
    """Answer without waiting for the request's body."""
    endless_head: bool = False
    """One header line after the other, until the client leaves."""
    cut_after: int | None = None
    """Drop the connection after so many bytes of the body. 0 = after the head; a number inside a
    chunk cuts that chunk."""
    cut_after_writes: int | None = None
    """Drop it after so many writes, each a whole chunk."""
    truncate: int | None = None
    """Only so many bytes of the body, framed as if they were all."""
    replace_body: Any = None
    """Another body under the true answer's status and headers; a string as it is, or JSON."""
    json_patch: dict[str, Any] = field(default_factory=dict)
    """Fields to set in the true answer's JSON: `{"expires_at": "soon", "endpoints.api": 7}`."""
    hard: bool = False
    """Drop with RST instead of FIN."""
