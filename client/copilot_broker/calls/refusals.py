"""What GitHub Copilot says instead of a completion, as an exception.

The broker explains each refusal and sends what it makes of it beside upstream's own answer; here
that becomes an exception. An answer that comes without (from an older broker) is only named.
"""

from __future__ import annotations

from typing import Final

from copilot_broker.errors import ErrorClass, UpstreamRefused, refused
from copilot_broker.wire.messages import ErrorInfo


__all__ = ["broken_off", "refusal_from", "refusal_of", "unexplained"]

MID_STREAM: Final = 200
"""Status of an answer that had begun well."""

_HINT: Final = "Look at: copilot-cred status"
_TOO_MANY: Final = 429


def refusal_from(said: object, status: int) -> UpstreamRefused | None:
    """Return the exception for the `refusal` of an answer as it travels; None for none."""
    return None if said is None else refusal_of(ErrorInfo.from_wire(said), status)


def refusal_of(info: ErrorInfo, status: int = MID_STREAM) -> UpstreamRefused:
    """Return the exception for a refusal that the broker has explained."""
    return refused(
        status,
        info.error_class,
        info.code,
        info.message,
        info.hint,
        url=info.url,
        retry_after=info.retry_after,
    )


def unexplained(status: int) -> UpstreamRefused:
    """Return the exception for an answer that is not 2xx and that nobody has explained."""
    is_final = 400 <= status < 500 and status != _TOO_MANY
    error_class = ErrorClass.DENIED if is_final else ErrorClass.TEMPORARY
    return refused(
        status, error_class, f"upstream_{status}", f"GitHub Copilot answered {status}", _HINT
    )


def broken_off(status: int = MID_STREAM) -> UpstreamRefused:
    """Return the exception for an error among the events that nobody has explained."""
    message = "GitHub Copilot broke off with an error"
    return refused(status, ErrorClass.TEMPORARY, "upstream_error", message, _HINT)
