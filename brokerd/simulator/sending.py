"""Lays an answer on the wire to the byte: framing, pace, and where it breaks off.

aiohttp reads the requests; these answers go past its writer, so that a test can say which bytes
go in which chunk and which write, and be told afterwards what was sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from brokerd.simulator.records import keep_answer


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from brokerd.simulator.connections import Connection
    from brokerd.simulator.faults import Fault
    from brokerd.simulator.records import RecordedRequest


__all__ = ["Outgoing", "Sent", "in_pieces", "send"]

# Statuses whose answers have no body (RFC 9110 §6.4.1).
BODILESS = (204, 304)
ENDLESS_HEAD_PAUSE = 0.01


@dataclass(frozen=True)
class Outgoing:
    """An answer as it is meant to go out."""

    status: int
    headers: Mapping[str, str | None]
    """None as value: not even if it belongs there."""
    writes: Sequence[bytes]
    """The body; each is one write, and one chunk where the framing is chunked."""
    framing: str = "length"
    """`chunked`, `length` or `close`."""
    first_delay: float = 0
    interval: float = 0
    in_one: bool = False
    """Head and body in one single write."""
    tcp_split: int | None = None
    usage: Mapping[str, int] | None = None
    """The tokens that it tells at its end."""
    fault: Fault | None = field(default=None, repr=False)
    """For its cuts only."""


class Sent(web.StreamResponse):
    """What aiohttp gets to see: an answer that is over already."""

    def __init__(self, status: int, *, reusable: bool) -> None:
        super().__init__(status=status)
        self._reusable = reusable

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection may carry a further request."""
        return self._reusable

    async def prepare(self, request: web.BaseRequest) -> None:
        """Do nothing: the head has been sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the body has been sent."""


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Cut after every `size` bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


async def send(
    request: web.Request, recorded: RecordedRequest, connection: Connection, answer: Outgoing
) -> Sent:
    """Send all of it, or as much as the fault and the client let us."""
    recorded.status = answer.status
    framing = "none" if answer.status in BODILESS else answer.framing
    reusable = bool(request.keep_alive) and framing != "close"
    headers = _with_framing(answer, framing, reusable=reusable)
    recorded.request_id = headers.get("x-request-id")
    keep_answer(recorded, headers, answer.writes)
    head = _head(answer.status, headers)
    wire = _Wire(request, recorded, connection, answer.tcp_split)
    fault = answer.fault
    if fault is not None and fault.endless_head:
        await _endless(wire, head, fault.drip or ENDLESS_HEAD_PAUSE)
    elif not connection.gone:
        await _body(wire, head, answer, framing)
    wire.end()
    if recorded.finished and answer.usage is not None:
        recorded.usage = dict(answer.usage)
    broken = not recorded.finished or framing == "close"
    if fault is not None and not recorded.finished and not recorded.cancelled:
        await connection.drop(hard=fault.hard)
    return Sent(answer.status, reusable=reusable and not broken)


async def _body(wire: _Wire, head: bytes, answer: Outgoing, framing: str) -> None:
    """Write head and body, write by write, each in its time."""
    steps, whole = _steps(answer, framing)
    if answer.in_one and whole:
        pieces = list(steps)
        framed = b"".join(each for each, _ in pieces)
        await wire.write(head + framed, b"".join(payload for _, payload in pieces))
        wire.recorded.finished = not wire.connection.gone
        return
    await wire.write(head, b"")
    await wire.connection.pause(answer.first_delay)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number, (framed, payload) in enumerate(steps):
        if number and payload:
            due += answer.interval
            await wire.connection.pause(due - loop.time())
        if wire.connection.gone:
            return
        await wire.write(framed, payload)
    wire.recorded.finished = whole and not wire.connection.gone


def _steps(answer: Outgoing, framing: str) -> tuple[Iterator[tuple[bytes, bytes]], bool]:
    """Give (bytes for the wire, bytes of the body) for each write, and whether that is all."""
    writes = list(answer.writes) if framing != "none" else []
    fault = answer.fault
    limit = sum(map(len, writes))
    cut = fault is not None and (fault.cut_after is not None or fault.cut_after_writes is not None)
    if fault is not None and fault.cut_after is not None:
        limit = min(limit, fault.cut_after)
    if fault is not None and fault.cut_after_writes is not None:
        limit = min(limit, sum(map(len, writes[: fault.cut_after_writes])))
    return _framed(writes, limit, chunked=framing == "chunked", ended=not cut), not cut


def _framed(
    writes: list[bytes], limit: int, *, chunked: bool, ended: bool
) -> Iterator[tuple[bytes, bytes]]:
    for each in writes:
        if limit <= 0:
            break
        part = each[:limit]
        limit -= len(part)
        if not chunked:
            yield part, part
        elif len(part) == len(each):
            yield b"%x\r\n%b\r\n" % (len(each), each), each
        else:
            yield b"%x\r\n%b" % (len(each), part), part
    if chunked and ended:
        yield b"0\r\n\r\n", b""


async def _endless(wire: _Wire, head: bytes, pause: float) -> None:
    """Begin a head and never end it."""
    await wire.write(head.removesuffix(b"\r\n"), b"")
    number = 0
    while not wire.connection.gone:
        await wire.connection.pause(pause)
        number += 1
        await wire.write(b"x-endless-%d: %b\r\n" % (number, b"." * 40), b"")


class _Wire:
    """Writes, and keeps the account of what was written."""

    def __init__(
        self,
        request: web.Request,
        recorded: RecordedRequest,
        connection: Connection,
        split: int | None,
    ) -> None:
        self.recorded = recorded
        self.connection = connection
        self._request = request
        self._split = split
        self._hash = hashlib.sha256()

    async def write(self, data: bytes, payload: bytes) -> None:
        """Write `data`, which carries `payload` of the body."""
        connection = self.connection
        if connection.gone:
            return
        self.recorded.sent += len(payload)
        self._hash.update(payload)
        if self._split is None:
            connection.transport.write(data)
        else:
            for piece in in_pieces(data, self._split):
                connection.transport.write(piece)
                await asyncio.sleep(0)
        await connection.drain(self._request)

    def end(self) -> None:
        """Close the account."""
        self.recorded.sent_sha256 = self._hash.hexdigest()
        self.recorded.cancelled = self.connection.gone and not self.recorded.finished


def _with_framing(answer: Outgoing, framing: str, *, reusable: bool) -> dict[str, str]:
    headers = dict(answer.headers)
    names = {name.lower() for name in headers}
    if framing == "length" and "content-length" not in names:
        headers["Content-Length"] = str(sum(map(len, answer.writes)))
    if framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    if not reusable and "connection" not in names:
        headers["Connection"] = "close"
    return {name: value for name, value in headers.items() if value is not None}


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # 466 and 499 are in nobody's list
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {headers[name]}" for name in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
