"""Refusals about a key of the HTTP door. None holds any of its text."""

from __future__ import annotations

from typing import Final

from brokerd.errors import ErrorClass, Failure


__all__ = [
    "key_budget",
    "key_elsewhere",
    "key_expired",
    "key_missing",
    "key_revoked",
    "key_unknown",
]

_MAKE: Final = "Make one and send it as a Bearer token or x-api-key: copilot-cred key create NAME"


def key_missing() -> Failure:
    """Say that this door wants a key, and none was sent."""
    return _denied("key_missing", "this address wants a key, and the request has none", _MAKE)


def key_unknown() -> Failure:
    """Say that no key is this one; nothing of what was sent is repeated."""
    return _denied("key_unknown", "the key in the request is none of the broker's", _MAKE)


def key_elsewhere(name: str) -> Failure:
    """Say that the key is not for this address: a run's is good at that run's own alone."""
    return _denied(
        "key_elsewhere",
        f"the key {name} is not for this address",
        "The key of a run is good at the address of that run, and no other key is. "
        "Start the program with: copilot-cred exec -- COMMAND",
    )


def key_expired(name: str) -> Failure:
    """Say that the key's time is over."""
    return _denied("key_expired", f"the key {name} has expired", _anew(name))


def key_revoked(name: str) -> Failure:
    """Say that somebody has revoked the key."""
    return _denied("key_revoked", f"the key {name} was revoked", _anew(name))


def key_budget(name: str, budget: int, retry_after: float) -> Failure:
    """Say that the key's tokens of this day are used up; nothing went upstream."""
    return Failure(
        ErrorClass.TEMPORARY,
        "key_budget",
        f"the key {name} may use {budget} tokens a day (UTC), and they are used up",
        "What each key has used: copilot-cred key list",
        retry_after=retry_after,
    )


def _anew(name: str) -> str:
    if ":" in name:  # of a passing key, which nobody has named
        return "Ask for another one: copilot-cred get --model MODEL"
    return f"Make another one: copilot-cred key create {name}"


def _denied(code: str, message: str, hint: str) -> Failure:
    return Failure(ErrorClass.DENIED, code, message, hint)
