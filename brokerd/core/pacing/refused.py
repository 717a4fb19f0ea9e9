"""What a caller is told whose request was not sent. Each names upstream's reason and the time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from brokerd.core.durations import in_words
from brokerd.core.pacing.fair_queue import MAX_WAIT, MAX_WAITING
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from brokerd.core.pacing.cooldowns import Cooldown


__all__ = ["HINT", "cooling_down", "queue_full", "queued_too_long", "upstream_down"]

_NAME_SHOWN = 64
"""Characters of a model's name repeated back to the caller."""

_QUEUE_REST = 5.0
"""Seconds until asking again: some of those under way will have ended."""

HINT = "Nothing was sent; ask again then. See: copilot-cred status"


def cooling_down(cooldown: Cooldown, model: str | None, now: float) -> Failure:
    """Say that upstream wants no requests for now: of this account, or for one model."""
    rest = cooldown.until - now
    what = "this account"
    if model is not None:
        what = f"the model {model[:_NAME_SHOWN]!r}" if model else "what names no model"
    return Failure(
        ErrorClass.TEMPORARY,
        "cooling_down",
        f"Copilot wants no requests for {what} for another {in_words(rest)} "
        f"({_reason(cooldown.reason)})",
        HINT,
        cooldown.reason.url,
        _rounded(rest),
    )


def upstream_down(trouble: str, rest: float) -> Failure:
    """Say that Copilot failed too often; `trouble` is how it failed last."""
    return Failure(
        ErrorClass.TEMPORARY,
        "upstream_down",
        f"the Copilot API failed again and again ({trouble}) and is left alone for another "
        f"{in_words(rest)}",
        HINT,
        retry_after=_rounded(rest),
    )


def queue_full(reason: Failure | None) -> Failure:
    """Say that too many wait already."""
    return Failure(
        ErrorClass.TEMPORARY,
        "queue_full",
        f"Copilot limits this account{_because(reason)}, and {MAX_WAITING} requests wait already",
        f"Ask again in {in_words(_QUEUE_REST)}, with fewer at a time. See: copilot-cred status",
        retry_after=_QUEUE_REST,
    )


def queued_too_long(reason: Failure | None) -> Failure:
    """Say that those before it took all the time it had."""
    return Failure(
        ErrorClass.TEMPORARY,
        "queued_too_long",
        f"Copilot limits this account{_because(reason)}, and this request's turn did not come "
        f"within {in_words(MAX_WAIT)}",
        f"Ask again in {in_words(_QUEUE_REST)}, with fewer at a time. See: copilot-cred status",
        retry_after=_QUEUE_REST,
    )


def _reason(reason: Failure) -> str:
    return f"{reason.code}: {reason.message}"


def _because(reason: Failure | None) -> str:
    return f" ({_reason(reason)})" if reason is not None else ""


def _rounded(seconds: float) -> float:
    """Tenths, upwards: nobody is told to come too early."""
    return math.ceil(seconds * 10) / 10
