"""When an expiring GitHub token is renewed (RFC 6749 §6), and what becomes of its login.

GitHub Apps may issue tokens that live eight hours, each with a refresh token. Renewing kills the
old pair at once, so the new one is saved before anything else is done with it. Other tokens have
neither a lifetime nor a refresh token, and nothing here concerns them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from brokerd.core.machine.refresh import Retry
from brokerd.core.machine.states import Exchanging, Minting, Ready, Renewing


if TYPE_CHECKING:
    from brokerd.core.tokens import GitHubToken, Login


__all__ = [
    "expiry_of_kept",
    "expiry_of_new",
    "has_expired",
    "is_due",
    "lead",
    "meanwhile",
    "renewed",
]

Held = TypeVar("Held", bound="Exchanging | Ready")

LEAD = 600.0
"""Seconds before expiry from which on a GitHub token is renewed: two refreshes of a usual Copilot
token do not fit in any more."""
LEAD_SHARE = 0.25
"""The most of a life that the lead may take: short tokens would be renewed for ever."""
LIFE_MIN = 60.0
"""Seconds; a token said to live shorter is used until GitHub refuses it, not renewed for ever."""


def expiry_of_new(token: GitHubToken, asked_at: float) -> float | None:
    """When a token that was just issued expires; None: never, or nonsense was told."""
    if token.expires_in is None or not LIFE_MIN <= token.expires_in < math.inf:
        return None
    return asked_at + token.expires_in


def expiry_of_kept(expires_in: float | None, now: float) -> float | None:
    """When a token expires that lay in its store; below zero: it did long ago, and is renewed."""
    if expires_in is None or not math.isfinite(expires_in):
        return None
    return now + expires_in


def lead(token: GitHubToken) -> float:
    """Seconds before its expiry at which a token is to be renewed."""
    life = token.expires_in
    if life is None or not math.isfinite(life) or life <= 0:
        return LEAD
    return min(LEAD, life * LEAD_SHARE)


def is_due(token: GitHubToken, expires_at: float | None, now: float) -> bool:
    """Whether the token can be renewed, and should be before it is used again."""
    if token.refresh_token is None or expires_at is None:
        return False
    return expires_at - now <= lead(token)


def has_expired(expires_at: float | None, now: float) -> bool:
    """Whether the token is dead, as far as this machine's clock can be believed."""
    return expires_at is not None and now >= expires_at


def renewed(login: Login, token: GitHubToken) -> Login:
    """Put the new pair in the old one's place.

    An answer without a refresh token or scope leaves the old one in force (RFC 6749 §5.1, §6).
    """
    kept = replace(
        token,
        refresh_token=token.refresh_token or login.token.refresh_token,
        scope=token.scope or login.token.scope,
    )
    return replace(login, token=kept)


def meanwhile(state: Held, now: float) -> Held:
    """Let a GitHub token serve that still lives, while its renewal failed and waits.

    Only where that is needed: while a Copilot token is held, the renewal is all there is to do,
    unless it was given up. Then the token serves until GitHub refuses it, for it may be our clock
    that is wrong.
    """
    step, retry = state.step, state.retry
    if not isinstance(step, Renewing) or step.refused is not None or not retry.failures:
        return state
    if retry.at is not None:
        is_needed = isinstance(state, Exchanging) and now < retry.at
        if not is_needed or has_expired(state.login_expires_at, now):
            return state
    soon = Retry(max(now, retry.not_before), 0, retry.failure, retry.not_before)
    return replace(state, step=Minting(step.login, renewal=retry), retry=soon)
