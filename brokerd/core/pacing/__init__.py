"""When a request may go up: the pure rules of the pacing gate, one account at a time.

- `cooldowns`: what upstream wants fewer requests of, and until when;
- `circuit`: an upstream that fails is left alone, then tried with one request;
- `limit`: how many may be under way, once upstream has limited us;
- `fair_queue`: who must wait takes turns with the others, process by process;
- `model_name`: which model a request's body asks for;
- `gate` puts them together; `refused` words what a caller is told.

Times are seconds of a clock that counts suspend, given by the caller of each function.
"""

from __future__ import annotations

from brokerd.core.pacing.circuit import Circuit
from brokerd.core.pacing.cooldowns import Cooldown, Cooldowns
from brokerd.core.pacing.fair_queue import FairQueue
from brokerd.core.pacing.gate import AccountGate
from brokerd.core.pacing.limit import Limit
from brokerd.core.pacing.model_name import model_of
from brokerd.core.pacing.refused import queue_full, queued_too_long


__all__ = [
    "AccountGate",
    "Circuit",
    "Cooldown",
    "Cooldowns",
    "FairQueue",
    "Limit",
    "model_of",
    "queue_full",
    "queued_too_long",
]
