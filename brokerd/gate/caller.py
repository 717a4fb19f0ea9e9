"""One admitted connection: what it may do, what it was given, and the records of both.

One record for every (connection, token) grant and one with the count when that token rotates or
the connection closes. Completions are counted likewise, per (connection, account). Denials and
admin operations are records too, and those that repeat are counted (`verdicts`). What is written
because it closes may follow a little later (`backlog`).

A busy agent asks for its token again and again. So what the scope alone decides is decided once
and remembered; whoever is limited further (`Rights.is_limited`) is looked at each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from brokerd.core.access import (
    COUNTED,
    OF_AN_ACCOUNT,
    OPERATIONS,
    SPENDING,
    Rates,
    Scope,
    peer_gone,
)
from brokerd.core.audit import (
    COMPLETION_GRANTED,
    COMPLETION_TOTAL,
    PEER_DENIED,
    TOKEN_GRANTED,
    TOKEN_TOTAL,
)
from brokerd.errors import Failure, PermanentError, TransientError
from brokerd.gate.records import note, warn


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.core.access import Decision, Rights
    from brokerd.core.audit import AuditEvent
    from brokerd.core.peer import Peer
    from brokerd.gate.backlog import Backlog
    from brokerd.gate.purse import Purse
    from brokerd.gate.verdicts import Key, Verdicts


__all__ = ["Caller", "Ground"]


TOLD_MAX: Final = 64
"""Different things that are counted for one connection, which may think up names of accounts; for
one more all of them are written."""


@dataclass(frozen=True)
class Ground:
    """What all callers of one gate share."""

    rates: Rates
    clock: Callable[[], float]
    default_account: Callable[[], str]
    verdicts: Verdicts
    backlog: Backlog
    purse: Purse
    """What was used of the rules' budgets."""
    inside: set[Caller] = field(default_factory=set)
    """Those who were admitted and not closed yet."""


