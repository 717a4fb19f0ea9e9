"""What every request passes: it is recorded, and a fault may be waiting for it."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import http_exceptions, web

from brokerd.simulator import answers, copilot, places
from brokerd.simulator.control import PREFIX
from brokerd.simulator.editing import edited
from brokerd.simulator.parameters import place_asked
from brokerd.simulator.records import keep_answer, keep_body, record
from brokerd.simulator.sending import Outgoing, Sent, in_pieces, send


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.simulator.connections import Connection, Connections
    from brokerd.simulator.faults import Fault
    from brokerd.simulator.memory import Visit
    from brokerd.simulator.records import RecordedRequest
    from brokerd.simulator.world import World

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["Front"]

BROKEN_BODY = (
    aiohttp.ClientError,
    http_exceptions.HttpProcessingError,
    web.RequestPayloadError,
    OSError,
)


class Front:
    """The one middleware."""

    def __init__(self, world: World, connections: Connections) -> None:
        self.world = world
        self.connections = connections

    def middleware(self) -> Any:
        """Give what aiohttp wants."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith(PREFIX):
                return await handler(request)
            connection = self.connections.of(request)
            if connection is None:  # lost before its request was looked at
                return Sent(499, reusable=False)
            keep = self.world.copilot.may_keep()
            recorded = record(request, connection.number, self.world.clock, keep=keep)
            self.world.requests.append(recorded)
            answer = await self._answer(request, handler, recorded, connection)
            recorded.status = recorded.status or answer.status
            if keep and isinstance(answer, web.Response):
                keep_body(recorded, await request.read())
                payload = answer.body if isinstance(answer.body, bytes) else b""
                keep_answer(recorded, answer.headers, [payload])
            return answer

        return middleware

    async def _answer(
        self,
        request: web.Request,
        handler: Handler,
        recorded: RecordedRequest,
        connection: Connection,
    ) -> web.StreamResponse:
        fault = self.world.take_fault(request.path)
        early = fault is not None and fault.early and fault.status is not None
        if early or not copilot.completes(request):
            return await self._answered(request, handler, recorded, connection, fault=fault)
        body = await _read_body(request, recorded)
        if body is None:
            recorded.cancelled = True
            return Sent(499, reusable=False)
        keep_body(recorded, body)
        with copilot.visit(self.world, request, recorded, body) as visit:
            asked = (body, visit)
            return await self._answered(
                request, handler, recorded, connection, fault=fault, asked=asked
            )

    async def _answered(
        self,
        request: web.Request,
        handler: Handler,
        recorded: RecordedRequest,
        connection: Connection,
        *,
        fault: Fault | None,
        asked: tuple[bytes, Visit] | None = None,
    ) -> web.StreamResponse:
        """Give the answer; `asked` is what came to be completed."""
        if fault is not None:
            await connection.pause(fault.delay)
            if fault.reset:
                await connection.drop(hard=fault.hard)
                return Sent(499, reusable=False)
            if fault.status is not None:
                faulty = _faulty(fault, self._usual_headers(request))
                if asked is not None:
                    asked[1].told(faulty)
                return await send(request, recorded, connection, faulty)
        served = places.serves(place_asked(request), request.path)
        if asked is not None and served and request.headers.get("User-Agent"):
            body, visit = asked
            usual = self._usual_headers(request)
            outgoing = copilot.answer_completion(self.world, request, body, usual, visit)
            outgoing = _touched(outgoing, fault)
            await connection.pause(self.world.settings.chat_head_delay)
            visit.told(outgoing)
            return await send(request, recorded, connection, outgoing)
        answer = await self._true_answer(request, handler)
        usual = self._usual_headers(request)
        if fault is not None and isinstance(answer, web.Response):
            kept = {**dict(answer.headers), **usual}
            payload = answer.body if isinstance(answer.body, bytes) else b""
            outgoing = Outgoing(answer.status, kept, [payload])
            return await send(request, recorded, connection, _touched(outgoing, fault))
        answer.headers.update(usual)
        recorded.request_id = usual.get("x-request-id")
        return answer

    @staticmethod
    async def _true_answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.headers.get("User-Agent"):
            return answers.no_user_agent()
        if not places.serves(place_asked(request), request.path):
            return answers.refused(404, "Not Found")
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return answers.refused(404, "Not Found")

    def _usual_headers(self, request: web.Request) -> dict[str, str]:
        headers = {
            "Date": formatdate(self.world.wall(), usegmt=True),
            "x-github-request-id": uuid.uuid4().hex.upper(),
            "Cache-Control": "no-store",
        }
        if not places.is_github(request.path):
            headers["x-request-id"] = copilot.wanted_id(request)
        return headers


async def _read_body(request: web.Request, recorded: RecordedRequest) -> bytes | None:
    """Read it as it comes, so that a body cut short is on record too; None = it was."""
    pieces = []
    recorded.body_length = 0
    try:
        async for piece in request.content.iter_any():
            pieces.append(piece)
            recorded.body_length += len(piece)
    except BROKEN_BODY:
        recorded.body_complete = False
        return None
    body = b"".join(pieces)
    recorded.body_complete = True
    recorded.body_sha256 = hashlib.sha256(body).hexdigest()
    return body


def _faulty(fault: Fault, usual: dict[str, str]) -> Outgoing:
    if isinstance(fault.body, str):
        payload = fault.body.encode()
        kind = "text/plain; charset=utf-8"
    else:
        payload = json.dumps(fault.body).encode()
        kind = "application/json"
    outgoing = Outgoing(
        fault.status or 200,
        {**usual, "Content-Type": kind},
        in_pieces(payload, 1) if fault.drip else [payload],
        fault.framing,
        interval=fault.drip,
    )
    return _touched(outgoing, fault)


def _touched(outgoing: Outgoing, fault: Fault | None) -> Outgoing:
    """Lay a fault's headers over an answer's, and do to its body what is asked."""
    if fault is None:
        return outgoing
    headers = dict(outgoing.headers)
    for name, value in fault.headers.items():
        headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()}
        headers[name] = value
    writes = edited(outgoing.writes, fault)
    return replace(outgoing, headers=headers, writes=writes, fault=fault)
