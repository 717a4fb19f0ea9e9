"""The gate: who is asking, may they, and a line in the audit log. Both doors go through here.

`core.policy` decides, this file does: it refuses by raising, polls the peer's process right
before a secret leaves, and writes one record for every denial, one for every (connection, token)
grant and one with the count when that token rotates or the connection closes. Completions are
counted likewise, per (connection, account).

Every record carries the same fields: MESSAGE_ID, LISTENER, SCOPE, PEER_PID, PEER_UID, PEER_UNIT
and PEER_WEAK; denials add OPERATION and REASON, grants OPERATION, ACCOUNT and TOKEN_FP, totals
ACCOUNT, TOKEN_FP and COUNT; those of completions and of admin operations have no TOKEN_FP.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from brokerd.core.policy import OPERATIONS, Policy, Scope, peer_gone
from brokerd.core.setting_checks import NotAllowedError, account_name
from brokerd.errors import Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Collection

    from brokerd.core.peer import Peer


__all__ = ["Caller", "Gate"]

log = logging.getLogger(__name__)

# For `journalctl --user MESSAGE_ID=…`; never changed (systemd.journal-fields(7)).
_PEER_DENIED_ID = "99a15f50ce644a25b1a6e3e1129bcfef"
_OPERATION_DENIED_ID = "6fc075125b7d4b56ad68edcc147ba400"
_OPERATION_GRANTED_ID = "0c2f1d498ebd40c0bc89896b02c63405"
_LENT_ID = "7ed95af41db94594b55b8798d8a0d5f0"
_TOTAL_ID = "052856beac184803897b42c3ebcb9485"
_COMPLETING_ID = "6cbdf8eff66e44849f310612f546f85d"
_COMPLETED_ID = "66e2860f68084921bc37f931bf8c45a9"


class Gate:
    """Admits connections; one per daemon, used by every door."""

    def __init__(self, allowed_uids: Collection[int] = (), *, own_uid: int | None = None) -> None:
        own = os.getuid() if own_uid is None else own_uid
        self._policy = Policy(own, frozenset(allowed_uids))

    def admit(self, peer: Peer, listener: str) -> Caller:
        """Let a peer in that came through this named socket, before a byte of it is read.

        Raises PermanentError (DENIED) when its uid is not allowed or its process is gone.
        """
        scope = self._policy.scope_of(peer, listener)
        failure = self._policy.refuse_peer(peer)
        if failure is None and peer.gone:
            failure = peer_gone()
        if failure is not None:
            extra = _fields(peer, listener, scope, _PEER_DENIED_ID)
            log.warning("peer denied", extra={**extra, "REASON": failure.code})
            raise PermanentError(failure)
        return Caller(self._policy, peer, listener, scope)


class Caller:
    """One admitted connection: what it may do and what it was given."""

    def __init__(self, policy: Policy, peer: Peer, listener: str, scope: Scope) -> None:
        self._policy = policy
        self.peer = peer
        self.listener = listener
        self.scope = scope
        self._is_alive = peer.is_alive
        self._granted: dict[str, tuple[str, int]] = {}
        """account → (token_id, times lent); as many as there are accounts."""
        self._completed: dict[str, int] = {}
        """account → completions."""
        self._allowed: set[str] = set()
        """Operations that the policy was asked about and allowed; its rules never change."""

    def may(self, operation: str) -> bool:
        """Whether `check` would let it pass; nothing is written down."""
        if operation in self._allowed:
            return True
        if self._policy.refuse_operation(self.scope, operation) is not None:
            return False
        self._allowed.add(operation)
        return True

    def check(self, operation: str, account: object = None) -> None:
        """Raise PermanentError unless this connection may do that; nothing is done before.

        `account` is the peer's word for whose it is, of any type; None: it names none.
        """
        if not self.may(operation):
            failure = self._policy.refuse_operation(self.scope, operation)
            assert failure is not None
            self._deny(operation, failure)
        if OPERATIONS[operation] is Scope.ADMIN:
            extra = self._fields(_OPERATION_GRANTED_ID)
            extra |= {"OPERATION": operation, "ACCOUNT": _account_name(account)}
            log.info("operation granted", extra=extra)

    def grant(self, operation: str, account: str, token_id: str) -> None:
        """Account for a token that is about to leave; call with no await before it is sent.

        Raises PermanentError (DENIED, `peer_gone`) when the process has ended.
        """
        self.prove_alive(operation)
        self._count(operation, account, token_id)

    def grant_at_once(self, operation: str, account: str, token_id: str) -> bool:
        """Do as `check` and `grant` together; where one would refuse, return False, write nothing.

        For whoever can ask again by the long way, where the denial is told and written down.
        """
        if (operation not in self._allowed and not self.may(operation)) or not self._is_alive():
            return False
        granted = self._granted.get(account)
        if granted is not None and granted[0] == token_id:
            self._granted[account] = (token_id, granted[1] + 1)
        else:
            self._count(operation, account, token_id)
        return True

    def complete(self, account: str) -> None:
        """Account for a completion that upstream has begun to answer."""
        count = self._completed.get(account, 0)
        self._completed[account] = count + 1
        if count == 0:
            extra = self._fields(_COMPLETING_ID)
            extra |= {"OPERATION": "completion.create", "ACCOUNT": account}
            log.info("completion granted", extra=extra)

    def _count(self, operation: str, account: str, token_id: str) -> None:
        before, count = self._granted.get(account, (token_id, 0))
        if before != token_id:
            self._total(account, before, count)
            count = 0
        self._granted[account] = (token_id, count + 1)
        if count == 0:
            extra = self._fields(_LENT_ID)
            extra |= {"OPERATION": operation, "ACCOUNT": account, "TOKEN_FP": token_id}
            log.info("token granted", extra=extra)

    def prove_alive(self, operation: str) -> None:
        """Raise PermanentError (DENIED, `peer_gone`) when the peer's process has ended."""
        if not self._is_alive():
            self._deny(operation, peer_gone())

    def close(self) -> None:
        """Write the totals and let go of the peer's process; closing twice is no error."""
        for account, (token_id, count) in self._granted.items():
            self._total(account, token_id, count)
        self._granted.clear()
        for account, count in self._completed.items():
            extra = self._fields(_COMPLETED_ID)
            log.info("completions made", extra={**extra, "ACCOUNT": account, "COUNT": count})
        self._completed.clear()
        self.peer.close()

    def tell_denied(self, operation: str, failure: Failure) -> None:
        """Write down that it was refused, for whoever refuses by other rules than the policy's."""
        known = operation if operation in OPERATIONS else "unknown"  # a peer's word stays outside
        extra = self._fields(_OPERATION_DENIED_ID)
        log.warning(
            "operation denied", extra={**extra, "OPERATION": known, "REASON": failure.code}
        )

    def _deny(self, operation: str, failure: Failure) -> None:
        self.tell_denied(operation, failure)
        raise PermanentError(failure)

    def _total(self, account: str, token_id: str, count: int) -> None:
        extra = self._fields(_TOTAL_ID)
        extra |= {"ACCOUNT": account, "TOKEN_FP": token_id, "COUNT": count}
        log.info("token lent", extra=extra)

    def _fields(self, message_id: str) -> dict[str, object]:
        return _fields(self.peer, self.listener, self.scope, message_id)


def _account_name(word: object) -> str:
    """Return a peer's word as it may stand in a log: a name that an account can have."""
    if word is None:
        return "(default)"
    try:
        return account_name(word) if isinstance(word, str) else "(invalid)"
    except NotAllowedError:
        return "(invalid)"


def _fields(peer: Peer, listener: str, scope: Scope, message_id: str) -> dict[str, object]:
    return {
        "MESSAGE_ID": message_id,
        "LISTENER": listener,
        "SCOPE": scope.label,
        "PEER_PID": peer.pid,
        "PEER_UID": peer.uid,
        "PEER_UNIT": peer.unit,
        "PEER_WEAK": int(peer.weak),
    }
