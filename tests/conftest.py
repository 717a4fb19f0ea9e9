"""Every test is watched for the secrets it makes; `canary.plugin` says how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from canary.plugin import Canaries


if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Canaries(config), "canaries")
