"""`python -m copilot_broker.cli` is `copilot-cred`."""

from __future__ import annotations

import sys

from copilot_broker.cli import main


__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
