"""The Secret Service in every state a desktop knows: open, locked, absent, dying, coming back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from brokerd.core import login_record
from brokerd.core.checks import Verdict
from brokerd.core.tokens import Pat
from brokerd.dbus import bus as bus_module
from brokerd.dbus import keyring as keyring_module
from brokerd.dbus import secret_service as module
from brokerd.dbus import secret_session
from brokerd.dbus.bus import SessionBus
from brokerd.dbus.keyring import WhyPlain
from brokerd.dbus.secret_service import SCHEMA, SecretServiceStore
from brokerd.errors import ErrorClass, PermanentError, TransientError
from contracts.conftest import make_login
from contracts.private_bus import NAME, PATH, need


pytestmark = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")

LOGIN = make_login()


def operations(store):
    return {
        "check": store.check,
        "save": lambda: store.save(LOGIN),
        "load": lambda: store.load(LOGIN.key),
        "delete": lambda: store.delete(LOGIN.key),
        "keys": store.keys,
        "save_pat": lambda: store.save_pat(LOGIN.key, Pat("github_pat_canary")),
        "load_pat": lambda: store.load_pat(LOGIN.key),
        "delete_pat": lambda: store.delete_pat(LOGIN.key),
    }


async def failures(store):
    """What each operation fails with; a success fails the test."""
    found = {}
    for name, operation in operations(store).items():
        with pytest.raises(TransientError) as caught:
            await operation()
        found[name] = caught.value.failure
        assert caught.value.failure.hint
        assert "canary" not in repr(caught.value) + str(caught.value.__cause__)
    return found


@pytest.fixture
def short_timeout(monkeypatch):
    monkeypatch.setattr(bus_module, "CALL_TIMEOUT", 0.3)
    monkeypatch.setattr(keyring_module, "CALL_TIMEOUT", 0.3)


async def test_attributes_and_label_hold_no_secret(keyring, secret_service):
    await secret_service.save(LOGIN)
    with keyring.connection() as bus:
        service = bus.get(NAME, PATH, timeout=5)["org.freedesktop.Secret.Service"]
        unlocked, _ = service.SearchItems({"xdg:schema": SCHEMA}, timeout=5)
        (path,) = unlocked
        properties = bus.get(NAME, path, timeout=5)["org.freedesktop.DBus.Properties"]
        found = properties.GetAll("org.freedesktop.Secret.Item", timeout=5)
    assert found["Attributes"] == {
        "xdg:schema": SCHEMA,
        "kind": "login",
        "host": "github.com",
        "user_id": "583231",
    }
    assert found["Label"] == "copilot-broker: octocat@github.com"
    assert "canary" not in repr(found)


async def test_a_personal_access_token_is_an_item_of_its_own(keyring, secret_service):
    await secret_service.save(LOGIN)
    await secret_service.save_pat(LOGIN.key, Pat("github_pat_canary"))
    with keyring.connection() as bus:
        service = bus.get(NAME, PATH, timeout=5)["org.freedesktop.Secret.Service"]
        (path,), _ = service.SearchItems({"xdg:schema": SCHEMA, "kind": "pat"}, timeout=5)
        properties = bus.get(NAME, path, timeout=5)["org.freedesktop.DBus.Properties"]
        found = properties.GetAll("org.freedesktop.Secret.Item", timeout=5)
    expected = {"xdg:schema": SCHEMA, "kind": "pat", "host": "github.com", "user_id": "583231"}
    assert found["Attributes"] == expected
    assert found["Label"] == "copilot-broker: personal access token of user 583231 at github.com"
    assert "canary" not in repr(found)


@pytest.mark.parametrize("is_kept", [True, False])
async def test_locked_is_never_taken_for_empty(keyring, secret_service, is_kept):
    if is_kept:
        await secret_service.save(LOGIN)
    keyring.lock()
    for failure in (await failures(secret_service)).values():
        assert failure.error_class is ErrorClass.LOCKED
        assert failure.code == "store_locked"


async def test_unlocking_heals_without_a_restart(keyring, secret_service):
    await secret_service.save(LOGIN)
    keyring.lock()
    with pytest.raises(TransientError):
        await secret_service.load(LOGIN.key)
    keyring.unlock()
    assert await secret_service.load(LOGIN.key) == LOGIN


async def test_no_secret_service_on_the_bus(private_bus):
    bus = SessionBus(private_bus.address)
    for failure in (await failures(SecretServiceStore(bus))).values():
        assert failure.error_class is ErrorClass.STORE_UNAVAILABLE
        assert failure.code == "store_no_service"
        assert "copilot-cred login --store file" in failure.hint
    private_bus.start_keyring()  # it may start after us
    await SecretServiceStore(bus).save(LOGIN)
    bus.close()


async def test_a_service_without_a_keyring(private_bus):
    """What a fresh home has after D-Bus activation: the alias names a keyring that never was."""
    keyring = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--components=secrets"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=private_bus.environ,
    )
    bus = SessionBus(private_bus.address)
    try:
        private_bus._wait_for_owner(present=True)
        for failure in (await failures(SecretServiceStore(bus))).values():
            assert failure.error_class is ErrorClass.STORE_UNAVAILABLE
            assert failure.code == "store_no_keyring"
    finally:
        bus.close()
        keyring.kill()
        keyring.wait(20)


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "garbage", None])
async def test_no_bus_at_all(address, tmp_path):
    bus = SessionBus(address, {"XDG_RUNTIME_DIR": str(tmp_path)})
    for failure in (await failures(SecretServiceStore(bus))).values():
        assert failure.error_class is ErrorClass.STORE_UNAVAILABLE
        assert failure.code == "store_no_bus"
    bus.close()


async def test_the_bus_is_found_in_the_runtime_directory(keyring):
    (keyring.root / "run" / "bus").symlink_to(keyring.root / "bus")
    bus = SessionBus(None, {"XDG_RUNTIME_DIR": str(keyring.root / "run")})
    await SecretServiceStore(bus).check()
    bus.close()


async def test_without_pydbus_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gi.repository", None)
    bus = SessionBus("unix:path=/nonexistent")
    with pytest.raises(PermanentError, match="apt install python3-gi python3-pydbus") as caught:
        await SecretServiceStore(bus).check()
    assert caught.value.failure.error_class is ErrorClass.STORE_UNAVAILABLE
    bus.close()


async def test_a_keyring_killed_between_calls_is_used_again_when_it_is_back(
    keyring, secret_service
):
    await secret_service.save(LOGIN)
    keyring.kill_keyring()
    for failure in (await failures(secret_service)).values():
        assert failure.error_class in (ErrorClass.STORE_UNAVAILABLE, ErrorClass.TEMPORARY)
    keyring.start_keyring()
    assert await secret_service.load(LOGIN.key) == LOGIN


@pytest.mark.parametrize("name", ["check", "save", "load", "delete", "keys"])
async def test_a_keyring_killed_during_a_call(keyring, secret_service, name):
    """A stopped keyring holds the call; that this test goes on shows the loop is not blocked."""
    await secret_service.check()
    os.kill(keyring.keyring_pid, signal.SIGSTOP)
    asked = threading.Event()
    run = secret_service._bus.run

    async def tell(work):
        return await run(lambda bus: (asked.set(), work(bus))[1])

    secret_service._bus.run = tell
    call = asyncio.create_task(operations(secret_service)[name]())
    assert await asyncio.to_thread(asked.wait, 20)
    assert not call.done()
    keyring.kill_keyring()
    with pytest.raises(TransientError) as caught:
        await asyncio.wait_for(call, 20)
    assert caught.value.failure.code in ("store_not_answering", "store_no_service")
    keyring.start_keyring()
    await secret_service.check()


async def test_a_hanging_keyring_is_given_up(keyring, secret_service, short_timeout):
    await secret_service.save(LOGIN)
    os.kill(keyring.keyring_pid, signal.SIGSTOP)
    for failure in (await failures(secret_service)).values():
        assert failure.error_class is ErrorClass.TEMPORARY
        assert failure.code == "store_not_answering"
    os.kill(keyring.keyring_pid, signal.SIGCONT)
    assert await secret_service.load(LOGIN.key) == LOGIN


async def test_a_bus_that_never_speaks_is_given_up(tmp_path, monkeypatch, short_timeout):
    monkeypatch.chdir(tmp_path)  # sun_path holds 108 bytes
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("bus")
        silent.listen()
        bus = SessionBus("unix:path=bus")
        with pytest.raises(TransientError) as caught:
            await asyncio.wait_for(SecretServiceStore(bus).check(), 20)
        bus.close()
    assert caught.value.failure.code == "store_no_bus"


async def test_work_that_never_ends_does_not_hold_the_caller(monkeypatch, keyring):
    monkeypatch.setattr(bus_module, "WORK_TIMEOUT", 0.2)
    bus = SessionBus(keyring.address)
    store = SecretServiceStore(bus)
    begun, go_on = threading.Event(), threading.Event()
    hanging = asyncio.create_task(bus.run(lambda _: (begun.set(), go_on.wait(20))))
    assert await asyncio.to_thread(begun.wait, 20)
    with pytest.raises(TransientError) as caught:
        await store.check()
    assert caught.value.failure.code == "store_not_answering"
    with pytest.raises(bus_module.DBusError):
        await hanging
    go_on.set()
    monkeypatch.undo()
    await store.check()
    bus.close()


@pytest.fixture
def service_in(private_bus):
    """A store before a stand-in service in some mode of `prompting_service.py`."""
    with contextlib.ExitStack() as stack:

        def start(mode):
            program = Path(__file__).with_name("prompting_service.py")
            service = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, program, private_bus.address, mode], stdout=subprocess.PIPE
                )
            )
            stack.callback(service.kill)
            assert service.stdout.readline() == b"ready\n"
            bus = SessionBus(private_bus.address)
            stack.callback(bus.close)
            return SecretServiceStore(bus)

        yield start


@pytest.mark.parametrize("name", ["save", "delete", "load"])
async def test_a_service_that_would_prompt_counts_as_locked(service_in, name):
    """No prompt is ever answered for the user; `load` finds the item locked since the search."""
    store = service_in("prompts")
    await store.check()
    with pytest.raises(TransientError) as caught:
        await operations(store)[name]()
    assert caught.value.failure.code == "store_locked"


async def test_an_encrypted_session_is_what_is_asked_for_first(secret_service, caplog):
    assert secret_service.transport == ""
    assert secret_service.transport_check().holds
    await secret_service.check()
    assert (secret_service.transport, secret_service.why_plain) == ("encrypted", None)
    assert secret_service.transport_check().told == "secrets cross the session bus encrypted"
    assert not caplog.records


async def test_a_service_that_cannot_encrypt_is_warned_of_once(service_in, caplog):
    store = service_in("prompts")
    for _ in range(3):
        await store.check()
    assert store.transport == "plain"
    check = store.transport_check()
    assert (check.name, check.verdict) == ("keyring-transport", Verdict.WARNING)
    assert check.told.endswith("unencrypted: the Secret Service offers no encryption")
    assert check.mend.endswith(": sudo apt install gnome-keyring")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == "secrets cross the session bus unencrypted"
    assert record.REASON == "the Secret Service offers no encryption"


@pytest.mark.parametrize("error", [ImportError("no such module"), RuntimeError("no OpenSSL")])
async def test_without_the_library_it_is_plain_and_says_so(
    secret_service, monkeypatch, caplog, error
):
    def fail():
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(keyring_module, "load_library", fail)
        await secret_service.save(LOGIN)
        assert await secret_service.load(LOGIN.key) == LOGIN
    assert secret_service.transport == "plain"
    why = f"the cryptography library cannot be used: {error}"
    assert [record.REASON for record in caplog.records] == [why]
    mend = secret_service.transport_check().mend
    assert mend.endswith(": sudo apt install python3-cryptography")
    assert await secret_service.load(LOGIN.key) == LOGIN
    assert (secret_service.transport, secret_service.why_plain) == ("encrypted", None)


PRIME = f"{secret_session._PRIME:0256x}"


@pytest.mark.parametrize(
    "mode",
    ["no-key", "denies", "key:", "key:00", "key:01", f"key:{PRIME[:-1]}e", f"key:{PRIME}",
     "key:01" + 256 * "0"],
)  # fmt: skip
async def test_a_bad_answer_is_never_a_reason_to_send_it_plain(service_in, mode):
    store = service_in(mode)
    for operation in (store.check, lambda: store.save(LOGIN)):
        with pytest.raises(TransientError) as caught:
            await operation()
        assert caught.value.failure.code == "store_failed"
    assert store.transport == ""


@pytest.mark.parametrize(
    ("parameters", "value"),
    [("", ""), (32 * "0", ""), (32 * "0", 30 * "0"), (30 * "0", 32 * "0"), (32 * "0", 32 * "0")],
)
async def test_a_secret_that_cannot_be_decrypted_is_asked_for_again(service_in, parameters, value):
    store = service_in(f"garbles:{parameters}:{value}")
    with pytest.raises(TransientError, match="cannot be decrypted") as caught:
        await store.load(LOGIN.key)
    assert caught.value.failure.code == "store_failed"


def spellings(secret):
    """Return the forms in which a secret may be seen on the bus; base64 for all three offsets."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), raw.hex(" ").encode()}
    found |= {raw.decode().encode("utf-16-le"), quote(secret).encode(), repr(list(raw)).encode()}
    found |= {b64encode(bytes(n) + raw)[4 * n // 3 + 3 : -4] for n in range(3)}
    found |= {
        struct.pack(f"<{len(raw)}{kind}", *raw) for kind in "HIQ"
    }  # arrays of wider integers
    return found


@pytest.mark.parametrize("is_plain", [True, False])
async def test_who_watches_the_bus_sees_no_secret(keyring, secret_service, monkeypatch, is_plain):
    """With `plain`, the control, the watcher sees everything."""
    if is_plain:
        monkeypatch.setattr(keyring_module, "_lacking_library", lambda: WhyPlain("control", ""))
    token, refresh, pat = "gho_canary_value", "ghr_canary_value", "github_pat_canary_value"
    login = make_login(token=token, refresh_token=refresh)
    with keyring.watched() as seen:
        await secret_service.save(login)
        await secret_service.save_pat(login.key, Pat(pat))
        assert await secret_service.load(login.key) == login
        assert await secret_service.load_pat(login.key) == Pat(pat)
        await secret_service.delete(login.key)
    assert b"copilot-broker: octocat@github.com" in seen, "nothing was looked through"
    assert (secret_session.DH_AES.encode() in seen) is not is_plain
    for secret in (token, refresh, pat):
        assert seen.count(secret.encode()) == (2 if is_plain else 0)
        if not is_plain:
            assert not [form for form in spellings(secret) if form in seen]
    assert (b'"client_id"' in seen) is is_plain


async def test_other_programs_read_what_we_kept_and_we_what_they_did(keyring, secret_service):
    """libsecret's own client: that the keyring holds the record itself, not what crossed the bus."""
    need("secret-tool")
    await secret_service.save(LOGIN)
    query = ["xdg:schema", SCHEMA, "kind", "login", "host", "github.com", "user_id", "583231"]

    def tool(*arguments, given=b""):
        command = ["secret-tool", *arguments, *query]
        done = subprocess.run(
            command, input=given, capture_output=True, check=True, env=keyring.environ, timeout=20
        )
        return done.stdout

    assert await asyncio.to_thread(tool, "lookup") == login_record.encode(LOGIN)
    other = login_record.encode(make_login(token="gho_é" * 1000))
    await asyncio.to_thread(tool, "store", "--label=x", given=other)
    assert (await secret_service.load(LOGIN.key)).token.value == "gho_é" * 1000


async def test_items_that_are_not_ours_to_read_are_passed_over(service_in):
    assert await service_in("prompts").keys() == []


@pytest.mark.parametrize("mode", ["no-keyring", "dead-alias"])
async def test_a_service_without_a_default_keyring(service_in, mode):
    for failure in (await failures(service_in(mode))).values():
        assert failure.code == "store_no_keyring"
        assert failure.error_class is ErrorClass.STORE_UNAVAILABLE


async def test_an_error_nobody_foresaw_keeps_its_name(service_in):
    with pytest.raises(TransientError, match=r"com\.example\.Odd: something odd") as caught:
        await service_in("odd").check()
    assert caught.value.failure.code == "store_failed"


async def test_closing_ends_what_is_under_way_at_once(keyring):
    """Else a hanging keyring would hold up the daemon's end for the whole timeout."""
    bus = SessionBus(keyring.address)
    store = SecretServiceStore(bus)
    await store.check()
    os.kill(keyring.keyring_pid, signal.SIGSTOP)
    begun = threading.Event()
    first = asyncio.create_task(
        bus.run(lambda b: (begun.set(), b.get(NAME, PATH, "org.freedesktop.Secret.Service")))
    )
    second = asyncio.create_task(store.load(LOGIN.key))
    assert await asyncio.to_thread(begun.wait, 20)
    bus.close()
    with pytest.raises(bus_module.DBusError, match="Disconnected"):
        await asyncio.wait_for(first, bus_module.CALL_TIMEOUT / 2)
    for call in (second, store.load(LOGIN.key)):
        with pytest.raises(TransientError):
            await asyncio.wait_for(call, bus_module.CALL_TIMEOUT / 2)


async def test_the_bus_restarted(keyring, secret_service):
    """gnome-keyring ends with its bus; both come back, and this process is still here."""
    await secret_service.save(LOGIN)
    keyring.kill_bus()
    for failure in (await failures(secret_service)).values():
        assert failure.code in ("store_no_bus", "store_not_answering")
    keyring.start_bus()
    keyring.start_keyring()
    assert await secret_service.load(LOGIN.key) == LOGIN


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\x00 canary", "store_broken"),
        (b'{"version": 1, "token": "canary"}', "store_broken"),
        (login_record.encode(make_login(1, token="gho_canary")), "store_broken"),
        (b'{"version": 2, "token": "canary"}', "store_newer"),
    ],
)
async def test_an_item_that_is_no_login(secret_service, monkeypatch, content, code):
    with monkeypatch.context() as patch:
        patch.setattr(module.login_record, "encode", lambda _: content)
        await secret_service.save(LOGIN)
    for _ in range(2):  # it is left as it is
        with pytest.raises(PermanentError) as caught:
            await secret_service.load(LOGIN.key)
        assert caught.value.failure.code == code
        assert "canary" not in str(caught.value)
    await secret_service.save(LOGIN)
    assert await secret_service.load(LOGIN.key) == LOGIN


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xff\x00 canary", "pat_broken"),
        (login_record.encode(make_login(token="gho_canary")), "pat_broken"),
        (login_record.encode_pat(make_login(1).key, Pat("canary")), "pat_broken"),
        (b'{"version": 2, "value": "canary"}', "store_newer"),
    ],
)
async def test_an_item_that_is_no_personal_access_token(
    secret_service, monkeypatch, content, code
):
    await secret_service.save(LOGIN)
    with monkeypatch.context() as patch:
        patch.setattr(module.login_record, "encode_pat", lambda *_: content)
        await secret_service.save_pat(LOGIN.key, Pat("github_pat_x"))
    with pytest.raises(PermanentError, match="copilot-cred quota set-pat") as caught:
        await secret_service.load_pat(LOGIN.key)
    assert caught.value.failure.code == code
    assert "canary" not in str(caught.value)
    assert await secret_service.load(LOGIN.key) == LOGIN
    await secret_service.save_pat(LOGIN.key, Pat("github_pat_y"))
    assert await secret_service.load_pat(LOGIN.key) == Pat("github_pat_y")
