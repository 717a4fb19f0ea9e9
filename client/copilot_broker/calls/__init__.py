"""What the blocking and the asyncio client have in common: parameters, retries, failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from copilot_broker.errors import (
    BrokerUnreachable,
    InternalError,
    Temporary,
    UsageError,
    error_from,
)
from copilot_broker.wire.address import START_HINT, NoBroker, socket_path
from copilot_broker.wire.limits import STREAM_WINDOW


if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from copilot_broker.wire.connection import ResponseReceived
    from copilot_broker.wire.errors import ProtocolError


__all__ = [
    "DEFAULT_TIMEOUT",
    "FIRST_BYTE_TIMEOUT",
    "JSON_TIMEOUT",
    "LAST_WORD_TIMEOUT",
    "RECV_SIZE",
    "TRIES",
    "UNLOCK_TIMEOUT",
    "ConnectionLost",
    "Credit",
    "Patience",
    "address",
    "busy",
    "checked_stream",
    "completion_params",
    "foreign_stream",
    "hello_params",
    "key_params",
    "map_of",
    "maps_of",
    "may_repeat",
    "named_text",
    "no_broker",
    "protocol_broken",
    "result_of",
    "timed_out",
    "token_params",
    "usage_params",
    "without_none",
]

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds for one call, connecting included. The broker itself gives up waiting after four."""

FIRST_BYTE_TIMEOUT: Final = 120.0
"""Seconds until a streamed completion begins, unless told otherwise: models think first."""

JSON_TIMEOUT: Final = 600.0
"""Seconds until a completion is there as a whole, unless told otherwise."""

UNLOCK_TIMEOUT: Final = 15.0
"""Seconds for an unlock: the broker lets who gives a wrong passphrase wait for up to ten."""

LAST_WORD_TIMEOUT: Final = 1.0
"""Seconds to wait for the end of a stream whose `[DONE]` has come: then upstream's connection
stays whole, and can serve the next completion. Otherwise hanging up would cut it. Likewise after
an error among the events: what it means is told at the end."""

RECV_SIZE: Final = 64 * 1024
"""Bytes read at once: several answers, a quarter of a stream's window."""

TRIES: Final = 3
"""How often a call that may be repeated is sent when a restarting broker hangs up."""

_REPEATABLE: Final = frozenset(
    {
        "account.list",
        "broker.doctor",
        "broker.hello",
        "broker.status",
        "grant.explain",
        "grant.list",
        "key.lease",
        "key.list",
        "key.mint",
        "models.list",
        "quota.get",
        "token.get",
        "usage.report",
    }
)
"""Methods that change nothing that lasts: asking twice is asking once, and a key that passes and
that nobody has heard of ends with who asked. A completion costs each time, a model's terms are
accepted once, and a second logout might meet a new login."""

_LOG_HINT: Final = "Look at: systemctl --user status copilot-broker"


class ConnectionLost(BrokerUnreachable):
    """The broker hung up before it answered."""

    def __init__(self) -> None:
        super().__init__("connection_lost", "the broker hung up before it answered", START_HINT)

    def __reduce__(self) -> tuple[object, ...]:
        """Let it travel between processes."""
        return type(self), ()


@dataclass(frozen=True)
class Patience:
    """How long to wait for what is asked on a connection of its own, in seconds."""

    broker: float
    """Until the broker has said anything at all."""
    answer: float
    """Until the answer is there, or its head when it is streamed."""
    greet: bool = True
    """Whether the broker is asked for a hello, which it answers at once when it is well."""

    @classmethod
    def for_completion(cls, timeout: float | None, usual: float) -> Patience:
        """Take a given timeout literally; else brokers answer at once and models in `usual`."""
        if timeout is None:
            return cls(DEFAULT_TIMEOUT, usual)
        return cls(timeout, timeout)

    @classmethod
    def for_unlock(cls, timeout: float | None) -> Patience:
        """Wait for the answer to a wrong passphrase, too."""
        given = UNLOCK_TIMEOUT if timeout is None else timeout
        return cls(given, given, greet=False)

    def exhausted(self, answered: bool) -> Temporary:
        """Say who has not answered in time: the broker, or GitHub Copilot."""
        if not answered:
            return timed_out(self.broker)
        message = f"no answer from GitHub Copilot within {self.answer:g} s"
        return Temporary(
            "timeout", message, "Ask again, or give it a longer timeout", retry_after=1.0
        )


