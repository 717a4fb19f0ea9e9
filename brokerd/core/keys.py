"""Per-client keys of the HTTP door: values only, what makes one, and when it is over.

The text of a key is `cpb_` and 256 random bits in base64url (RFC 4648 §5). It leaves once, when it
is made; what is kept is its SHA-256, which needs no salt and no slow hash: nobody can guess 256
random bits (NIST SP 800-63B §5.1.2.2 asks for those where a person has chosen the secret).

A key only takes away: it becomes a `Rule` about whoever shows it (`rule_of`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from brokerd.core.access.rules import Rule
from brokerd.core.access.scopes import Scope
from brokerd.core.setting_checks import NotAllowedError, account_name


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "BUDGET_MAX",
    "DAY",
    "EXPIRES_MAX",
    "KEYS_MAX",
    "PREFIX",
    "RANDOM_BYTES",
    "KeptKeys",
    "Key",
    "Spent",
    "day_of",
    "digest_of",
    "key_name",
    "looks_like_key",
    "rule_of",
    "text_of",
    "until_next_day",
]

PREFIX: Final = "cpb_"
"""What each begins with, so that logs, scanners and the door can tell one from any other word."""

RANDOM_BYTES: Final = 32
"""256 bits: 43 characters of base64url without padding."""

KEYS_MAX: Final = 256
"""Keys at once: more than a machine has programs that ask for completions."""

BUDGET_MAX: Final = 10**12
"""Tokens a day; more than that is no limit."""

DAY: Final = 86_400
"""Seconds of a day in UTC as Unix time counts them (POSIX.1-2017 §4.16: no leap seconds)."""

EXPIRES_MAX: Final = 10 * 366 * DAY
"""Seconds that a key may last; for longer than ten years leave the end out."""

_TEXT = re.compile(r"cpb_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Key:
    """One key as it is kept: everything but its text."""

    name: str
    """Chosen by the person; shown in tables, logs and commands."""
    digest: str = field(repr=False)
    """SHA-256 of the text, in lower-case hex."""
    created: int
    """Unix seconds."""
    expires: int | None = None
    """Unix seconds from which on it is refused; None: never."""
    models: tuple[str, ...] | None = None
    """Patterns (fnmatch(3)), of which a model must match one; None: every model."""
    account: str | None = None
    """The only account it may use; None: as if there were no key."""
    requests_per_minute: int | None = None
    budget: int | None = None
    """Prompt and completion tokens a day (UTC); None: no limit."""

    def is_expired(self, wall: float) -> bool:
        """Whether it is over at that time, in Unix seconds."""
        return self.expires is not None and wall >= self.expires


@dataclass(frozen=True)
class Spent:
    """What one key has used on one day."""

    day: int
    """Days since 1970-01-01 in UTC (`day_of`)."""
    tokens: int


@dataclass(frozen=True)
class KeptKeys:
    """All that a `KeyStore` keeps."""

    keys: tuple[Key, ...] = ()
    """In the order they were made; no two with one name or one digest."""
    spent: Mapping[str, Spent] = field(default_factory=dict)
    """name → what it has used."""
    revoked: Mapping[str, str] = field(default_factory=dict, repr=False)
    """digest → name of keys that were revoked, oldest first: to say so to who shows one."""
    of_rules: Mapping[str, Spent] = field(default_factory=dict)
    """`Rule.purse` → what was used of the budgets of a `[[grant]]`."""


def key_name(value: str) -> str:
    """Check the name of a key by the rules for names of accounts; NotAllowedError if not.

    A key itself is none: it would be shown.
    """
    if looks_like_key(value):
        raise NotAllowedError("a name for the key, not a key")
    return account_name(value)


def looks_like_key(text: str) -> bool:
    """Whether it is meant as one of our keys, a good one or not."""
    return text.startswith(PREFIX)


def text_of(random: bytes) -> str:
    """Return the text of a key made of these `RANDOM_BYTES` random bytes."""
    assert len(random) == RANDOM_BYTES
    return PREFIX + base64.urlsafe_b64encode(random).rstrip(b"=").decode()


def digest_of(text: str) -> str:
    """Return what is kept of a key's text; "" for a text that can be no key."""
    if not _TEXT.fullmatch(text):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def rule_of(key: Key) -> Rule:
    """Return what the key leaves to whoever shows it."""
    return Rule(
        where=f"key {key.name}",
        key=key.name,
        scope=Scope.COMPLETE,
        models=key.models,
        accounts=None if key.account is None else (key.account,),
        requests_per_minute=key.requests_per_minute,
    )


def day_of(wall: float) -> int:
    """Return the day (UTC) of that time in Unix seconds, counted from 1970-01-01."""
    return int(wall // DAY)


def until_next_day(wall: float) -> float:
    """Return the seconds until the next day (UTC) begins."""
    return (day_of(wall) + 1) * DAY - wall
