"""Four clients, and what they are tried against."""

from __future__ import annotations

import pytest

from contracts.clients.by_design import LACKS
from contracts.clients.installing import CLIENTS, driver_of


@pytest.fixture(scope="module", params=CLIENTS)
def driver(request, tmp_path_factory):
    """Each client in turn, one process of it for all tests of a file."""
    driver = driver_of(request.param, tmp_path_factory.mktemp(request.param))
    yield driver
    driver.end()


@pytest.fixture
def client(driver):
    """A driver whose client is closed after the test; `open` comes first."""
    yield driver
    driver.close()


@pytest.fixture
def lacks(driver):
    """Skip nothing: tell a test what this client lacks on purpose."""
    return LACKS[driver.name]
