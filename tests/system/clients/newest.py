"""Run the tests of real clients with the latest of each instead of the pinned; tell the figures.

    python tests/system/clients/newest.py

By hand, and as root or with passwordless sudo like all tests of the installed daemon.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path


ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from system.clients import install  # noqa: E402 - its place had to be said first


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    os.environ[install.NEWEST] = "1"
    versions = install.clients().versions()
    os.environ[install.NEWEST] = "kept"  # the tests take what is there now
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        tests = ROOT / "tests/system/test_clients.py"
        command = [sys.executable, "-m", "pytest", tests, f"--junitxml={report}"]
        done = subprocess.run(command, cwd=ROOT, check=False)
        cases = list(ET.parse(report).iter("testcase"))
    counts: Counter[tuple[str, bool]] = Counter()
    for case in cases:
        name = case.get("name", "")
        is_good = case.find("failure") is None and case.find("error") is None
        counts[_client_of(name), is_good] += 1
    tell(f"\n{'client':<40} {'version':<12}")
    for name, version in sorted(versions.items()):
        tell(f"{name:<40} {version:<12}")
    tell(f"\n{'tests of':<16} {'good':>5} {'bad':>5}")
    for client in sorted({each for each, _ in counts}):
        tell(f"{client:<16} {counts[client, True]:>5} {counts[client, False]:>5}")
    return done.returncode


def _client_of(name: str) -> str:
    test, _, inside = name.partition("[")
    if "curl" in test:
        return "curl"
    if "agent" in test:
        return "pi"
    return inside.split("-")[0].rstrip("]") if "scene" in test else "all together"


if __name__ == "__main__":
    sys.exit(main())
