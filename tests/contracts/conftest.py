"""Stores to try, each fresh; the keyring is a real one on a private bus."""

from __future__ import annotations

import pytest

from brokerd.core.tokens import GitHubToken, Login, User
from brokerd.dbus.bus import SessionBus
from brokerd.dbus.secret_service import SecretServiceStore
from brokerd.stores.file import FileStore
from brokerd.stores.memory import MemoryStore
from contracts.private_bus import PrivateBus
from fakes.store import FakeStore


def make_login(user_id=583231, host="github.com", token="gho_canary_value", **more):
    return Login(
        host, User(user_id, "octocat"), GitHubToken(token, **more), "Iv1.b507a08c87ecfe98"
    )


@pytest.fixture
def private_bus():
    bus = PrivateBus()
    yield bus
    bus.close()


@pytest.fixture
def keyring(private_bus):
    private_bus.start_keyring()
    return private_bus


@pytest.fixture
def secret_service(keyring):
    bus = SessionBus(keyring.address)
    yield SecretServiceStore(bus)
    bus.close()


@pytest.fixture(params=["fake", "memory", "file", "secret-service"])
def store(request, tmp_path):
    if request.param == "fake":
        return FakeStore()
    if request.param == "memory":
        return MemoryStore()
    if request.param == "file":
        return FileStore(tmp_path / "state" / "logins")
    return request.getfixturevalue("secret_service")
