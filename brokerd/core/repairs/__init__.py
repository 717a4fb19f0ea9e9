"""Small changes to bytes in flight, without which real clients fail on real answers of Copilot's.

Everything else passes through untouched. Each repair has a name, a switch in `[http.repairs]`
and a look at the bytes that decides whether it reads them at all; see `catalogue` for the list,
`asking` for requests and `answering` for answers, and docs/http.md for people.
"""

from __future__ import annotations

from brokerd.core.repairs.catalogue import NAMES, REPAIRS, Repair


__all__ = ["NAMES", "REPAIRS", "Repair"]
