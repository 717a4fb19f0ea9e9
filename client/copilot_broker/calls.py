"""What the blocking and the asyncio client have in common: parameters, retries, failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from copilot_broker.errors import BrokerUnreachable, InternalError, Temporary, error_from
from copilot_broker.wire.address import START_HINT, NoBroker, socket_path


if TYPE_CHECKING:
    import os

    from copilot_broker.wire.connection import ResponseReceived
    from copilot_broker.wire.errors import ProtocolError


__all__ = [
    "DEFAULT_TIMEOUT",
    "RECV_SIZE",
    "TRIES",
    "ConnectionLost",
    "address",
    "busy",
    "hello_params",
    "may_repeat",
    "no_broker",
    "protocol_broken",
    "result_of",
    "stream_result_of",
    "timed_out",
    "token_params",
    "without_none",
]

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds for one call, connecting included. The broker itself gives up waiting after four."""

RECV_SIZE: Final = 64 * 1024
"""Bytes read at once: several answers, a quarter of a stream's window."""

TRIES: Final = 3
"""How often a call that may be repeated is sent when a restarting broker hangs up."""

_REPEATABLE: Final = frozenset({"account.list", "broker.hello", "broker.status", "token.get"})
"""Methods that change nothing: asking twice is asking once."""

_LOG_HINT: Final = "Look at: systemctl --user status copilot-broker"


class ConnectionLost(BrokerUnreachable):
    """The broker hung up before it answered."""

    def __init__(self) -> None:
        super().__init__("connection_lost", "the broker hung up before it answered", START_HINT)

    def __reduce__(self) -> tuple[object, ...]:
        """Let it travel between processes."""
        return type(self), ()


def address(path: str | os.PathLike[str] | None) -> str:
    """Return the socket's path. Raises BrokerUnreachable where there is no runtime directory."""
    try:
        return socket_path() if path is None else str(path)
    except NoBroker as found:
        raise no_broker(found) from None


def no_broker(found: NoBroker) -> BrokerUnreachable:
    """Say that nobody to be trusted listens."""
    return BrokerUnreachable(found.code, found.message, found.hint)


def busy() -> Temporary:
    """Say that the listener's queue stayed full."""
    return Temporary("busy", "the broker accepts no connection", _LOG_HINT, retry_after=1.0)


def timed_out(timeout: float) -> Temporary:
    """Say that there was no answer in time."""
    message = f"the broker did not answer within {timeout:g} s"
    return Temporary("timeout", message, _LOG_HINT, retry_after=1.0)


def protocol_broken(error: ProtocolError) -> InternalError:
    """Say that what answers speaks something else."""
    return InternalError(error.code, error.message, _LOG_HINT)


def may_repeat(method: str, error: BaseException, tries: int) -> bool:
    """Whether to ask again: the broker is going away, and the method changes nothing."""
    leaving = isinstance(error, ConnectionLost) or (
        isinstance(error, Temporary) and error.code == "shutting_down"
    )
    return leaving and method in _REPEATABLE and tries < TRIES


def result_of(response: ResponseReceived) -> Any:
    """Return the result or raise the exception of the error's class."""
    if response.error is not None:
        raise error_from(response.error)
    return response.result


def stream_result_of(method: str, response: ResponseReceived) -> dict[str, Any]:
    """As `result_of`, for a method that streams."""
    result = result_of(response)
    if not isinstance(result, dict) or not isinstance(result.get("stream"), int):
        raise InternalError("bad_answer", f"{method} does not stream")
    return result


def hello_params(name: str | None) -> dict[str, Any]:
    """Parameters of `broker.hello`."""
    return without_none(protocol=1, client=name)


def token_params(min_valid: float, account: str | None, reject: str | None) -> dict[str, Any]:
    """Parameters of `token.get`."""
    return without_none(min_valid=float(min_valid), account=account, reject=reject)


def without_none(**params: Any) -> dict[str, Any]:
    """Leave out what was not given."""
    return {key: value for key, value in params.items() if value is not None}
