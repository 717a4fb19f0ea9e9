"""The linters are tests: what they find fails the one command that everybody runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]

COMMANDS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "the floors": ["lint-imports"],
}


def find(tool: str) -> str:
    """Return the tool beside this Python, else on PATH; a missing one may skip only outside CI."""
    beside = shutil.which(tool, path=str(Path(sys.executable).parent))
    if found := beside or shutil.which(tool):
        return found
    reason = f"{tool} is missing; install it: pip install -e '.[dev]'"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.timeout(300)  # the first mypy run of a clone has no cache
@pytest.mark.parametrize("name", COMMANDS)
def test_linter_is_content(name: str) -> None:
    tool, *arguments = COMMANDS[name]
    done = subprocess.run(
        [find(tool), *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


SCRIPTS = ["packaging/debian-packages.sh", "packaging/set-up", "packaging/first-run",
           "packaging/test", "packaging/user-manager", ".ci/run"]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_script_parses(script: str) -> None:
    done = subprocess.run(
        ["bash", "-n", ROOT / script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
