"""One key on one connection: a caller with the rights that the key leaves, and its budget.

It belongs to the connection's own caller, which keeps it, decides with it and closes it. So many
keys on one connection are still one connection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from brokerd.core.access import SPENDING, key_expired
from brokerd.errors import TransientError
from brokerd.gate.caller import Caller


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.access import Policy, Rights
    from brokerd.core.keys import Key
    from brokerd.errors import Failure
    from brokerd.gate.caller import Ground


__all__ = ["KeyedCaller", "Ring"]


class Ring(Protocol):
    """Where a key hangs: with the kept ones, or with those that pass."""

    wall: Callable[[], float]
    """Unix seconds."""

    def over_budget(self, key: Key) -> Failure | None:
        """Why it may not go on today."""
        ...

    def spend(self, name: str, tokens: int) -> None:
        """Count what it has used; of a key that there is not any more nothing is kept."""
        ...


class KeyedCaller(Caller):
    """See the module's docstring. `on_revoked` is the connection's, unless the door sets it."""

    def __init__(self, of: Caller, key: Key, rights: Rights, ground: Ground, ring: Ring) -> None:
        """`of` is the connection's own caller, whose process this one lends."""
        peer = replace(of.peer, key=key.name)
        super().__init__(peer, of.listener, rights, ground, at=of.at, within=of)
        self.key = key
        self.account = key.account
        self._of: Caller | None = of
        self._ring = ring
        self.on_revoked = self._close_connection

    def prove_valid(self) -> None:
        """Raise PermanentError (DENIED): the key was revoked, or it has expired by now."""
        if self._revoked is not None:
            self._deny("http.request", self._revoked)
        if self.key.is_expired(self._ring.wall()):
            self._deny("http.request", key_expired(self.key.name))

    def check(self, operation: str, account: object = None, model: object = None) -> None:
        """Do as the caller does, and hold to the budget: TransientError `key_budget`."""
        if self.key.budget is not None and operation in SPENDING:
            failure = self._ring.over_budget(self.key)
            if failure is not None and self._refuse(operation, account, model) is None:
                self.tell_denied(operation, failure)
                raise TransientError(failure)
        super().check(operation, account, model)

    def spend(self, tokens: int) -> None:
        """Count tokens against the key's budget, for `key list`, and against the rules'."""
        self._ring.spend(self.key.name, tokens)
        super().spend(tokens)

    @property
    def has_budget(self) -> bool:
        """What any key has used is shown."""
        return True

    def redecide(self, policy: Policy) -> None:
        """Hold to new rules, unless the key does not hold any more at all.

        One that has expired may be forgotten by now: what was begun in time is not cut for that.
        """
        if self._revoked is None and not self.key.is_expired(self._ring.wall()):
            self.decided(policy.decide(self.peer, self.listener))

    def close(self) -> None:
        """Write its totals; the process stays the connection's."""
        self._write_totals()
        self._of = None

    def _close_connection(self) -> None:
        if self._of is not None and self._of.on_revoked is not None:
            self._of.on_revoked()