class Caller:
    """See the module's docstring."""

    account: str | None = None
    """The account that its key is for; None: nobody has said one."""

    def __init__(
        self,
        peer: Peer,
        listener: str,
        rights: Rights,
        ground: Ground,
        *,
        at: str = "",
        within: Caller | None = None,
    ) -> None:
        """`within` is the connection's caller for one that only adds a key to it."""
        self.peer = peer
        self.listener = listener
        self.at = at
        """The address of the run that it came to; "" where the listener's name says all."""
        self.rights = rights
        self.models_matter = bool(rights.models)
        """Whether `check` wants to know the model of a completion."""
        self.on_revoked: Callable[[], None] | None = None
        """The door's: called when new rules do not admit this peer any more; it closes."""
        self._ground = ground
        self._revoked: Failure | None = None
        self._is_alive = peer.is_alive
        self._granted: dict[str, tuple[str, int]] = {}
        """account → (token_id, times lent); as many as there are accounts."""
        self._completed: dict[str, int] = {}
        """account → completions."""
        self._allowed: set[str] = set()
        """Operations that were asked about and are allowed whatever the account, model or rate."""
        self._told: set[Key] = set()
        """What it was refused and let do, by the names that `verdicts` gave it."""
        self.on_close: tuple[Callable[[], None], ...] = ()
        """Called when it closes; the gate's, for what it keeps of this one."""
        if within is None:
            ground.inside.add(self)

    @property
    def scope(self) -> Scope:
        """The highest scope it has."""
        return self.rights.scope

    def check(self, operation: str, account: object = None, model: object = None) -> None:
        """Raise unless this connection may do that; call once a request, before it is done.

        `account` and `model` are the peer's words for whose and which, of any type; None: it names
        none. A completion has to say its model where `models_matter`. Raises PermanentError
        (DENIED, or USAGE for what there is not), or TransientError (`request_rate`, `budget`).
        """
        if operation not in self._allowed:
            self._check_all(operation, account, model)
        if OPERATIONS[operation] is Scope.ADMIN:
            self._remember(self._ground.verdicts.granted(self, operation, account))

    def grant(self, operation: str, account: str, token_id: str) -> None:
        """Account for a token that is about to leave; call with no await before it is sent.

        Raises PermanentError (DENIED) when the process has ended, or when rules that came after
        `check` do not let it have this token.
        """
        self.prove_alive(operation)
        if operation not in self._allowed:
            failure = self._refuse(operation, account)
            if failure is not None:
                self._deny(operation, failure)
        self._count(operation, account, token_id)

    def grant_at_once(self, operation: str, account: str, token_id: str) -> bool:
        """Do as `check` and `grant` together; where one would refuse, return False, write nothing.

        For whoever can ask again by the long way, where the denial is told and written down.
        """
        if operation not in self._allowed and not self._allow_at_once(operation, account):
            return False
        if not self._is_alive():
            return False
        granted = self._granted.get(account)
        if granted is not None and granted[0] == token_id:
            self._granted[account] = (token_id, granted[1] + 1)
        else:
            self._count(operation, account, token_id)
        return True

    def may_know(self, account: str) -> bool:
        """Whether it may be told of this account: one that it may be."""
        return self.rights.accounts is None or account in self.rights.accounts

    def pinned(self, operation: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return params that name the account which `check` has just looked at.

        Who is limited to some must not have another because the default one changes meanwhile.
        """
        if self.rights.accounts is None or params.get("account"):
            return params
        if operation not in OF_AN_ACCOUNT:
            return params
        return {**params, "account": self._ground.default_account()}

    def complete(self, account: str) -> None:
        """Account for a completion that upstream has begun to answer."""
        count = self._completed.get(account, 0)
        self._completed[account] = count + 1
        if count == 0:
            self._note(COMPLETION_GRANTED, OPERATION="completion.create", ACCOUNT=account)

    def spend(self, tokens: int) -> None:
        """Account for prompt and completion tokens of an answer."""
        if self.rights.budgets:
            for name in {rule.purse for rule in self.rights.budgets}:
                self._ground.purse.add(name, tokens)

    @property
    def has_budget(self) -> bool:
        """Whether anybody wants to know what `spend` is told."""
        return bool(self.rights.budgets)

    def prove_alive(self, operation: str) -> None:
        """Raise PermanentError (DENIED, `peer_gone`) when the peer's process has ended."""
        if not self._is_alive():
            self._deny(operation, peer_gone())

    def decided(self, decision: Decision) -> None:
        """Hold to a new decision from the next request on; the gate's to call."""
        self._allowed.clear()
        self._revoked = decision.failure
        if decision.rights is not None:
            self.rights = decision.rights
            self.models_matter = bool(decision.rights.models)
        elif decision.failure is not None:
            reason = decision.failure.code
            warn(PEER_DENIED, self.peer, self.listener, None, REASON=reason, COUNT=1)
            if self.on_revoked is not None:
                self.on_revoked()

    def close(self) -> None:
        """Let go of the peer's process and write the totals, or have them written (`backlog`).

        Closing twice is no error.
        """
        self._ground.inside.discard(self)
        for callback in self.on_close:
            callback()
        self.on_close = ()
        self.peer.close()
        self._write_totals()

    def _write_totals(self) -> None:
        self.on_revoked = None  # what waits to be written shall not hold the door's half
        verdicts, later = self._ground.verdicts, self._ground.backlog.add
        for key in self._told:
            later(partial(verdicts.end, key))
        self._told.clear()
        for account, (token_id, count) in self._granted.items():
            fields = {"ACCOUNT": account, "TOKEN_FP": token_id, "COUNT": count}
            later(partial(self._note, TOKEN_TOTAL, **fields))
        self._granted.clear()
        for account, count in self._completed.items():
            later(partial(self._note, COMPLETION_TOTAL, ACCOUNT=account, COUNT=count))
        self._completed.clear()

    def tell_denied(self, operation: str, failure: Failure) -> None:
        """Write down that it was refused, for whoever refuses by other rules than the gate's."""
        self._remember(self._ground.verdicts.refused(self, operation, failure))

    # -- deciding -----------------------------------------------------------------------------

    def _check_all(self, operation: str, account: object, model: object) -> None:
        failure = self._refuse(operation, account, model)
        if failure is not None:
            self._deny(operation, failure)
        if not self.rights.is_limited:
            self._allowed.add(operation)
        elif (failure := self._take(operation)) is not None:
            self.tell_denied(operation, failure)
            raise TransientError(failure)

    def _allow_at_once(self, operation: str, account: str) -> bool:
        if self._refuse(operation, account) is not None:
            return False
        if not self.rights.is_limited:
            self._allowed.add(operation)
            return True
        return self._is_alive() and self._take(operation) is None

    def _refuse(self, operation: str, account: object, model: object = None) -> Failure | None:
        if self._revoked is not None:
            return self._revoked
        return self.rights.refuse(operation, account, model, self._ground.default_account)

    def _take(self, operation: str) -> Failure | None:
        budgets, limits = self.rights.budgets, self.rights.limits
        if budgets and operation in SPENDING:
            failure = self._ground.purse.over_budgets(budgets)
            if failure is not None:
                return failure
        if not limits or operation not in COUNTED:
            return None
        return self._ground.rates.take(limits, self._ground.clock())

    # -- writing down -------------------------------------------------------------------------

    def _count(self, operation: str, account: str, token_id: str) -> None:
        before, count = self._granted.get(account, (token_id, 0))
        if before != token_id:
            self._note(TOKEN_TOTAL, ACCOUNT=account, TOKEN_FP=before, COUNT=count)
            count = 0
        self._granted[account] = (token_id, count + 1)
        if count == 0:
            self._note(TOKEN_GRANTED, OPERATION=operation, ACCOUNT=account, TOKEN_FP=token_id)

    def _remember(self, key: Key) -> None:
        if len(self._told) >= TOLD_MAX and key not in self._told:
            for each in self._told:
                self._ground.verdicts.end(each)
            self._told.clear()
        self._told.add(key)

    def _deny(self, operation: str, failure: Failure) -> NoReturn:
        self.tell_denied(operation, failure)
        raise PermanentError(failure)

    def _note(self, event: AuditEvent, **more: object) -> None:
        note(event, self.peer, self.listener, self.rights, **more)
