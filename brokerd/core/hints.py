"""Next steps for an account that is not the default one: its commands name it.

Failures are made where nobody knows under which name a login is kept, so their hints name
commands for the default account. Whoever knows better adds the name before a person reads them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from brokerd.errors import Failure


__all__ = ["addressed", "anew", "meanwhile"]

_COMMAND: Final = re.compile(
    r"copilot-cred (?:chat|get|login|logout(?: --revoke)?|models(?: enable [^\s;,)]+)?|"
    r"quota(?: (?:set|forget)-pat)?|refresh|status)(?![-\w])(?! (?:--help|--account))"
)
"""The verbs that take an account."""

_BY_HAND: Final = re.compile(
    r"(?:[;,.] )?(?:a kept login is tried again by itself, a new one by: copilot-cred login"
    r"|(?:when that is settled, )?(?:then|run):? copilot-cred (?:get again|login|refresh))$",
    re.IGNORECASE,
)
"""Ends of hints that say how to go on; a login that goes on by itself needs none."""


def addressed(failure: Failure, account: str) -> Failure:
    """Let the commands in its hint be about `account`."""
    hint = _COMMAND.sub(lambda found: f"{found[0]} --account {account}", failure.hint)
    return failure if hint == failure.hint else replace(failure, hint=hint)


def anew(failure: Failure) -> Failure:
    """Let the hint of a login that did not succeed lead to the next: there is none to refresh."""
    hint = failure.hint.replace("copilot-cred refresh", "copilot-cred login")
    return failure if hint == failure.hint else replace(failure, hint=hint)


def meanwhile(failure: Failure) -> str:
    """Say what holds up something that goes on by itself: no full stop at the end."""
    step = _BY_HAND.sub("", failure.hint)
    told = f"{failure.message}; it is tried again by itself"
    return f"{told}. {step}" if step else told
