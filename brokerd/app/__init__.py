"""The composition root: the one folder that knows every edge and wires them together.

`daemon` makes the parts and runs them, `setup` is what argv and environment decided, `wiring` fits
edges to configuration, `doctor` looks at how everything stands.
"""

from __future__ import annotations

from brokerd.app.daemon import run
from brokerd.app.setup import Setup


__all__ = ["Setup", "run"]
