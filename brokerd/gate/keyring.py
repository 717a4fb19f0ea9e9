"""The keys of one broker: those there are, those there were, and what each has spent today.

The store is read at the start. While it cannot be read nobody comes in by a key and
none is made, for what cannot be read must not be written over; each further question tries again.

A change of keys is on the disk before anybody hears of it. What is spent is written at most every
`WRITE_EVERY` seconds, and at the end: a process that is killed forgets no more than that.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from brokerd.core.access import key_revoked, key_unknown
from brokerd.core.keys import KEYS_MAX, KeptKeys, digest_of, rule_of
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.gate.purse import Purse


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.access import Rule
    from brokerd.core.keys import Key
    from brokerd.ports import KeyStore


__all__ = ["REVOKED_MAX", "WRITE_EVERY", "Keyring", "NoKeys"]

log = logging.getLogger(__name__)

WRITE_EVERY: Final = 30.0
"""Seconds between two writes of what was spent: an fsync takes milliseconds of everybody's."""

REVOKED_MAX: Final = 256
"""Revoked keys that are remembered to be told from unknown ones; the oldest are forgotten."""


class NoKeys:
    """A store that holds none and keeps none, for a gate without keys."""

    def load(self) -> KeptKeys:
        """Return none."""
        return KeptKeys()

    def save(self, kept: KeptKeys) -> None:  # noqa: ARG002 - the port's
        """Refuse."""
        text = "this broker keeps no keys"
        raise PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "no_key_store", text))


class Keyring:
    """See the module's docstring. Errors of the store come through as they are."""

    def __init__(
        self, store: KeyStore, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        """`clock` gives monotonic seconds, `wall` Unix seconds."""
        self._store = store
        self._clock = clock
        self.wall = wall
        self._is_read = False
        self._by_digest: dict[str, Key] = {}
        self._revoked: dict[str, str] = {}
        self._purse = Purse(wall, self._owes)
        self.of_rules = Purse(wall, self._owes)
        """What was used of the rules' budgets, which rests beside what keys have used."""
        self._is_owed = False
        """Whether something was spent that is not written."""
        self._write_at = float("-inf")

    # -- keys ---------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[Key, ...]:
        """All that were read, in the order they were made."""
        return tuple(self._by_digest.values())

    @property
    def rules(self) -> dict[str, Rule]:
        """What each leaves, by its name."""
        return {key.name: rule_of(key) for key in self._by_digest.values()}

    def read(self) -> bool:
        """Read the store unless that was done; return whether it was done now."""
        if self._is_read:
            return False
        kept = self._store.load()
        self._by_digest = {key.digest: key for key in kept.keys}
        self._revoked = dict(kept.revoked)
        self._purse.put({name: each for name, each in kept.spent.items() if self.named(name)})
        unwritten = self.of_rules.today
        self.of_rules.put(kept.of_rules)
        for name, each in unwritten.items():
            self.of_rules.add(name, each.tokens)
        self._is_read = True
        return True

    def named(self, name: str) -> Key | None:
        """Return the key of that name."""
        return next((key for key in self._by_digest.values() if key.name == name), None)

    def shown(self, text: str) -> Key:
        """Return the key with that text, expired or not.

        Raises PermanentError DENIED `key_unknown` or `key_revoked`.
        """
        digest = digest_of(text)
        key = self._by_digest.get(digest)
        if key is None:
            name = self._revoked.get(digest)
            raise PermanentError(key_unknown() if name is None else key_revoked(name))
        return key

    def add(self, key: Key) -> Key | None:
        """Keep one more; return the expired one of that name which it replaces.

        Raises PermanentError: `key_exists`, `too_many_keys`.
        """
        self.read()
        before = self.named(key.name)
        if before is not None and not before.is_expired(self.wall()):
            raise PermanentError(_exists(key.name))
        if before is None and len(self._by_digest) >= KEYS_MAX:
            raise PermanentError(_TOO_MANY)
        self._replace(before, key)
        return before

    def revoke(self, name: str) -> Key:
        """Forget one, and remember that it was revoked. Raises PermanentError `key_not_found`."""
        self.read()
        key = self.named(name)
        if key is None:
            raise PermanentError(_not_found(name))
        self._replace(key, None)
        return key

    def _replace(self, old: Key | None, new: Key | None) -> None:
        """Write first: what could not be written does not hold."""
        by_digest, revoked = dict(self._by_digest), dict(self._revoked)
        spent = dict(self._purse.all)
        if old is not None:
            del by_digest[old.digest]
            spent.pop(old.name, None)
            revoked[old.digest] = old.name
            while len(revoked) > REVOKED_MAX:
                del revoked[next(iter(revoked))]
        if new is not None:
            by_digest[new.digest] = new
        of_rules = self.of_rules.today
        self._store.save(KeptKeys(tuple(by_digest.values()), spent, revoked, of_rules))
        self._by_digest, self._revoked = by_digest, revoked
        self._purse.put(spent)
        self._written()

    # -- what they spend ----------------------------------------------------------------------

    def spent(self, name: str) -> int:
        """Return the tokens that a key has used today (UTC)."""
        return self._purse.spent(name)

    def spend(self, name: str, tokens: int) -> None:
        """Add to that; of a key that there is not any more nothing is kept."""
        if tokens > 0 and self.named(name) is not None:
            self._purse.add(name, tokens)

    def _owes(self) -> None:
        self._is_owed = True
        if self._clock() >= self._write_at:
            self.write()

    def over_budget(self, key: Key) -> Failure | None:
        """Why it may not go on today: its budget is used up."""
        return self._purse.over_budget(key)

    def write(self) -> None:
        """Write what was spent since the last time. An error is logged: the next write has it."""
        if not (self._is_owed and self._is_read):  # what was not read must not be written over
            return
        kept = KeptKeys(self.keys, self._purse.all, self._revoked, self.of_rules.today)
        try:
            self._store.save(kept)
        except BrokerError as error:
            log.warning("spent tokens not written", extra={"REASON": error.failure.message})
            self._write_at = self._clock() + WRITE_EVERY
            return
        self._written()

    def _written(self) -> None:
        self._is_owed = False
        self._write_at = self._clock() + WRITE_EVERY


_TOO_MANY: Final = Failure(
    ErrorClass.USAGE,
    "too_many_keys",
    f"there are {KEYS_MAX} keys, and no more may be",
    "Revoke one that nobody uses: copilot-cred key list",
)


def _exists(name: str) -> Failure:
    return Failure(
        ErrorClass.USAGE,
        "key_exists",
        f"there is a key named {name}",
        f"Choose another name, or end that one first: copilot-cred key revoke {name}",
    )


def _not_found(name: str) -> Failure:
    return Failure(
        ErrorClass.USAGE,
        "key_not_found",
        f"there is no key named {name}",
        "See the names: copilot-cred key list",
    )
