"""`broker.lock`, `broker.unlock`: nobody gets anything until it is unlocked.

Of one connection one passphrase is tried at a time: who does not wait for the answer to a wrong
one, which takes longer each time, has to connect anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.rpc.call import Later
from brokerd.rpc.params import text_param


if TYPE_CHECKING:
    from brokerd.broker import Broker
    from brokerd.gate import Caller
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["UNLOCK_PENDING", "LockMethods"]

UNLOCK_PENDING: Final = Failure(
    ErrorClass.TEMPORARY,
    "unlock_pending",
    "another passphrase is being tried on this connection",
    "Wait for its answer, then run copilot-cred unlock",
    retry_after=1.0,
)


class LockMethods:
    """See the module's docstring."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._trying: WeakSet[Caller] = WeakSet()

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {"broker.lock": self._lock, "broker.unlock": self._unlock}

    def _lock(self, call: Call) -> Later:
        passphrase = text_param(call.params, "passphrase")

        async def locked() -> Answer:
            return {"locked": True, "changed": await self._broker.lock(passphrase)}

        return Later(locked)

    def _unlock(self, call: Call) -> Later:
        passphrase = text_param(call.params, "passphrase")

        async def unlocked() -> Answer:
            if call.caller in self._trying:
                raise TransientError(UNLOCK_PENDING)
            self._trying.add(call.caller)
            try:
                return {"locked": False, "changed": await self._broker.unlock(passphrase)}
            finally:
                self._trying.discard(call.caller)

        return Later(unlocked)
