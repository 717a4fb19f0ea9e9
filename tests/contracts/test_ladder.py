"""Which store a login goes to: what is asked for, else the Secret Service, else nowhere."""

from __future__ import annotations

import pytest

from brokerd.dbus.bus import SessionBus
from brokerd.dbus.secret_service import SecretServiceStore
from brokerd.errors import BrokerError, ErrorClass, PermanentError
from brokerd.stores.file import FileStore
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore


pytestmark = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")


@pytest.fixture
def made():
    return []


@pytest.fixture
def stores(tmp_path, made):
    """A factory: LoginStores on the bus at an address, noting each Secret Service made."""
    buses = []

    def on(address, default="auto"):
        def secret_service():
            buses.append(SessionBus(address, {"XDG_RUNTIME_DIR": str(tmp_path)}))
            made.append(SecretServiceStore(buses[-1]))
            return made[-1]

        return LoginStores(
            file=FileStore(tmp_path / "state" / "logins"),
            memory=MemoryStore(),
            secret_service=secret_service,
            default=default,
        )

    yield on
    for bus in buses:
        bus.close()


async def test_auto_takes_the_secret_service(keyring, stores):
    ladder = stores(keyring.address)
    for kind in (None, "auto", "secret-service"):
        assert (await ladder.choose(kind)).kind == "secret-service"


@pytest.mark.parametrize("kind", [None, "auto", "secret-service"])
async def test_auto_never_falls_to_file_or_memory(stores, kind, tmp_path):
    with pytest.raises(PermanentError, match=r"copilot-cred login --store file\|memory") as caught:
        await stores(None).choose(kind)
    assert caught.value.failure.error_class is ErrorClass.STORE_UNAVAILABLE
    assert not (tmp_path / "state").exists()


async def test_a_locked_keyring_is_no_reason_to_go_elsewhere(keyring, stores):
    keyring.lock()
    with pytest.raises(BrokerError) as caught:
        await stores(keyring.address).choose(None)
    assert caught.value.failure.error_class is ErrorClass.LOCKED


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_what_is_asked_for_is_taken_without_touching_the_bus(stores, kind, made):
    assert (await stores(None).choose(kind)).kind == kind
    assert (await stores(None, default=kind).choose(None)).kind == kind
    assert not made


async def test_a_file_store_that_cannot_keep_it_says_how_to_mend_it(stores, tmp_path):
    (tmp_path / "state" / "logins").mkdir(parents=True)
    (tmp_path / "state" / "logins").chmod(0o755)
    with pytest.raises(PermanentError, match="chmod 700"):
        await stores(None).choose("file")


def test_the_secret_service_is_made_once_and_late(stores, made):
    ladder = stores(None)
    assert not made
    assert ladder.get("secret-service") is ladder.get("secret-service")
    assert len(made) == 1


@pytest.mark.parametrize(
    ("kind", "error_class"),
    [("floppy", ErrorClass.USAGE), ("systemd-credential", ErrorClass.STORE_UNAVAILABLE)],
)
async def test_a_store_there_is_not(stores, kind, error_class):
    with pytest.raises(PermanentError) as caught:
        await stores(None).choose(kind)
    assert caught.value.failure.error_class is error_class
