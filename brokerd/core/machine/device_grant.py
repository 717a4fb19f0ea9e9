"""The device authorization grant (RFC 8628): how often to ask, and what each answer means.

GitHub answers a poll with HTTP 200 whatever it has to say; `NotGranted` is everything but a token.
Its clock and ours may disagree (virtual machines run up to a third fast), and asking early costs
five seconds each time, so every wait is longer than the interval that was told.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from brokerd.errors import ErrorClass, Failure


__all__ = [
    "DEFAULT_EXPIRES_IN",
    "DEFAULT_INTERVAL",
    "NotGranted",
    "Pacing",
    "is_pending",
    "refusal",
    "sane_expires_in",
]

DEFAULT_INTERVAL = 5.0
"""Seconds between polls when none, or nonsense, is told (RFC 8628 §3.2)."""
MAX_INTERVAL = 300.0
"""A longer interval would outlive the code: a defect of the other side."""
DEFAULT_EXPIRES_IN = 900.0
"""Seconds a code lives when nonsense is told; GitHub's own figure."""
SLOW_DOWN_STEP = 5.0
"""Seconds that each `slow_down` adds at least (RFC 8628 §3.5)."""
MARGIN = 1.2
"""Waits are longer than the interval by this factor: their clock may be slower than ours."""
SLOWED_MARGIN = 1.4
"""The factor once `slow_down` was seen: the clocks do disagree."""

SLOW_DOWNS_ODD = 2
"""The `slow_down` from which on a fast clock of this machine is likelier than an unlucky poll."""

_FAST_CLOCK = (
    "GitHub keeps asking us to slow down although every wait was longer than told: this machine's "
    "clock seems to run fast, as happens in WSL and virtual machines. Compare the output of "
    "timedatectl with another clock, and restart the virtual machine"
)
_PENDING = frozenset({"authorization_pending", "slow_down"})
_AGAIN = "Run copilot-cred login"
_REFUSALS: dict[str, tuple[ErrorClass, str, str]] = {
    "expired_token": (ErrorClass.LOGIN_REQUIRED, "the code was not approved in time", _AGAIN),
    "access_denied": (ErrorClass.DENIED, "the login was cancelled on GitHub's page", _AGAIN),
    "incorrect_device_code": (
        ErrorClass.LOGIN_REQUIRED,
        "GitHub does not know the device code any more",
        _AGAIN,
    ),
    "incorrect_client_credentials": (
        ErrorClass.USAGE,
        "GitHub does not know the client_id",
        "Correct --client-id, or client_id in config.toml, then run copilot-cred login",
    ),
    "unsupported_grant_type": (
        ErrorClass.INTERNAL,
        "GitHub does not accept the device authorization grant as we ask for it",
        "Report this, with the output of copilot-cred status --json",
    ),
    "device_flow_disabled": (
        ErrorClass.USAGE,
        "the OAuth app has the device authorization grant turned off",
        "Choose another --client-id, or client_id in config.toml, then run copilot-cred login",
    ),
}
_SPELLINGS = {"token_expired": "expired_token"}
"""GitHub's documentation spells one answer both ways."""
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class NotGranted:
    """A poll's answer that is not a token (RFC 8628 §3.5)."""

    error: str
    """As GitHub spells it."""
    interval: float | None = None
    """Seconds; comes with `slow_down`."""


@dataclass(frozen=True)
class Pacing:
    """How long to wait between polls; only ever gets slower."""

    interval: float
    slow_downs: int = 0
    """How often GitHub has said `slow_down`."""

    @classmethod
    def told(cls, interval: float) -> Pacing:
        """Start from the interval of the device authorization response."""
        return cls(_sane_interval(interval))

    @property
    def delay(self) -> float:
        """Seconds to wait before the next poll."""
        return self.interval * (SLOWED_MARGIN if self.slow_downs else MARGIN)

    @property
    def advice(self) -> str | None:
        """What a person should look into, without a full stop at the end; None: nothing odd."""
        return _FAST_CLOCK if self.slow_downs >= SLOW_DOWNS_ODD else None

    def after(self, answer: NotGranted) -> Pacing:
        """Adopt what a pending answer says: on `slow_down` the larger of theirs and ours + 5."""
        if answer.error != "slow_down":
            return self
        theirs = 0.0 if answer.interval is None else _sane_interval(answer.interval)
        slower = min(max(theirs, self.interval + SLOW_DOWN_STEP), MAX_INTERVAL)
        return Pacing(slower, self.slow_downs + 1)


def is_pending(answer: NotGranted) -> bool:
    """Whether to poll again."""
    return answer.error in _PENDING


def refusal(error: str, pacing: Pacing | None = None) -> Failure:
    """Say why the grant is over; an error nobody has heard of is over too.

    A code that expired under a clock that runs fast is told with the advice of `pacing`.
    """
    code = _SPELLINGS.get(error, error)
    if code in _REFUSALS:
        error_class, message, hint = _REFUSALS[code]
        if code == "expired_token" and pacing is not None and pacing.advice is not None:
            hint = f"{pacing.advice}. Then run copilot-cred login"
        return Failure(error_class, code, message, hint)
    word = code if _WORD.fullmatch(code) else "unreadable"
    return Failure(
        ErrorClass.LOGIN_REQUIRED,
        "device_grant_refused",
        f"GitHub ended the login with an unknown answer ({word})",
        _AGAIN,
    )


def sane_expires_in(seconds: float) -> float:
    """Return the code's lifetime, or GitHub's usual one when nonsense was told."""
    return seconds if math.isfinite(seconds) and seconds > 0 else DEFAULT_EXPIRES_IN


def _sane_interval(seconds: float) -> float:
    if not math.isfinite(seconds) or seconds <= 0:
        return DEFAULT_INTERVAL
    return min(seconds, MAX_INTERVAL)
