"""The gate: who is asking, may they, and a line in the audit log. All doors go through here.

`core.access` decides, this folder does: `admission` lets connections in and decides anew when the
rules change, a `caller` is one of them and refuses by raising, `records` writes down; `denials`
keeps a flood of refusals (`repeats`) from filling the log.
"""

from __future__ import annotations

from brokerd.gate.admission import Gate
from brokerd.gate.caller import Caller


__all__ = ["Caller", "Gate"]
