"""Fixtures of the broker's tests."""

import pytest

from fakes.broker_world import World


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
