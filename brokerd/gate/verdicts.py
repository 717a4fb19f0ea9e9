"""The records of what was refused and what was let do: all are in the log, no flood can fill it.

The first of a connection's refusals for one reason is a record at once, the others of that minute
are one record with their COUNT. Its admin operations are counted likewise, by the account they are
for: those that only look may be asked for in a loop. Connections can be many too: so all of one
user at one socket have `OF_ALL` such records a minute, then these are counted together as well,
and the process (and account) in the record is the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from brokerd.core.access import OPERATIONS
from brokerd.core.audit import OPERATION_DENIED, OPERATION_GRANTED, PEER_DENIED
from brokerd.gate.records import loggable_account, note, warn
from brokerd.gate.repeats import Repeats


if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from brokerd.core.access import Rights
    from brokerd.core.peer import Peer
    from brokerd.errors import Failure

    Key: TypeAlias = "tuple[Judged, str, str, str]"


__all__ = ["OF_ALL", "Judged", "Verdicts"]

OF_ALL: Final = 20
"""Records a minute of one (uid, listener, operation, reason): enough to see who does what, and the
local log of five thousand still reaches back for hours."""


class Judged(Protocol):
    """Somebody inside, as far as a record tells of them."""

    peer: Peer
    listener: str
    rights: Rights


class Verdicts:
    """Writes down what was decided, for all callers of one gate."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._peers = Repeats(1)
        self._of_one = Repeats(1)
        self._of_all = Repeats(OF_ALL)

    def peer(self, peer: Peer, listener: str, failure: Failure) -> None:
        """Tell of a connection that was not let in."""

        def write(count: int) -> None:
            warn(PEER_DENIED, peer, listener, None, REASON=failure.code, COUNT=count)

        self._peers.tell((peer.uid, listener, failure.code), write, self._clock())

    def refused(self, caller: Judged, operation: str, failure: Failure) -> Key:
        """Tell of what a caller was refused; return what `end` wants when it closes."""
        known = operation if operation in OPERATIONS else "unknown"  # a peer's word stays outside
        peer, listener, rights = caller.peer, caller.listener, caller.rights

        def write(count: int) -> None:
            fields = {"OPERATION": known, "REASON": failure.code, "COUNT": count}
            warn(OPERATION_DENIED, peer, listener, rights, **fields)

        key = (caller, known, "denied", failure.code)
        self._tell(key, (peer.uid, listener, known, "denied", failure.code), write)
        return key

    def granted(self, caller: Judged, operation: str, account: object) -> Key:
        """Tell of what a caller is let do to that account; return what `end` wants."""
        named = loggable_account(account)
        peer, listener, rights = caller.peer, caller.listener, caller.rights

        def write(count: int) -> None:
            fields = {"OPERATION": operation, "ACCOUNT": named, "COUNT": count}
            note(OPERATION_GRANTED, peer, listener, rights, **fields)

        key = (caller, operation, "granted", named)
        self._tell(key, (peer.uid, listener, operation, "granted"), write)
        return key

    def end(self, key: Key) -> None:
        """Write what is counted of a connection, for it closes."""
        self._of_one.end(key)

    def write_due(self) -> None:
        """Write what has been counted for a minute."""
        now = self._clock()
        for repeats in (self._peers, self._of_one, self._of_all):
            repeats.write_due(now)

    def end_all(self) -> None:
        """Write all that is counted: rights change, or the daemon stops."""
        for repeats in (self._peers, self._of_one, self._of_all):  # one's go to all's
            repeats.end_all()

    def _tell(self, key: Key, key_of_all: Hashable, write: Callable[[int], None]) -> None:
        def of_one(count: int) -> None:
            self._of_all.tell(key_of_all, write, self._clock(), count)

        self._of_one.tell(key, of_one, self._clock())
