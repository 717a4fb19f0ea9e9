"""What can go wrong, said once: a value (`Failure`) and the exceptions that carry it.

The value travels through the pure core and over the wire; the exceptions travel through the edges.

    BrokerError            anything with a Failure
    ├── TransientError     asking again later may help: network, 5xx, rate limits, a dying keyring
    └── PermanentError     asking again does not help until somebody does something
"""

from __future__ import annotations

from dataclasses import dataclass

from copilot_broker.wire.codes import ErrorClass


__all__ = ["BrokerError", "ErrorClass", "Failure", "PermanentError", "TransientError"]


@dataclass(frozen=True)
class Failure:
    """Why something did not happen and what mends it. Never holds a secret."""

    error_class: ErrorClass
    code: str
    """Stable, machine-readable, snake_case; an open set."""
    message: str
    """One sentence for a person, without a full stop at the end."""
    hint: str = ""
    """The next step, ending in the command that mends it."""
    url: str | None = None
    """Where GitHub says more; its host was checked."""
    retry_after: float | None = None
    """Seconds until asking again can help."""

    def __str__(self) -> str:
        """`code: message. hint`, the one-string form of PROTOCOL.md."""
        return f"{self.code}: {self.message}." + (f" {self.hint}" if self.hint else "")


class BrokerError(Exception):
    """Base of all errors with a `failure`; str() is safe to print."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class TransientError(BrokerError):
    """Asking again later may help."""


class PermanentError(BrokerError):
    """Asking again does not help until somebody does something."""
