"""Answers of our own: refusals in the caller's dialect, and the bare one that tells nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.core.dialects.errors import error_body, error_headers, status_of
from brokerd.errors import ErrorClass, Failure
from brokerd.gateway.messages import Reply


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.dialect import Dialect


__all__ = ["BARE_403", "ERROR", "defect", "method_not_allowed", "refused", "unknown_path"]

ERROR: Final = "x-copilot-broker-error"
"""Our code of an error, as `copilot-cred` shows it."""

BARE_403: Final = Reply(403, {"connection": "close"})
"""For who should not be here: a web page, another user. It tells nothing, not even who we are."""


def refused(
    dialect: Dialect, failure: Failure, status: int = 0, more: Mapping[str, str] | None = None
) -> Reply:
    """Say why not, as the caller's library expects it; status 0: what the failure calls for."""
    status = status or status_of(failure)
    headers = {**error_headers(failure), **(more or {}), ERROR: failure.code}
    return Reply(status, headers, error_body(dialect, status, failure))


def unknown_path(dialect: Dialect) -> Reply:
    """Say what there is."""
    return refused(
        dialect,
        Failure(
            ErrorClass.USAGE,
            "unknown_path",
            "there is nothing at this address",
            "Give the tool the base URL with /v1 behind it, or without; what is served: "
            "copilot-cred key --help",
        ),
        404,
    )


def method_not_allowed(dialect: Dialect, methods: tuple[str, ...]) -> Reply:
    """Say what can be done there (RFC 9110 §15.5.6)."""
    allowed = ", ".join(methods)
    failure = Failure(
        ErrorClass.USAGE,
        "method_not_allowed",
        f"this address takes {allowed}",
        "See what is served: copilot-cred key --help",
    )
    return refused(dialect, failure, 405, {"allow": allowed})


def defect(dialect: Dialect) -> Reply:
    """Own up to a mistake of ours."""
    return refused(
        dialect,
        Failure(
            ErrorClass.INTERNAL,
            "internal",
            "the broker has made a mistake",
            "See its log: journalctl --user -u copilot-broker",
        ),
        500,
    )
