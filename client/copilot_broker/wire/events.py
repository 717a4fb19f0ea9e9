"""What happened on a connection: the values that `Connection.next_event` gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from copilot_broker.wire.errors import RemoteProtocolError
    from copilot_broker.wire.messages import ErrorInfo


__all__ = [
    "ConnectionEnded",
    "Event",
    "Ignored",
    "NotificationReceived",
    "RequestCancel",
    "RequestReceived",
    "ResponseReceived",
    "StreamCancel",
    "StreamCredit",
    "StreamData",
    "StreamEnd",
]


@dataclass(frozen=True)
class RequestReceived:
    """Server: answer it with `send_result`, `send_error` or `open_stream`."""

    msgid: int
    method: str
    params: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class RequestCancel:
    """Server: nobody waits for this answer any more; it is given all the same, as an error."""

    msgid: int


@dataclass(frozen=True)
class Ignored:
    """Server: a message that leads to nothing, or is answered already.

    It is told so that a turn of bounded events is one of bounded work, whatever the peer sends.
    """


@dataclass(frozen=True)
class ResponseReceived:
    """Client: the answer to `send_request`; `error` is None when it worked."""

    msgid: int
    result: Any = field(repr=False)
    error: ErrorInfo | None


@dataclass(frozen=True)
class NotificationReceived:
    """Client: a notification that is not about a stream."""

    method: str
    params: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class StreamData:
    """Client: the next chunk; give its `cost` back with `grant_credit` when it is used up."""

    stream: int
    seq: int
    chunk: Any = field(repr=False)
    cost: int = 0


@dataclass(frozen=True)
class StreamEnd:
    """Client: nothing follows; both are None when all went well."""

    stream: int
    error: ErrorInfo | None
    """Why it ended early, as the broker says it."""
    refusal: ErrorInfo | None = None
    """What upstream's own error among the chunks means."""


@dataclass(frozen=True)
class StreamCredit:
    """Server: so many bytes more may be sent (already added to `stream_credit`)."""

    stream: int
    bytes: int


@dataclass(frozen=True)
class StreamCancel:
    """Server: nobody listens any more; the stream has been ended."""

    stream: int


@dataclass(frozen=True)
class ConnectionEnded:
    """The last event: the peer has gone (`error` None) or broke the rules."""

    error: RemoteProtocolError | None = None


Event = (
    RequestReceived
    | RequestCancel
    | Ignored
    | ResponseReceived
    | NotificationReceived
    | StreamData
    | StreamEnd
    | StreamCredit
    | StreamCancel
    | ConnectionEnded
)
