"""One connection to the session bus, used from asyncio through one thread of its own.

Rules that keep a bus from ever hurting the daemon:
- pydbus blocks, without a timeout for ever: every call is made in the thread and has a timeout.
- The connection is ours alone and made by address: the shared one of Gio ends the process when the
  bus goes away, and is handed out again when it is dead.
- A dead connection is noticed before the next piece of work and made anew.
- No main loop runs: nothing here waits for signals.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


__all__ = ["CALL_TIMEOUT", "Bus", "DBusError", "SessionBus", "translate"]

T = TypeVar("T")

CALL_TIMEOUT: Final = 5.0
"""Seconds a single D-Bus call may take; a healthy keyring answers in 50 ms."""
WORK_TIMEOUT: Final = 10.0
"""Seconds a piece of work may take with its wait for the thread: the one before it and its own."""

_DBUS: Final = "org.freedesktop.DBus.Error."


class DBusError(Exception):
    """What went wrong, by its D-Bus error name; what we find out ourselves as libdbus says it."""

    NO_SERVER = _DBUS + "NoServer"
    """The bus itself cannot be reached."""
    NO_LIBRARY = "io.github.copilotbroker.Error.NoLibrary"
    """pydbus or PyGObject is not installed."""
    DISCONNECTED = _DBUS + "Disconnected"
    TIMEOUT = _DBUS + "Timeout"
    NO_REPLY = _DBUS + "NoReply"
    UNKNOWN_OBJECT = _DBUS + "UnknownObject"
    NOT_SUPPORTED = _DBUS + "NotSupported"

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class Bus:
    """What a piece of work sees of the connection; to be used in the bus thread only."""

    def __init__(self, connection: Any) -> None:
        self._pydbus = connection

    @property
    def is_closed(self) -> bool:
        """The bus went away."""
        return bool(self._pydbus.con.is_closed())

    def get(self, name: str, path: str, interface: str) -> Any:
        """Return a proxy for one interface of an object; DBusError when there is no such thing.

        Every method called on it wants `timeout=CALL_TIMEOUT`.
        """
        try:
            return self._pydbus.get(name, path, timeout=CALL_TIMEOUT)[interface]
        except KeyError as error:  # pydbus's word for an object or interface that is not there
            text = f"{name} has no {interface} at {path}"
            raise DBusError(DBusError.UNKNOWN_OBJECT, text) from error

    def get_property(self, name: str, path: str, interface: str, property_name: str) -> Any:
        """Read one property; pydbus's own attributes have no timeout."""
        properties = self.get(name, path, "org.freedesktop.DBus.Properties")
        return properties.Get(interface, property_name, timeout=CALL_TIMEOUT)

    def close(self) -> None:
        """Begin to close it: whatever is under way fails at once. From any thread."""
        self._pydbus.con.close(None, None, None)


class SessionBus:
    """The session bus; connects when first used and again whenever it has to."""

    def __init__(
        self, address: str | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Use `address`, else `$DBUS_SESSION_BUS_ADDRESS`, else `$XDG_RUNTIME_DIR/bus`."""
        self._address = address
        self._environ = environ
        self._bus: Bus | None = None
        self._is_closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dbus")

    async def run(self, work: Callable[[Bus], T]) -> T:
        """Do `work(bus)` in the bus thread, one piece at a time; raises DBusError."""
        if self._is_closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(WORK_TIMEOUT):
                return await loop.run_in_executor(self._thread, self._work, work)
        except TimeoutError as error:
            raise DBusError(DBusError.TIMEOUT, f"nothing in {WORK_TIMEOUT:.0f} s") from error

    def close(self) -> None:
        """Let go of the bus without waiting: what is under way fails. Not to be used again."""
        self._is_closed = True
        self._thread.shutdown(wait=False)
        if self._bus is not None:
            self._bus.close()

    def _work(self, work: Callable[[Bus], T]) -> T:
        if self._is_closed:
            raise _closed()
        try:
            from gi.repository import GLib  # noqa: PLC0415 - 40 ms, and only who has a bus pays
        except ImportError as error:
            raise DBusError(DBusError.NO_LIBRARY, str(error)) from error
        try:
            if self._bus is None or self._bus.is_closed:
                self._bus = None
                self._bus = Bus(_connect(self._find()))
            return work(self._bus)
        except GLib.Error as error:
            raise translate(error) from error

    def _find(self) -> str:
        if address := self._address or self._environ.get("DBUS_SESSION_BUS_ADDRESS"):
            return address
        socket = Path(self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "bus"
        if socket.is_socket():
            return f"unix:path={socket}"
        text = (
            f"there is no session bus: DBUS_SESSION_BUS_ADDRESS is not set and {socket} not there"
        )
        raise DBusError(DBusError.NO_SERVER, text)


def _closed() -> DBusError:
    return DBusError(DBusError.DISCONNECTED, "the broker let go of the bus")


def _connect(address: str) -> Any:
    """Make a pydbus bus on a connection of our own; a bus that never answers is given up."""
    from gi.repository import Gio, GLib  # noqa: PLC0415

    try:
        from pydbus.bus import Bus as PydbusBus  # noqa: PLC0415
    except ImportError as error:
        raise DBusError(DBusError.NO_LIBRARY, str(error)) from error

    flags = Gio.DBusConnectionFlags
    cancellable = Gio.Cancellable()
    # pydbus.connect() has no timeout; this is its one line with one.
    timer = threading.Timer(CALL_TIMEOUT, cancellable.cancel)
    timer.daemon = True
    timer.start()
    try:
        connection = Gio.DBusConnection.new_for_address_sync(
            address,
            flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION,
            None,
            cancellable,
        )
    except GLib.Error as error:
        raise DBusError(DBusError.NO_SERVER, f"the session bus: {error.message}") from error
    finally:
        timer.cancel()
    connection.set_exit_on_close(False)
    return PydbusBus(connection)


def translate(error: Any) -> DBusError:
    """Turn a GLib.Error into ours: the peer's own name, or libdbus's for what GLib found out."""
    from gi.repository import Gio, GLib  # noqa: PLC0415

    code = Gio.IOErrorEnum
    name = Gio.DBusError.get_remote_error(error)
    if name is None and error.matches(GLib.quark_from_string("g-io-error-quark"), code.TIMED_OUT):
        name = DBusError.TIMEOUT
    if name is None:  # CLOSED, BROKEN_PIPE and their like
        name = DBusError.DISCONNECTED
    text = error.message.removeprefix(f"GDBus.Error:{name}: ")
    return DBusError(name, text)
