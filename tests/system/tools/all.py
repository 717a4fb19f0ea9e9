"""Do every recipe with its real tool, the large ones as well; tell versions and figures.

    python tests/system/tools/all.py             the pinned versions
    python tests/system/tools/all.py --newest    the latest of each

By hand, and as root or with passwordless sudo like all tests of the installed daemon.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path


ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from system.clients import install  # noqa: E402 - its place had to be said first
from system.tools.registry import ALL, NOT_RUN, TOOLS  # noqa: E402


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    os.environ[ALL] = "1"
    if "--newest" in sys.argv[1:]:
        os.environ[install.NEWEST] = "1"
    versions = {}
    for environment in dict.fromkeys(["sdk", *(each.environment for each in TOOLS.values())]):
        folder = install.one(environment)
        for name, tool in TOOLS.items():
            if tool.environment == environment:
                versions[name] = install.version(environment, folder, tool.package)
    if install.NEWEST in os.environ:
        os.environ[install.NEWEST] = "kept"  # the tests take what is there now
    results = _results()
    tell(f"\n{'tool':<18} {'version':<12} {'by hand':<8} {'under exec':<8}")
    for name in [*TOOLS, "curl"]:
        ways = [results.get(f"{name} {way}", "-") for way in ("by_hand", "under_exec")]
        tell(f"{name:<18} {versions.get(name, ''):<12} {ways[0]:<8} {ways[1]:<8}")
    for name, reason in NOT_RUN.items():
        tell(f"{name:<18} not run: {reason}")
    return 0 if set(results.values()) == {"good"} else 1


def _results() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        tests = ROOT / "tests/system/test_tools.py"
        command = [sys.executable, "-m", "pytest", tests, f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, check=False)
        cases = list(ET.parse(report).iter("testcase"))
    return {
        _name(case.get("name", "")): "bad"
        if any(case.find(each) is not None for each in ("failure", "error", "skipped"))
        else "good"
        for case in cases
    }


def _name(test: str) -> str:
    """`test_by_hand[aider]` and `test_curl_by_hand` → the tool and the way."""
    way = "under_exec" if "under_exec" in test else "by_hand"
    return f"{test.partition('[')[2].rstrip(']') or test.split('_')[1]} {way}"


if __name__ == "__main__":
    sys.exit(main())
