"""Exceptions → the error map of the wire: one table, the only way an error leaves by this door.

What is not ours to explain becomes `internal_error` without its text, which may hold anything; the
traceback goes to the log, where the sink redacts it.
"""

from __future__ import annotations

import logging
from typing import overload

from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from copilot_broker.wire.errors import RemoteProtocolError
from copilot_broker.wire.messages import ErrorInfo


__all__ = [
    "REQUEST_CANCELLED",
    "SHUTTING_DOWN",
    "TOO_MANY_REQUESTS",
    "bad_params",
    "error_info",
    "error_of",
]

log = logging.getLogger(__name__)

SHUTTING_DOWN = ErrorInfo(
    ErrorClass.TEMPORARY,
    "shutting_down",
    "the broker is stopping",
    "Ask again; if none answers then: systemctl --user start copilot-broker.socket",
    retry_after=1.0,
)
"""A restart takes about a second; with socket activation the next broker answers."""

TOO_MANY_REQUESTS = ErrorInfo(
    ErrorClass.TEMPORARY,
    "too_many_requests",
    "too many requests on this connection wait for an answer",
    "Wait for answers or open another connection: copilot-cred get",
    retry_after=1.0,
)

REQUEST_CANCELLED = ErrorInfo(
    ErrorClass.TEMPORARY,
    "request_cancelled",
    "the request was taken back before its answer",
    "Ask again",
)
"""For whoever asked for it by `request.cancel`: the answer that MessagePack-RPC owes them."""

_INTERNAL = ErrorInfo(
    ErrorClass.INTERNAL,
    "internal_error",
    "the broker has a defect",
    "See what happened: journalctl --user -u copilot-broker",
)


def bad_params(message: str) -> PermanentError:
    """Refuse parameters that make no sense; `message` is a sentence without its full stop."""
    failure = Failure(ErrorClass.USAGE, "bad_params", message, "See client/PROTOCOL.md")
    return PermanentError(failure)


@overload
def error_of(failure: Failure) -> ErrorInfo: ...
@overload
def error_of(failure: None) -> None: ...
def error_of(failure: Failure | None) -> ErrorInfo | None:
    """Turn a failure into what travels; nothing is nothing."""
    if failure is None:
        return None
    return ErrorInfo(
        failure.error_class,
        failure.code,
        failure.message,
        failure.hint,
        failure.url,
        failure.retry_after,
    )


def error_info(error: BaseException, operation: str) -> ErrorInfo:
    """Turn an exception that ended a request into what its caller is told."""
    match error:
        case BrokerError():
            return error_of(error.failure)
        case RemoteProtocolError():  # the frame was sound, what it asks of the wire is not
            return ErrorInfo(ErrorClass.USAGE, error.code, error.message, "See client/PROTOCOL.md")
        case _:
            log.error("request failed", exc_info=error, extra={"OPERATION": operation})
            return _INTERNAL
