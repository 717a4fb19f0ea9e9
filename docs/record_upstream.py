"""Write docs/upstream.md, or say whether it is what the code does now.

    python docs/record_upstream.py           rewrites the page
    python docs/record_upstream.py --check   exits 1 with the difference when it is out of date

A path as argument means that page instead.

Needs the tests' tools: pip install -e '.[daemon,dev]'
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import logging
import os
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "upstream.md"

# `recording`, and the names of GitHub that the tests have for the simulator.
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tests")]

from recording.page import COMMAND, page  # noqa: E402 - found by the line above


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/upstream.md from recorded traffic.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 = out of date")
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    arguments = parser.parse_args()
    for name in ("no_proxy", "NO_PROXY"):  # GitHub's names must lead to the simulator here
        os.environ.pop(name, None)
    # Refusals are asked for here; nobody needs to be warned of them.
    logging.getLogger("brokerd").addHandler(logging.NullHandler())
    made = asyncio.run(page())
    if not arguments.check:
        arguments.page.write_text(made, encoding="utf-8")
        return 0
    kept = arguments.page.read_text(encoding="utf-8") if arguments.page.exists() else ""
    difference = difflib.unified_diff(
        kept.splitlines(), made.splitlines(), arguments.page.name, "now", lineterm=""
    )
    if kept == made:
        return 0
    print("\n".join(difference))
    print(f"{arguments.page.name} is not what the code does now; run: {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
