"""Refusals by the broker's own rules. Words of the peer are repeated short, and as literals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.core.hints import addressed
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.access.scopes import Scope


__all__ = [
    "account_not_granted",
    "budget",
    "direct_mode",
    "model_not_granted",
    "peer_gone",
    "request_rate",
    "scope_too_low",
    "uid_not_allowed",
    "unknown_method",
]

_SHOWN: Final = 64
"""Characters of a peer's own word repeated back to it."""

_GRANTS: Final = "What this connection may do, and by which rule: copilot-cred grants"


def uid_not_allowed(uid: int, own_uid: int) -> Failure:
    """Say that it is another user, whom no rule lets in."""
    return Failure(
        ErrorClass.DENIED,
        "uid_not_allowed",
        f"user id {uid} may not use the broker of user id {own_uid}",
        "Each user runs a broker of their own: systemctl --user start copilot-broker.socket",
    )


def unknown_method(operation: str) -> Failure:
    """Say that there is no such thing to do."""
    return Failure(
        ErrorClass.USAGE,
        "unknown_method",
        f"there is no method {operation[:_SHOWN]!r}",
        "See client/PROTOCOL.md; an older broker may lack it: "
        "systemctl --user restart copilot-broker",
    )


def scope_too_low(operation: str, needed: Scope, has: Scope) -> Failure:
    """Say that the connection's scope does not hold this operation."""
    return Failure(
        ErrorClass.DENIED,
        "scope_too_low",
        f"{operation} needs the scope {needed.label}, this connection has {has.label}",
        "Use the broker's own socket: unset COPILOT_BROKER_SOCKET; "
        "which rule it is where that does not help: copilot-cred grants",
    )


def account_not_granted(account: object, granted: Iterable[str]) -> Failure:
    """Say that rules leave other accounts only, or none at all."""
    names = ", ".join(sorted(granted)) or "none"
    return Failure(
        ErrorClass.DENIED,
        "account_not_granted",
        f"this connection may not use the account {_word(account)}; granted: {names}",
        _GRANTS,
    )


def model_not_granted(model: object, granted: Iterable[tuple[str, ...]]) -> Failure:
    """Say that rules leave other models only."""
    patterns = " and ".join(sorted(", ".join(each) for each in granted))
    what = f"may not use the model {_word(model)}" if model else "must name the model it wants"
    return Failure(
        ErrorClass.DENIED,
        "model_not_granted",
        f"this connection {what}; granted: {patterns}",
        _GRANTS,
    )


def request_rate(per_minute: int, where: str, retry_after: float) -> Failure:
    """Say that a rule's `requests_per_minute` are used up; nothing went upstream."""
    return Failure(
        ErrorClass.TEMPORARY,
        "request_rate",
        f"{where} allows {per_minute} requests a minute, and they are used up",
        _GRANTS,
        retry_after=retry_after,
    )


def budget(tokens: int, where: str, retry_after: float) -> Failure:
    """Say that the tokens that a rule leaves for this day are used up; nothing went upstream."""
    return Failure(
        ErrorClass.TEMPORARY,
        "budget",
        f"{where} allows {tokens} tokens a day (UTC), and they are used up",
        "Who has used them: copilot-cred usage --since 1d; which rule it is: copilot-cred grants",
        retry_after=retry_after,
    )


def peer_gone() -> Failure:
    """Why a secret stays here although it was asked for: a connection dies with its process."""
    return Failure(
        ErrorClass.DENIED,
        "peer_gone",
        "the process that opened this connection has ended",
        "Open a connection of your own: copilot-cred get",
    )


def direct_mode(account: str = DEFAULT_ACCOUNT) -> Failure:
    """Why an account in direct mode lends no token: it would be the person's GitHub token."""
    failure = Failure(
        ErrorClass.DENIED,
        "direct_mode",
        "this account uses its GitHub login directly, which never leaves the broker",
        'Where config.toml sets mode = "direct", set "auto" and reload; else sign in with another '
        "app: copilot-cred login --client-id vscode",
    )
    return failure if account == DEFAULT_ACCOUNT else addressed(failure, account)


def _word(word: object) -> str:
    return repr(word[:_SHOWN]) if isinstance(word, str) else f"of type {type(word).__name__}"
