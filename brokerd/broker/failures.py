"""What the broker itself says no with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.retry_after import MIN_SECONDS
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError


if TYPE_CHECKING:
    from collections.abc import Sequence

    from brokerd.core.given import Given
    from brokerd.core.machine.refresh import Retry


__all__ = [
    "PENDING",
    "RENEWAL_WAITS",
    "STOPPING",
    "as_of_now",
    "cooling_down",
    "error_for",
    "given_login",
    "login_in_the_way",
    "no_default_account",
    "not_revoked",
    "not_to_be_given_up",
    "nothing_to_revoke",
    "unknown_account",
]

NAMES_SHOWN = 3
"""Accounts that a hint names; `copilot-cred account list` has them all."""

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

RENEWAL_WAITS = Failure(
    ErrorClass.TEMPORARY,
    "renewal_waits",
    "the login's renewal is held up by its store, or by another account's name for it",
    "See which with copilot-cred status",
)


def error_for(failure: Failure) -> BrokerError:
    """Return the exception for it: transient when the class says that waiting helps."""
    if failure.error_class in (ErrorClass.TEMPORARY, ErrorClass.LOCKED):
        return TransientError(failure)
    return PermanentError(failure)


def as_of_now(failure: Failure, retry: Retry, now: float) -> Failure:
    """Return it with what is left of its time: the question is asked again at `retry.at`.

    `now` is CLOCK_BOOTTIME in seconds, as `retry.at` is. One that is being asked again just now
    has a second left, one that nobody asks again stays as it is.
    """
    if retry.at is None:
        return failure
    return replace(failure, retry_after=max(MIN_SECONDS, retry.at - now))


def unknown_account(name: str) -> Failure:
    """Nobody ever signed in under that name."""
    text = f"there is no account named {name}"
    hint = "See the names with copilot-cred account list"
    return Failure(ErrorClass.USAGE, "unknown_account", text, hint)


def cooling_down(seconds: float, reason: Failure | None) -> Failure:
    """Upstream wants no requests of the account for so long; `reason`: what it said, if known."""
    text, url = "GitHub wants no requests of this account for a while", None
    if reason is not None:
        text, url = f"{text} ({reason.code}: {reason.message})", reason.url
    hint = "See how long with copilot-cred status"
    return Failure(ErrorClass.TEMPORARY, "cooling_down", text, hint, url, seconds)


def no_default_account(names: Sequence[str]) -> Failure:
    """Nobody said whose token is meant when no account is named; `names` are all there are."""
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    hint = f"Choose one ({shown}) with copilot-cred account use NAME"
    if len(names) == 1:
        hint = f"Choose the one there is with copilot-cred account use {shown}"
    text = "no account is the default one"
    return Failure(ErrorClass.LOGIN_REQUIRED, "no_default_account", text, hint)


def given_login(name: str, given: Given) -> Failure:
    """Nobody can sign in to an account whose login comes from outside."""
    text = (
        f'account {name} has source = "{given.source}" in config.toml: its login comes from '
        f"{given.origin}, and no other is taken"
    )
    hint = (
        f"{given.mend}; to sign in instead, take the source out of config.toml, then: "
        "systemctl --user reload copilot-broker"
    )
    return Failure(ErrorClass.USAGE, "login_is_given", text, hint)


def not_to_be_given_up(name: str, given: Given) -> Failure:
    """Nor sign out of it."""
    text = (
        f"the login of account {name} comes from {given.origin} and is kept nowhere else, "
        "so there is nothing to forget here"
    )
    hint = (
        "Take it out there: systemctl --user edit copilot-broker, then: "
        "systemctl --user restart copilot-broker"
    )
    return Failure(ErrorClass.USAGE, "login_is_given", text, hint)


def login_in_the_way(name: str, store: str, given: Given) -> Failure:
    """Say that a store keeps a login where another is to come from outside."""
    text = (
        f'account {name} has source = "{given.source}", but a login of before is still kept in '
        f"its store ({store})"
    )
    hint = "Forget the kept one, then the other is used: copilot-cred logout"
    return Failure(ErrorClass.LOGIN_REQUIRED, "login_in_the_way", text, hint)


def nothing_to_revoke(name: str) -> Failure:
    """Say that an account has no GitHub token to revoke."""
    text = f"no GitHub login is kept for account {name}, so there is nothing to revoke"
    hint = f"Forget the account with copilot-cred logout --account {name}"
    return Failure(ErrorClass.USAGE, "nothing_to_revoke", text, hint)


def not_revoked(name: str, host: str, why: Failure) -> Failure:
    """Say why GitHub has not revoked the login: nothing was forgotten."""
    page = why.url or f"https://{host}/settings/applications"
    hint = (
        f"Try again, or revoke it at {page}, or only forget it here: "
        f"copilot-cred logout --account {name}"
    )
    text = f"the login is not revoked, and is kept: {why.message}"
    if why.error_class is ErrorClass.USAGE:  # it never will be, on request
        return replace(why, message=text)
    return replace(why, message=text, hint=hint, url=page)
