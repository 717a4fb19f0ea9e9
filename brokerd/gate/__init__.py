"""The gate: who is asking, may they, and a line in the audit log. All doors go through here.

`core.access` decides, this folder does: `admission` lets connections in and decides anew when the
rules change, a `caller` is one of them and refuses by raising, `records` writes down; `verdicts`
keeps a flood of requests (`repeats`) from filling the log, and a `backlog` keeps the records of a
crowd that leaves from holding up those who stay. A `keyring` has the keys of the HTTP door,
`passing` the ones that nobody keeps, a `purse` what each has spent, and a `keyed` caller is a
connection that has shown one.
"""

from __future__ import annotations

from brokerd.gate.admission import Gate
from brokerd.gate.caller import Caller


__all__ = ["Caller", "Gate"]
