"""A private session bus and a real gnome-keyring on it: nothing of the machine's own is touched.

The bus activates no service, so that "absent" stays absent. Processes are ended by their own handle.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest


NAME = "org.freedesktop.secrets"
PATH = "/org/freedesktop/secrets"
PASSWORD = b"\n"
PATIENCE = 20.0
"""Seconds; far more than a loaded machine needs."""

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/></policy></busconfig>
"""


def need(*programs: str) -> None:
    """Skip without them on a laptop, fail in CI."""
    missing = [program for program in programs if shutil.which(program) is None]
    with contextlib.suppress(ImportError):
        import pydbus  # noqa: F401

        if not missing:
            return
    reason = f"needs {', '.join(missing) or 'pydbus and PyGObject'}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class PrivateBus:
    def __init__(self) -> None:
        need("dbus-daemon", "gnome-keyring-daemon")
        self.root = Path(tempfile.mkdtemp(prefix="cb-bus-"))  # short: sun_path holds 108 bytes
        self.address = f"unix:path={self.root}/bus"
        for folder in ("home", "run"):
            (self.root / folder).mkdir(mode=0o700)
        (self.root / "bus.conf").write_text(CONFIG.format(socket=self.root / "bus"))
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "DBUS_SESSION_BUS_ADDRESS": self.address,
        }
        self._bus: subprocess.Popen[bytes] | None = None
        self._keyring: subprocess.Popen[bytes] | None = None
        self.start_bus()

    def start_bus(self) -> None:
        (self.root / "bus").unlink(missing_ok=True)
        self._bus = subprocess.Popen(
            [
                "dbus-daemon",
                f"--config-file={self.root}/bus.conf",
                "--nofork",
                "--print-address=1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environ,
        )
        assert self._bus.stdout is not None
        assert self._bus.stdout.readline(), "dbus-daemon did not start"

    def start_keyring(self) -> None:
        """Start it with its login keyring open; return when it owns the name."""
        _end(self._keyring)
        self._keyring = subprocess.Popen(
            ["gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environ,
        )
        assert self._keyring.stdin is not None
        self._keyring.stdin.write(PASSWORD)
        self._keyring.stdin.close()
        self._wait_for_owner(present=True)

    @property
    def keyring_pid(self) -> int:
        assert self._keyring is not None
        return self._keyring.pid

    def kill_keyring(self) -> None:
        """SIGKILL it; return when the bus knows."""
        _end(self._keyring)
        self._keyring = None
        self._wait_for_owner(present=False)

    def kill_bus(self) -> None:
        _end(self._bus)
        self._bus = None

    def close(self) -> None:
        _end(self._keyring)
        _end(self._bus)
        shutil.rmtree(self.root)

    @contextlib.contextmanager
    def connection(self):
        import pydbus

        bus = pydbus.connect(self.address)
        try:
            yield bus
        finally:
            bus.con.close_sync(None)

    @contextlib.contextmanager
    def watched(self):
        """Yield what crosses the bus meanwhile, as any program of the user can see it.

        It is a bytearray of whole messages as they are on the wire, complete on leaving.
        """
        need("dbus-monitor")
        monitor = subprocess.Popen(
            ["dbus-monitor", "--address", self.address, "--binary"],
            stdout=subprocess.PIPE,
            env=self.environ,
        )
        seen = bytearray()

        def read_until(mark: bytes) -> None:
            while mark not in seen:
                assert select.select([monitor.stdout], [], [], PATIENCE)[0], "nothing more is seen"
                chunk = os.read(monitor.stdout.fileno(), 65536)
                assert chunk, "dbus-monitor ended"
                seen.extend(chunk)

        try:
            read_until(b"NameLost")  # it is a monitor from now on
            yield seen
            with self.connection() as bus:
                bus.get("org.freedesktop.DBus", timeout=5).NameHasOwner("end.of.watch", timeout=5)
            read_until(b"end.of.watch")
        finally:
            _end(monitor)

    def lock(self) -> None:
        with self.connection() as bus:
            service = bus.get(NAME, PATH, timeout=5)["org.freedesktop.Secret.Service"]
            service.Lock([service.ReadAlias("default", timeout=5)], timeout=5)

    def unlock(self) -> None:
        from gi.repository import GLib

        with self.connection() as bus:
            proxy = bus.get(NAME, PATH, timeout=5)
            service = proxy["org.freedesktop.Secret.Service"]
            _, session = service.OpenSession("plain", GLib.Variant("s", ""), timeout=5)
            secret = (session, b"", PASSWORD, "text/plain")
            path = service.ReadAlias("default", timeout=5)
            proxy[
                "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"
            ].UnlockWithMasterPassword(path, secret, timeout=5)

    def _wait_for_owner(self, *, present: bool) -> None:
        """Wait on the bus's own signal, not on a clock."""
        from gi.repository import GLib

        seen: list[bool] = []
        with self.connection() as bus:
            watch = bus.watch_name(
                NAME,
                name_appeared=lambda *_: seen.append(True),
                name_vanished=lambda *_: seen.append(False),
            )
            late = GLib.timeout_add(int(PATIENCE * 1000), lambda: True)
            end = time.monotonic() + PATIENCE
            context = GLib.MainContext.default()
            while (not seen or seen[-1] is not present) and time.monotonic() < end:
                context.iteration(True)
            GLib.source_remove(late)
            watch.unwatch()
        assert seen, "the bus said nothing"
        assert seen[-1] is present


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.kill()
    process.wait(PATIENCE)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
