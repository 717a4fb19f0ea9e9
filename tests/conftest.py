"""Every test is watched for the secrets it makes; `canary.plugin` says how.

Where pytest-xdist spreads a run over processes, a file of tests stays whole, and all of the tests
under the user manager stay together: wheel and users are made once.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from canary.plugin import Canaries


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Canaries(config), "canaries")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            """Return what runs in one process, in order; what has most tests is begun first."""
            file = PurePosixPath(nodeid.partition("::")[0])
            return "system" if "system" in file.parts else str(file)

    return Together(config, log)
