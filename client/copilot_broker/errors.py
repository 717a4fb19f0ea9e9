"""One exception for each thing a caller can do about an error.

    CopilotBrokerError         has error_class, code, message, hint, url, retry_after
    ├── BrokerUnreachable      start the broker
    ├── LoginRequired          sign in
    ├── Denied                 nothing: GitHub or the broker's policy refuses
    ├── Locked                 unlock the broker, or the secret store
    ├── Temporary              ask again after `retry_after` seconds
    ├── MinValidUnsatisfiable  ask for less
    ├── StoreUnavailable       choose a place to keep the login
    ├── UsageError             change the request
    ├── InternalError          report the defect
    └── UpstreamRefused        GitHub Copilot refuses; is also one of those above

str() of each is `code: message. hint` and holds no secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from copilot_broker.wire.codes import ErrorClass


if TYPE_CHECKING:
    from copilot_broker.wire.messages import ErrorInfo


__all__ = [
    "BrokerUnreachable",
    "CopilotBrokerError",
    "Denied",
    "ErrorClass",
    "InternalError",
    "Locked",
    "LoginRequired",
    "MinValidUnsatisfiable",
    "StoreUnavailable",
    "Temporary",
    "UpstreamRefused",
    "UsageError",
    "error_from",
    "refused",
]


class CopilotBrokerError(Exception):
    """Base of all errors that this library raises on purpose."""

    error_class: ClassVar[ErrorClass] = ErrorClass.INTERNAL
    """What can be done about it; also the exit code of `copilot-cred`."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        url: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}." + (f" {hint}" if hint else ""))
        self.code = code
        """What happened, machine-readable; an open set."""
        self.message = message
        self.hint = hint
        """The next step, ending in the command that mends it."""
        self.url = url
        self.retry_after = retry_after
        """Seconds until asking again can help."""

    def __reduce__(self) -> tuple[object, ...]:
        """Let it travel between processes; the default would call it with one argument."""
        given = {"url": self.url, "retry_after": self.retry_after}
        return _again, (type(self), (self.code, self.message, self.hint), given), self.__dict__


def _again(
    kind: type[CopilotBrokerError], said: tuple[str, str, str], given: dict[str, Any]
) -> CopilotBrokerError:
    return kind(*said, **given)


class BrokerUnreachable(CopilotBrokerError):  # noqa: N818  (said as in "except LoginRequired")
    """No broker answers, or none that may be trusted."""

    error_class = ErrorClass.UNREACHABLE


class LoginRequired(CopilotBrokerError):  # noqa: N818
    """Nobody is signed in, or GitHub refused the login."""

    error_class = ErrorClass.LOGIN_REQUIRED


class Denied(CopilotBrokerError):  # noqa: N818
    """GitHub or the broker's policy refuses; asking again does not help."""

    error_class = ErrorClass.DENIED


class Locked(CopilotBrokerError):  # noqa: N818
    """The broker is locked, or the secret store is."""

    error_class = ErrorClass.LOCKED


class Temporary(CopilotBrokerError):  # noqa: N818
    """Network, upstream or load; asking again after `retry_after` can help."""

    error_class = ErrorClass.TEMPORARY


class MinValidUnsatisfiable(CopilotBrokerError):  # noqa: N818
    """No token can live as long as was strictly asked for."""

    error_class = ErrorClass.MIN_VALID


class StoreUnavailable(CopilotBrokerError):  # noqa: N818
    """There is no place to keep the login."""

    error_class = ErrorClass.STORE_UNAVAILABLE


class UsageError(CopilotBrokerError):
    """The request is malformed or names something that is not there."""

    error_class = ErrorClass.USAGE


class InternalError(CopilotBrokerError):
    """A defect of the broker or of this library."""

    error_class = ErrorClass.INTERNAL


class UpstreamRefused(CopilotBrokerError):  # noqa: N818
    """GitHub Copilot answered a completion, but not with one; the broker says what that means.

    Each is also what can be done about it (Denied, LoginRequired, Temporary or UsageError mostly),
    so `except Temporary as error: sleep(error.retry_after or 1)` holds for these, too.
    """

    status = 0
    """The HTTP status; 200 for an error in the middle of a stream."""


class _UpstreamLoginRequired(UpstreamRefused, LoginRequired):
    pass


class _UpstreamDenied(UpstreamRefused, Denied):
    pass


class _UpstreamTemporary(UpstreamRefused, Temporary):
    pass


class _UpstreamUsageError(UpstreamRefused, UsageError):
    pass


class _UpstreamInternalError(UpstreamRefused, InternalError):
    pass


_UPSTREAM: dict[ErrorClass, type[UpstreamRefused]] = {
    ErrorClass.LOGIN_REQUIRED: _UpstreamLoginRequired,
    ErrorClass.DENIED: _UpstreamDenied,
    ErrorClass.TEMPORARY: _UpstreamTemporary,
    ErrorClass.USAGE: _UpstreamUsageError,
}

_BY_CLASS = {
    kind.error_class: kind
    for kind in (
        BrokerUnreachable,
        LoginRequired,
        Denied,
        Locked,
        Temporary,
        MinValidUnsatisfiable,
        StoreUnavailable,
        UsageError,
        InternalError,
    )
}


def error_from(info: ErrorInfo) -> CopilotBrokerError:
    """Turn the wire's error into the exception of its class."""
    kind = _BY_CLASS[info.error_class]
    return kind(info.code, info.message, info.hint, url=info.url, retry_after=info.retry_after)


def refused(
    status: int,
    error_class: ErrorClass,
    code: str,
    message: str,
    hint: str = "",
    *,
    url: str | None = None,
    retry_after: float | None = None,
) -> UpstreamRefused:
    """Make the UpstreamRefused that is also an exception of `error_class`.

    No refusal of upstream's is of the classes that only a broker or a store can have: they count
    as INTERNAL.
    """
    kind = _UPSTREAM.get(error_class, _UpstreamInternalError)
    error = kind(code, message, hint, url=url, retry_after=retry_after)
    error.status = status
    return error
