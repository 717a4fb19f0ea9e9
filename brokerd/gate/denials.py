"""The records of refusals: every one is in the log, and no flood of them can fill it.

The first of a connection's refusals for one reason is a record at once, the others of that minute
are one record with their COUNT. Connections can be many too: so all of one user at one socket have
`OF_ALL` such records a minute, then these are counted together as well, and the process in the
record is the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.core.access import OPERATIONS
from brokerd.core.audit import OPERATION_DENIED, PEER_DENIED
from brokerd.gate.records import warn
from brokerd.gate.repeats import Repeats


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.peer import Peer
    from brokerd.errors import Failure
    from brokerd.gate.caller import Caller


__all__ = ["Denials"]

OF_ALL: Final = 20
"""Records a minute of one (uid, listener, operation, reason): enough to see who does what, and the
local log of five thousand still reaches back for hours."""


class Denials:
    """Writes refusals down, for all callers of one gate."""

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

    def operation(
        self, caller: Caller, operation: str, failure: Failure
    ) -> tuple[Caller, str, str]:
        """Tell of what a caller was refused; return what `end` wants when it closes."""
        known = operation if operation in OPERATIONS else "unknown"  # a peer's word stays outside
        peer, listener, rights = caller.peer, caller.listener, caller.rights

        def write(count: int) -> None:
            fields = {"OPERATION": known, "REASON": failure.code, "COUNT": count}
            warn(OPERATION_DENIED, peer, listener, rights, **fields)

        def of_one(count: int) -> None:
            key = (peer.uid, listener, known, failure.code)
            self._of_all.tell(key, write, self._clock(), count)

        key = (caller, known, failure.code)
        self._of_one.tell(key, of_one, self._clock())
        return key

    def end(self, key: tuple[Caller, str, str]) -> None:
        """Write what a connection was refused, for it closes."""
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
