"""One connection's protocol, either side of it, without I/O and without a clock.

Three things drive it: bytes arrive (`receive_data`), our side wants something (`send_request`,
`send_result`, …), time passes (`handle_timer`). What they lead to is fetched with `next_event`
and `data_to_send`; `deadline` says when to come back. `now` is any clock's seconds.

    data = sock.recv(65536)               # b"" tells of the end
    connection.receive_data(data, now)
    while (event := connection.next_event()) is not None: ...
    sock.sendall(connection.data_to_send())

Frames are decoded no faster than events are fetched: call `next_event` until it gives None. When
the peer breaks the rules, `receive_data` or `handle_timer` raises RemoteProtocolError if nothing
is waiting to be fetched; otherwise `next_event` ends with a `ConnectionEnded` that holds it.

A stream: the server answers a request with `open_stream`; then chunks and exactly one end follow
in order. A chunk may be sent while credit is left and takes its cost from it; the receiver grants
back what it has used up. A cancelled stream ends at once, by itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from enum import Enum
from typing import Any, Final, TypeGuard

from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.errors import LocalProtocolError, RemoteProtocolError
from copilot_broker.wire.events import (
    ConnectionEnded,
    Event,
    Ignored,
    NotificationReceived,
    RequestCancel,
    RequestReceived,
    ResponseReceived,
    StreamCancel,
    StreamCredit,
    StreamData,
    StreamEnd,
)
from copilot_broker.wire.limits import LARGE_METHODS, MAX_CREDIT, MAX_NOTIFY_WRAPPER, Limits
from copilot_broker.wire.messages import (
    FORGETS,
    ErrorInfo,
    Message,
    Notification,
    Request,
    Response,
    chunk_cost,
    decode,
    encode,
    params_of,
    short_request,
    whole_msgid,
)
from copilot_broker.wire.outgoing import OutgoingStream, notification
from copilot_broker.wire.prescan import Prescan


__all__ = [
    "Connection",
    "ConnectionEnded",
    "Event",
    "Ignored",
    "NotificationReceived",
    "RequestCancel",
    "RequestReceived",
    "ResponseReceived",
    "Role",
    "StreamCancel",
    "StreamCredit",
    "StreamData",
    "StreamEnd",
]

_MSGIDS: Final = 1 << 32
_IGNORED: Final = Ignored()
_SHORT_DEPTH: Final = 4
"""How deep a `short_request` goes: message, params, map, map within."""
_LARGE: Final = frozenset(
    form
    for name in LARGE_METHODS
    for form in (bytes([0xA0 | len(name)]) + name, b"\xd9" + bytes([len(name)]) + name)
)
"""`LARGE_METHODS` as they travel: fixstr and str 8."""


class Role(Enum):
    """Which side we are; it decides what the peer may send."""

    CLIENT = "client"
    SERVER = "server"


class Connection:
    """See the module's docstring."""

    def __init__(self, role: Role, *, limits: Limits | None = None) -> None:
        self._role = role
        self._limits = limits = limits or Limits()
        self._foreign = role is Role.SERVER
        can_be_short = self._foreign and limits.depth >= _SHORT_DEPTH and not FORGETS
        self._short = min(limits.items, limits.frame) if can_be_short else 0
        if role is Role.CLIENT:  # a broker's answers carry whole completions
            limits = replace(limits, frame=limits.large_frame, items=limits.items * 4)
        self._prescan = Prescan(limits, _is_large)
        self._incoming = bytearray()
        self._outgoing: list[bytes] = []
        self.unsent = 0
        """Bytes that `data_to_send` would return."""
        self._events: deque[Event] = deque()
        self._frame_started: float | None = None
        self._now = 0.0
        self._eof = False
        self._ended = False
        self._unanswered: set[int] = set()
        self._last_msgid = -1
        self._last_stream = 0
        self._incoming_streams: dict[int, int] = {}  # client: the next seq
        self._streams: dict[int, OutgoingStream] = {}  # server
        self._text_errors = False
        self._wrapper: tuple[str, list[str]] | None = None

    # -- what the peer does -----------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; `b""` when it will send no more.

        Raises RemoteProtocolError; the connection is closed then.
        """
        if self._ended or self._eof:
            return
        self._now = now
        if not data:
            self._eof = True
        elif len(data) <= self._short and self._is_short(data):
            return
        else:
            self._incoming += data
        if (error := self._decode_some()) is not None:
            self._fail(error)

    def _is_short(self, data: bytes) -> bool:
        """Take `data` at once if it is one request as most are; else nothing has happened."""
        if self._incoming or self._events:
            return False
        found = short_request(data)
        if found is None or found[0] in self._unanswered:
            return False
        self._unanswered.add(found[0])
        self._events.append(RequestReceived(*found))
        return True

    def next_event(self) -> Event | None:
        """Return what happened next, None when that takes more bytes."""
        if not self._events and (error := self._decode_some()) is not None:
            self._end(error)
        return self._events.popleft() if self._events else None

    def deadline(self) -> float | None:
        """When the frame that has begun must be complete; None between frames."""
        if self._frame_started is None or self._ended:
            return None
        return self._frame_started + self._limits.frame_timeout

    def handle_timer(self, now: float) -> None:
        """Tell the time. Raises RemoteProtocolError `frame_timeout` once the deadline has come."""
        at = self.deadline()
        if at is not None and now >= at:
            self._fail(RemoteProtocolError("frame_timeout", "a message came too slowly"))

    @property
    def requests_in_flight(self) -> int:
        """Requests without an answer: theirs for a server, ours for a client."""
        return len(self._unanswered)

    @property
    def buffered(self) -> int:
        """Bytes held for this connection in both directions."""
        return len(self._incoming) + self.unsent

    @property
    def missing(self) -> int:
        """Bytes that the message which has begun lacks, as far as its headers tell."""
        return self._prescan.missing(self._incoming)

    @property
    def is_quiet(self) -> bool:
        """Nothing is half received, waits to be fetched, or waits for an answer."""
        return not (
            self._incoming or self._events or self._unanswered or self._outgoing or self._eof
        )

    @property
    def open_streams(self) -> frozenset[int]:
        """Streams that have begun and not ended."""
        return frozenset(self._streams) | frozenset(self._incoming_streams)

    # -- what we do ---------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """Return what has to be written now; nothing is returned twice."""
        parts = self._outgoing
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.unsent = 0
        return data

    def send_request(self, method: str, params: dict[str, Any]) -> int:
        """Ask (client). The result is the msgid that the answer will bear."""
        self._must_be(Role.CLIENT)
        msgid = (self._last_msgid + 1) % _MSGIDS
        while msgid in self._unanswered:
            msgid = (msgid + 1) % _MSGIDS
        self._send(Request(msgid, method, [params]))
        self._last_msgid = msgid
        self._unanswered.add(msgid)
        return msgid

    def grant_credit(self, stream: int, nbytes: int) -> None:
        """Let the server send so many bytes more (client); nothing for an ended stream."""
        self._must_be(Role.CLIENT)
        if stream in self._incoming_streams and nbytes > 0:
            self._send(Notification("stream.credit", [{"stream": stream, "bytes": nbytes}]))

    def cancel_stream(self, stream: int) -> None:
        """Stop a stream (client); its end still arrives. Nothing for an ended stream."""
        self._must_be(Role.CLIENT)
        if stream in self._incoming_streams:
            self._send(Notification("stream.cancel", [{"stream": stream}]))

    def cancel_request(self, msgid: int) -> None:
        """Want no answer any more (client); one still arrives. Nothing for an answered request."""
        self._must_be(Role.CLIENT)
        if msgid in self._unanswered:
            self._send(Notification("request.cancel", [{"msgid": msgid}]))

    def send_result(
        self, msgid: int, result: dict[str, Any], refusal: ErrorInfo | None = None
    ) -> None:
        """Answer (server). Raises LocalProtocolError when there is no such request.

        `refusal` is what an upstream answer in it means; it is told in the form of errors.
        """
        self._answer(Response(msgid, None, self._with_refusal(result, refusal)))

    def send_error(self, msgid: int, error: ErrorInfo) -> None:
        """Refuse (server), as a map or, when the hello asked for it, as one string."""
        self._answer(Response(msgid, self._error_form(error), None))

    def open_stream(
        self,
        msgid: int,
        status: int = 0,
        headers: dict[str, Any] | None = None,
        refusal: ErrorInfo | None = None,
        **more: object,
    ) -> int:
        """Answer with a stream (server); returns its id, which is never used again.

        `refusal` is what a status that is none of success means; `more` are further keys.
        """
        stream = self._last_stream + 1
        result = {"stream": stream, "status": status, "headers": headers or {}, **more}
        self._answer(Response(msgid, None, self._with_refusal(result, refusal)))
        self._last_stream = stream
        if not self._ended:
            window = self._limits.stream_window
            self._streams[stream] = OutgoingStream(stream, window, self._wrapper)
        return stream

    def stream_credit(self, stream: int) -> int:
        """Bytes that may be sent now (server); 0 for a stream that has ended."""
        found = self._streams.get(stream)
        return 0 if found is None else max(0, found.credit)

    def outgoing_stream(self, stream: int) -> OutgoingStream:
        """Return an open stream itself (server), for whoever sends chunk after chunk.

        Its messages may be written past this connection while `unsent` is 0.
        """
        return self._streams[stream]

    def send_stream_data(self, stream: int, chunk: object) -> bool:
        """Send one chunk (server): bytes, or a map for progress.

        A chunk may be sent while any credit is left; what it costs beyond that is owed. Returns
        False when the stream has ended (cancelled) and nothing was sent.
        Raises LocalProtocolError `no_credit`.
        """
        found = self._streams.get(stream)
        if found is None:
            self._must_be(Role.SERVER)
            return False
        if found.credit <= 0:
            raise LocalProtocolError("no_credit", "wait for credit before sending more")
        if type(chunk) is bytes:
            self._emit(found.data(chunk))
            return True
        self._notify("stream.data", {"stream": stream, "seq": found.seq, "chunk": chunk})
        found.seq += 1
        found.credit -= chunk_cost(chunk)
        return True

    def end_stream(
        self, stream: int, error: ErrorInfo | None = None, refusal: ErrorInfo | None = None
    ) -> None:
        """End a stream (server); nothing for one that has ended.

        `error` is why it ends early, `refusal` what upstream's own error among the chunks means.
        """
        self._must_be(Role.SERVER)
        if stream not in self._streams:
            return
        end: dict[str, Any] = {"stream": stream}
        if error is not None:
            end["error"] = self._error_form(error)
        self._notify("stream.end", self._with_refusal(end, refusal))
        self._streams.pop(stream).credit = 0

    def apply_hello(self, params: dict[str, Any]) -> None:
        """Remember how this caller wants errors and notifications (server).

        Raises RemoteProtocolError `bad_hello`; nothing has changed then, the connection goes on.
        """
        self._must_be(Role.SERVER)
        wrapper = _wrapper_of(params.get("notify"))
        self._text_errors = params.get("errors") == "text"
        self._wrapper = wrapper
        for stream in self._streams.values():
            stream.wrap(wrapper)

    def discard(self) -> None:
        """Be over, at once and in silence: nothing is held, sent or told from now on."""
        self._end(None)
        self._events.clear()
        self._outgoing.clear()
        self.unsent = 0

    # -- inside -------------------------------------------------------------------------------

    def _must_be(self, role: Role) -> None:
        if self._role is not role:
            raise LocalProtocolError("wrong_role", f"only a {role.value} does this")

    def _send(self, message: Message) -> None:
        self._emit(encode(message))

    def _emit(self, data: bytes) -> None:
        if not self._ended:
            self._outgoing.append(data)
            self.unsent += len(data)

    def _answer(self, response: Response) -> None:
        self._must_be(Role.SERVER)
        if response.msgid not in self._unanswered:
            if self._ended:
                return
            raise LocalProtocolError("no_such_request", f"nothing to answer: {response.msgid}")
        self._send(response)
        self._unanswered.discard(response.msgid)

    def _notify(self, method: str, params: dict[str, Any]) -> None:
        self._send(notification(method, params, self._wrapper))

    def _error_form(self, error: ErrorInfo) -> object:
        return str(error) if self._text_errors else error.to_map()

    def _with_refusal(self, found: dict[str, Any], refusal: ErrorInfo | None) -> dict[str, Any]:
        return found if refusal is None else {**found, "refusal": self._error_form(refusal)}

    def _end(self, error: RemoteProtocolError | None) -> None:
        if not self._ended:
            self._ended = True
            self._incoming.clear()
            self._frame_started = None
            for stream in self._streams.values():
                stream.credit = 0
            self._streams.clear()
            self._incoming_streams.clear()
            self._unanswered.clear()
            self._events.append(ConnectionEnded(error))

    def _fail(self, error: RemoteProtocolError) -> None:
        """Raise it now, or let it come after the events that were received before it."""
        before = len(self._events)
        self._end(error)
        if not before:
            raise error

    def _decode_some(self) -> RemoteProtocolError | None:
        """Decode frames until enough events wait; returns the fault that ends it all."""
        try:
            while not self._ended and len(self._events) < self._limits.queued_events:
                incoming = self._incoming
                end = self._prescan.find_end(incoming) if incoming else None
                if end is None:
                    return self._wait_for_more()
                self._frame_started = None
                self._take(self._cut_off(end))
        except RemoteProtocolError as error:
            if error.code == "frame_too_large":
                self._refuse_large(error)
            return error
        return None

    def _cut_off(self, end: int) -> Message:
        """Decode the first message in the buffer, without another copy of a prompt."""
        incoming = self._incoming
        if end == len(incoming):
            message = decode(incoming, foreign=self._foreign)
            incoming.clear()
            return message
        with memoryview(incoming) as whole, whole[:end] as frame:
            message = decode(frame, foreign=self._foreign)
        del incoming[:end]
        return message

    def _refuse_large(self, error: RemoteProtocolError) -> None:
        """Tell whoever sends too long a prompt why; the connection ends after it."""
        found = self._prescan.large_msgid(self._incoming)
        msgid = None if found is None else whole_msgid(found)
        if self._role is Role.SERVER and msgid is not None and msgid not in self._unanswered:
            hint = "Send less; see client/PROTOCOL.md"
            refusal = ErrorInfo(ErrorClass.USAGE, error.code, error.message, hint)
            self._send(Response(msgid, self._error_form(refusal), None))

    def _wait_for_more(self) -> RemoteProtocolError | None:
        if self._eof and self._incoming:
            return RemoteProtocolError("cut_off", "the connection ended inside a message")
        if self._eof:
            self._end(None)
        elif self._incoming and self._frame_started is None:
            self._frame_started = self._now
        return None

    def _take(self, message: Message) -> None:
        match message:
            case Request() if self._role is Role.SERVER:
                self._take_request(message)
            case Response() if self._role is Role.CLIENT:
                self._take_response(message)
            case Notification(method, params):
                found = params_of(params)
                # One of a shape we do not know is ignored, like an unknown name.
                if self._role is Role.SERVER:
                    wish = None if found is None else self._take_wish(method, found)
                    self._events.append(wish or _IGNORED)
                elif found is not None:
                    self._take_news(method, found)
            case _:
                raise RemoteProtocolError("wrong_direction", "this side never sends that")

    def _take_request(self, request: Request) -> None:
        if request.msgid in self._unanswered:
            raise RemoteProtocolError("msgid_in_use", "a msgid was used again before its answer")
        self._unanswered.add(request.msgid)
        params = params_of(request.params)
        if params is None:
            message = "params must be an array that holds one map"
            hint = "See PROTOCOL.md, 'Messages'"
            self.send_error(
                request.msgid, ErrorInfo(ErrorClass.USAGE, "bad_params", message, hint)
            )
            self._events.append(_IGNORED)
            return
        self._events.append(RequestReceived(request.msgid, request.method, params))

    def _take_response(self, response: Response) -> None:
        if response.msgid not in self._unanswered:
            raise RemoteProtocolError("unknown_msgid", "an answer to what was not asked")
        self._unanswered.discard(response.msgid)
        error = _info(response.error)
        if error is None and isinstance(response.result, dict):
            stream = response.result.get("stream")
            if _is_count(stream):
                self._incoming_streams[stream] = 0
        self._events.append(ResponseReceived(response.msgid, response.result, error))

    def _take_wish(self, method: str, params: dict[str, Any]) -> Event | None:
        if method == "request.cancel":
            msgid = params.get("msgid")
            return RequestCancel(msgid) if _is_count(msgid) and msgid in self._unanswered else None
        stream = params.get("stream")
        found = self._streams.get(stream) if _is_count(stream) else None
        if found is None:
            return None  # an unknown notification, or a wish that crossed with the stream's end
        granted = params.get("bytes")
        if method == "stream.credit" and _is_count(granted):
            found.credit = min(found.credit + granted, MAX_CREDIT)
            return StreamCredit(found.stream, granted)
        if method == "stream.cancel":
            self.end_stream(found.stream)
            return StreamCancel(found.stream)
        return None

    def _take_news(self, method: str, params: dict[str, Any]) -> None:
        stream = params.get("stream")
        if method not in {"stream.data", "stream.end"}:
            self._events.append(NotificationReceived(method, params))
        elif not _is_count(stream) or stream not in self._incoming_streams:
            raise RemoteProtocolError("unknown_stream", "news of a stream that is not open")
        elif method == "stream.end":
            del self._incoming_streams[stream]
            error, refusal = _info(params.get("error")), _info(params.get("refusal"))
            self._events.append(StreamEnd(stream, error, refusal))
        else:
            seq, chunk = params.get("seq"), params.get("chunk")
            if not _is_count(seq) or seq != self._incoming_streams[stream]:
                raise RemoteProtocolError("lost_chunk", "a stream's chunks are out of order")
            self._incoming_streams[stream] = seq + 1
            self._events.append(StreamData(stream, seq, chunk, chunk_cost(chunk)))


def _info(error: object) -> ErrorInfo | None:
    return None if error is None else ErrorInfo.from_wire(error)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_large(method: bytes) -> bool:
    """Whether an encoded method is one of those whose requests may be long."""
    return method in _LARGE


def _wrapper_of(notify: object) -> tuple[str, list[str]] | None:
    match notify:
        case None:
            return None
        case [str(name), list(arguments)] if all(isinstance(part, str) for part in arguments):
            if len(name) + sum(map(len, arguments)) <= MAX_NOTIFY_WRAPPER:
                return name, arguments
    message = f"`notify` is [name, [strings…]] of at most {MAX_NOTIFY_WRAPPER} characters"
    raise RemoteProtocolError("bad_hello", message)
