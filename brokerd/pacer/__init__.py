"""The pacing gate: one for all tools of a person, so that upstream's limits bind everybody.

Accounts are names, and a person may have several: those share one gate. The rules are
`core.pacing`'s; here are the clock, the waiters and their wake-ups. As long as upstream has
nothing against a person, a request costs a look-up and a counter. Only while somebody waits, or
all of an account cools down, one task per person naps until the next moment at which something
changes by itself.
"""

from __future__ import annotations

from brokerd.pacer.pacer import Pacer
from brokerd.pacer.ticket import Ticket


__all__ = ["Pacer", "Ticket"]
