"""The usage ledger at rest: a `journal` that every request is written into, and a `database`.

`ledger` puts both together. SQLite is imported when something is folded or read, not before.
"""

from __future__ import annotations

from brokerd.stores.ledger.ledger import Ledger


__all__ = ["Ledger"]
