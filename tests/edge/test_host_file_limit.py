"""The soft limit of open files goes up as far as it may, and never down."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest


PROBE = """
import resource, sys
from brokerd.host.confinement.file_limit import raise_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
held = raise_file_limit()
assert held == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(held)
"""


@pytest.mark.parametrize(("soft", "hard", "holds"), [(100, 900, 900), (900, 900, 900)])
def test_goes_up_to_the_hard_limit(soft, hard, holds):
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= hard
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == holds
