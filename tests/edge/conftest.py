"""Fixtures of the broker's tests."""

import pytest

from fakes.audit import listening
from fakes.broker_world import World


@pytest.fixture(autouse=True)
def audit_trail():
    """What the audit log has been told; whatever a test is about, its records are well-formed."""
    with listening() as trail:
        yield trail
    assert trail.flaws == []


@pytest.fixture
async def world():
    world = World()
    yield world
    if world.task is not None:
        await world.stop()


@pytest.fixture
async def ready(world):
    world.keep_login()
    await world.start()
    assert world.view().state == "ready"
    return world
