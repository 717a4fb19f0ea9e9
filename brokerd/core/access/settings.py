"""What the keys of a `[[grant]]` may be, and what makes no sense together.

A rule that is less than its writer believes is worse than an error at start.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.access.rules import ANY_SANDBOX, SANDBOXES, WHAT, WHO, Rule
from brokerd.core.access.scopes import HTTP_DOORS, Scope
from brokerd.core.setting_checks import NotAllowedError, account_name, one_of


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


__all__ = ["KEYS", "nonsense", "rule_of", "value_of"]

_UID_MAX: Final = 2**32 - 2
"""4294967295 is no user (chown(2) takes it for "unchanged")."""

_PATTERN_MAX: Final = 256
"""Characters; a unit's name has 255 at most."""

_PATTERNS_MAX: Final = 100
"""Patterns or names in one list; Copilot has some dozens of models."""

_RATE_MAX: Final = 1_000_000
"""Requests a minute; more than that is no limit."""

_BUDGET_MAX: Final = 10**12
"""Tokens a day; more than that is no limit."""

_scope_word = one_of(*(scope.label for scope in Scope))
_sandbox_word = one_of(*SANDBOXES, ANY_SANDBOX)


def value_of(key: str, value: object) -> object:
    """Check the value of one key and return it as a `Rule` holds it; NotAllowedError if not."""
    return KEYS[key](value)


def rule_of(values: Mapping[str, Any], where: str) -> Rule:
    """Return the rule with these values, which were checked."""
    return Rule(where=where, **values)


def nonsense(rule: Rule) -> tuple[str, str] | None:
    """Return what cannot be meant: the key, or "" for the whole rule, and what to do about it."""
    if not rule.what:
        return "", f"grant leaves everything: say what it leaves ({', '.join(WHAT)})"
    if rule.listener in HTTP_DOORS and rule.scope is not None and rule.scope > Scope.COMPLETE:
        return "scope", (
            f"grant.scope must be status or complete for the listener {rule.listener}: "
            "its door lends no token, whatever a rule says"
        )
    if rule.lets_in and rule.scope is None:
        key = "gid" if rule.uid is None else "uid"
        return key, (
            f"grant.{key} lets that {'group' if key == 'gid' else 'user'} in: "
            "say how far, with scope"
        )
    if rule.scope is not None and rule.scope > rule.ceiling:
        why = "accounts: admin reaches across them"
        if rule.models is not None:
            why = "models: a token that was lent knows none"
        elif rule.budget is not None:
            why = "budget: nobody counts what a token that was lent is used for"
        return "scope", f"grant.scope must be at most {rule.ceiling.label} beside {why}"
    return None


def _text(allowed: str, pattern: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise NotAllowedError(allowed)
        return value

    return check


def _number(allowed: str, least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise NotAllowedError(allowed)
        return value

    return check


def _word(check_word: Callable[[str], str]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str):
            raise NotAllowedError('a string in "quotes"')
        return check_word(value)

    return check


def _list(
    allowed: str, check_each: Callable[[object], str]
) -> Callable[[object], tuple[str, ...]]:
    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= _PATTERNS_MAX:
            raise NotAllowedError(allowed)
        try:
            return tuple(check_each(each) for each in value)
        except NotAllowedError as what:
            raise NotAllowedError(f"{allowed}; each must be {what}") from None

    return check


def _scope(value: object) -> Scope:
    return Scope[_word(_scope_word)(value).upper()]


_pattern = _text(
    f'a pattern in "quotes" of 1 to {_PATTERN_MAX} visible characters, like app-*.scope',
    rf"[^\x00-\x1f\x7f-\x9f]{{1,{_PATTERN_MAX}}}",
)
_id = _number(f"a number from 0 to {_UID_MAX}", 0, _UID_MAX)

KEYS: Final[Mapping[str, Callable[[object], object]]] = {
    "listener": _text(
        'the name of a socket in "quotes", FileDescriptorName= in its unit, like rpc or http',
        r"[!-9;-~]{1,255}",  # systemd.socket(5): no colon
    ),
    "uid": _id,
    "gid": _id,
    "unit": _pattern,
    "label": _pattern,
    "sandbox": _word(_sandbox_word),
    "key": _word(account_name),  # a key's name follows the same rules
    "scope": _scope,
    "models": _list('a list of patterns, like ["gpt-*"]', _pattern),
    "accounts": _list('a list of accounts, like ["work"]', _word(account_name)),
    "requests_per_minute": _number(f"a number from 1 to {_RATE_MAX}", 1, _RATE_MAX),
    "budget": _number(f"a number from 1 to {_BUDGET_MAX}: tokens a day", 1, _BUDGET_MAX),
}
"""What each may be, in the order in which they are told."""

assert tuple(KEYS) == (*WHO, *WHAT)
