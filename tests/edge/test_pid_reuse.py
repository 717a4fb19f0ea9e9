"""P4: whoever gets a process' number gets nothing else of it, neither identity nor connection.

On the real kernel, with the real door, gate and peer credentials, in a small pid namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root to make a pid namespace and to choose numbers in it"
)

PROGRAM = Path(__file__).with_name("reused_pid.py")
NEW_NAMESPACE = ("/usr/bin/unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def reuse(when: str, how: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*NEW_NAMESPACE, sys.executable, PROGRAM, when, how, folder],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert {pid for pid, _, _ in told["seen"]} == {told["number"]}  # it did change hands
    return told


@pytest.mark.parametrize("kernel", ["kernel", "older"])
def test_a_connection_dies_with_its_process_whoever_has_its_number(tmp_path, kernel):
    told = reuse("accepted", kernel, tmp_path)
    (_, first, first_lives), (_, second, second_lives) = told["seen"]
    assert (first, first_lives) == ("first", True)
    assert told["old"] in ("closed", "refused")
    assert (second, second_lives) == ("second", True)
    assert told["own"] == "token"


def test_a_connection_that_waited_does_not_become_the_next_owners(tmp_path):
    told = reuse("waiting", "kernel", tmp_path)
    (_, first, first_lives), (_, second, second_lives) = told["seen"]
    assert (first, first_lives) == ("", False)  # never "second"
    assert told["old"] == "closed"
    assert (second, second_lives) == ("second", True)
    assert told["own"] == "token"


@pytest.mark.parametrize(("when", "whose"), [("accepted", "first"), ("waiting", "second")])
def test_by_its_number_alone_it_would_pass(tmp_path, when, whose):
    """The control: without the pidfd the second process is taken for the first."""
    told = reuse(when, "number", tmp_path)
    assert told["seen"][0][1:] == [whose, True]
    assert told["old"] == "token"
