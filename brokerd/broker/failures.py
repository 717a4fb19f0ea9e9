"""What the broker itself says no with."""

from __future__ import annotations

from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError


__all__ = ["PENDING", "STOPPING", "error_for", "unknown_account"]

STOPPING = Failure(
    ErrorClass.TEMPORARY,
    "broker_stopping",
    "the broker is stopping",
    "Run copilot-cred get again",
    retry_after=1.0,
)
PENDING = Failure(
    ErrorClass.TEMPORARY,
    "token_pending",
    "the exchange for a token is still under way",
    "Run copilot-cred get again",
    retry_after=1.0,
)


def error_for(failure: Failure) -> BrokerError:
    """Return the exception for it: transient when the class says that waiting helps."""
    if failure.error_class in (ErrorClass.TEMPORARY, ErrorClass.LOCKED):
        return TransientError(failure)
    return PermanentError(failure)


def unknown_account(name: str) -> Failure:
    """Nobody ever signed in under that name."""
    text = f"there is no account named {name}"
    hint = "See the names with copilot-cred account list"
    return Failure(ErrorClass.USAGE, "unknown_account", text, hint)