class Credit:
    """Counts what a stream's receiver has used up, and when to say so.

    Half a window at a time: the other half lets the sender go on meanwhile.
    """

    _ENOUGH = STREAM_WINDOW // 2

    def __init__(self) -> None:
        self._used = 0

    def use(self, cost: int) -> int:
        """Note a chunk's cost; return the bytes to grant now, mostly 0."""
        self._used += cost
        if self._used < self._ENOUGH:
            return 0
        granted, self._used = self._used, 0
        return granted


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


def foreign_stream() -> UsageError:
    """Say that a stream was opened before the fork."""
    message = "a stream stays with the process that opened it"
    return UsageError("forked", message, "Open another one")


def protocol_broken(error: ProtocolError) -> InternalError | ConnectionLost:
    """Say that what answers speaks something else, or has left in the middle of a message."""
    if error.code == "cut_off":
        return ConnectionLost()
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


def checked_stream(method: str, result: object) -> dict[str, Any]:
    """Return the result if it is that of a method that streams, else raise InternalError."""
    if not isinstance(result, dict) or not isinstance(result.get("stream"), int):
        raise InternalError("bad_answer", f"{method} does not stream", _LOG_HINT)
    return result


def hello_params(name: str | None) -> dict[str, Any]:
    """Parameters of `broker.hello`."""
    return without_none(protocol=1, client=name)


def token_params(min_valid: float, account: str | None, reject: str | None) -> dict[str, Any]:
    """Parameters of `token.get`."""
    return without_none(min_valid=float(min_valid), account=account, reject=reject)


def completion_params(
    body: bytes, path: str, account: str | None, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    """Parameters of `completion.create`, `stream` excepted."""
    given = None if headers is None else dict(headers)
    return without_none(path=path, body=body, account=account, headers=given)


def key_params(
    *,
    name: str | None = None,
    label: str | None = None,
    models: Sequence[str] | None,
    account: str | None,
    requests_per_minute: int | None = None,
    budget: int | None = None,
    expires_in: float | None = None,
) -> dict[str, Any]:
    """Parameters of `key.create`, `key.lease` and `key.mint`."""
    return without_none(
        name=name,
        label=label,
        models=None if models is None else list(models),
        account=account,
        requests_per_minute=requests_per_minute,
        budget=budget,
        expires_in=None if expires_in is None else float(expires_in),
    )


def usage_params(
    since: float | None, until: float | None, by: Sequence[str] | None, account: str | None
) -> dict[str, Any]:
    """Parameters of `usage.report`."""
    return without_none(
        since=None if since is None else float(since),
        until=None if until is None else float(until),
        by=None if by is None else list(by),
        account=account,
    )


def maps_of(result: object, key: str, method: str) -> list[dict[str, Any]]:
    """Return a list of maps out of a result. Raises InternalError `bad_answer`."""
    found = result.get(key) if isinstance(result, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        message = f"the answer to {method} holds no {key}"
        raise InternalError("bad_answer", message, _LOG_HINT)
    return found


def map_of(result: object, method: str) -> dict[str, Any]:
    """Return the result of a method whose answers are maps."""
    if not isinstance(result, dict):
        raise InternalError("bad_answer", f"the answer to {method} is no map")
    return result


def named_text(result: object, key: str, method: str) -> str:
    """Return a text out of a result. Raises InternalError `bad_answer`."""
    found = result.get(key) if isinstance(result, dict) else None
    if not isinstance(found, str):
        message = f"the answer to {method} holds no {key}"
        raise InternalError("bad_answer", message, _LOG_HINT)
    return found


def without_none(**params: Any) -> dict[str, Any]:
    """Leave out what was not given."""
    return {key: value for key, value in params.items() if value is not None}
