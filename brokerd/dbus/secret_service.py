"""Logins in the desktop's keyring: the Secret Service (freedesktop.org, draft 0.2) through pydbus.

One item per (host, user id, kind) in the default collection; its attributes, which any program may
search without a password, hold no secret. Every operation opens a session of its own, so a keyring
that was restarted is simply asked again. Nothing here ever prompts.

An empty search is no proof: a locked or missing collection finds nothing either. So `load` says
None only when the default collection is there and open. What passes by itself or by unlocking
(locked, absent, dying) is a TransientError: the broker asks again, and heals without a restart.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

from brokerd.core import login_record
from brokerd.core.tokens import AccountKey
from brokerd.dbus.bus import CALL_TIMEOUT, Bus, DBusError, SessionBus
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brokerd.core.login_record import RecordKind
    from brokerd.core.tokens import Login, Pat


__all__ = ["SCHEMA", "SecretServiceStore"]

T = TypeVar("T")

SCHEMA: Final = "io.github.copilotbroker.Login"
"""libsecret's `xdg:schema`: which program's items these are."""

_NAME: Final = "org.freedesktop.secrets"
_PATH: Final = "/org/freedesktop/secrets"
_SERVICE: Final = "org.freedesktop.Secret.Service"
_COLLECTION: Final = "org.freedesktop.Secret.Collection"
_ITEM: Final = "org.freedesktop.Secret.Item"
_NOWHERE: Final = "/"

_ELSEWHERE: Final = "or keep the login elsewhere: copilot-cred login --store file|memory"
_LOCKED: Final = Failure(
    ErrorClass.LOCKED,
    "store_locked",
    "the keyring is locked",
    "Unlock it by signing in to the desktop or in its password manager, e.g.: seahorse",
)
_NO_KEYRING: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_keyring",
    "the Secret Service has no default keyring",
    f"Make one in the desktop's password manager, {_ELSEWHERE}",
)
_NO_SERVICE: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_service",
    "no Secret Service answers on the session bus",
    f"Start one, e.g. gnome-keyring or KeePassXC, {_ELSEWHERE}",
)
_NO_BUS: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_bus",
    "there is no session bus, so no Secret Service",
    f"Start it (systemctl --user start dbus.socket), {_ELSEWHERE}",
)
_NO_LIBRARY: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_pydbus",
    "pydbus or PyGObject is not installed, so the Secret Service cannot be asked",
    f"Install them (sudo apt install python3-gi python3-pydbus), {_ELSEWHERE}",
)
_DYING: Final = Failure(
    ErrorClass.TEMPORARY,
    "store_not_answering",
    "the Secret Service went away or did not answer in time",
    "It is asked again; see how it fares: copilot-cred status",
)

_DBUS_ERROR: Final = "org.freedesktop.DBus.Error."
_FAILURES: Final = {
    "org.freedesktop.Secret.Error.IsLocked": _LOCKED,
    "org.freedesktop.Secret.Error.NoSession": _DYING,  # it was restarted between two calls
    "org.freedesktop.Secret.Error.NoSuchObject": _DYING,  # likewise, or the item went just now
    DBusError.NO_LIBRARY: _NO_LIBRARY,
    DBusError.NO_SERVER: _NO_BUS,
    DBusError.UNKNOWN_OBJECT: _NO_SERVICE,
    DBusError.DISCONNECTED: _DYING,
    DBusError.TIMEOUT: _DYING,
    DBusError.NO_REPLY: _DYING,
    _DBUS_ERROR + "UnknownMethod": _DYING,  # an object that went: GDBus says so
    _DBUS_ERROR + "TimedOut": _DYING,
    _DBUS_ERROR + "ServiceUnknown": _NO_SERVICE,
    _DBUS_ERROR + "NameHasNoOwner": _NO_SERVICE,
    _DBUS_ERROR + "AccessDenied": _NO_SERVICE,
}
"""D-Bus error name → what it means to a person; `…Spawn.*` (activation failed) is _NO_SERVICE."""


class SecretServiceStore:
    """`--store secret-service`: gnome-keyring, KWallet, KeePassXC or whoever owns the name."""

    kind = "secret-service"

    def __init__(self, bus: SessionBus) -> None:
        self._bus = bus

    async def check(self) -> None:
        """Raise unless a login could be kept now."""
        await self._run(lambda bus: _Keyring(bus).open_default())

    async def save(self, login: Login) -> None:
        """Keep it; on the keyring's disk when this returns."""
        label = f"copilot-broker: {login.user.login}@{login.host}"
        attributes = _attributes(login.key, login_record.LOGIN)
        record = login_record.encode(login)
        await self._run(lambda bus: _Keyring(bus).save(attributes, label, record))

    async def load(self, key: AccountKey) -> Login | None:
        """Return it, None when the open keyring surely has none.

        PermanentError when the item is from a newer broker (`store_newer`) or no login
        (`store_broken`); the item is left as it is until a new login replaces it.
        """
        return await self._load(key, login_record.LOGIN)

    async def delete(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        attributes = _attributes(key, login_record.LOGIN)
        await self._run(lambda bus: _Keyring(bus).delete(attributes))

    async def keys(self) -> Sequence[AccountKey]:
        """Whose logins the open keyring has."""
        return await self._run(lambda bus: _Keyring(bus).keys())

    async def save_pat(self, key: AccountKey, pat: Pat) -> None:
        """Keep it; on the keyring's disk when this returns."""
        label = f"copilot-broker: personal access token of user {key.user_id} at {key.host}"
        attributes = _attributes(key, login_record.PAT)
        record = login_record.encode_pat(key, pat)
        await self._run(lambda bus: _Keyring(bus).save(attributes, label, record))

    async def load_pat(self, key: AccountKey) -> Pat | None:
        """Return it, None when the open keyring surely has none; errors as `load`."""
        return await self._load(key, login_record.PAT)

    async def delete_pat(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        attributes = _attributes(key, login_record.PAT)
        await self._run(lambda bus: _Keyring(bus).delete(attributes))

    async def _load(self, key: AccountKey, kind: RecordKind[T]) -> T | None:
        attributes = _attributes(key, kind)
        data = await self._run(lambda bus: _Keyring(bus).load(attributes))
        if data is None:
            return None
        try:
            return kind.read_for(key, data)
        except ValueError as error:
            raise PermanentError(kind.unusable(error, "the keyring")) from error

    async def _run(self, work: Callable[[Bus], T]) -> T:
        try:
            return await self._bus.run(work)
        except DBusError as error:
            raise _explain(error) from error


class _Keyring:
    """One operation's view of the service, in the bus thread. Raises DBusError, BrokerError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._service = bus.get(_NAME, _PATH, _SERVICE)

    def open_default(self) -> str:
        """Return the path of the default collection, or raise that it is missing or locked."""
        path: str = self._service.ReadAlias("default", timeout=CALL_TIMEOUT)
        if path == _NOWHERE:
            raise TransientError(_NO_KEYRING)
        try:
            is_locked = self._bus.get_property(_NAME, path, _COLLECTION, "Locked")
        except DBusError as error:
            if error.name == DBusError.UNKNOWN_OBJECT:  # an alias for a keyring that never was
                raise TransientError(_NO_KEYRING) from error
            raise
        if is_locked:
            raise TransientError(_LOCKED)
        return path

    def save(self, attributes: dict[str, str], label: str, record: bytes) -> None:
        from gi.repository import GLib  # noqa: PLC0415

        collection = self._bus.get(_NAME, self.open_default(), _COLLECTION)
        properties = {
            f"{_ITEM}.Label": GLib.Variant("s", label),
            f"{_ITEM}.Attributes": GLib.Variant("a{ss}", attributes),
        }
        session = self._open_session()
        secret = (session, b"", record, "application/json")
        _, prompt = collection.CreateItem(properties, secret, True, timeout=CALL_TIMEOUT)
        self._close_session(session)
        if prompt != _NOWHERE:  # it wants to ask the user first: not from a background service
            raise TransientError(_LOCKED)

    def load(self, attributes: dict[str, str]) -> bytes | None:
        items = self._search(attributes)
        if not items:
            return None
        session = self._open_session()
        secrets = self._service.GetSecrets(items[:1], session, timeout=CALL_TIMEOUT)
        self._close_session(session)
        if not secrets:  # locked since the search
            raise TransientError(_LOCKED)
        _, _, value, _ = secrets[items[0]]
        return bytes(value)  # pydbus gives a list of ints

    def delete(self, attributes: dict[str, str]) -> None:
        for path in self._search(attributes):
            prompt = self._bus.get(_NAME, path, _ITEM).Delete(timeout=CALL_TIMEOUT)
            if prompt != _NOWHERE:
                raise TransientError(_LOCKED)

    def keys(self) -> list[AccountKey]:
        found: dict[AccountKey, None] = {}
        for path in self._search({"xdg:schema": SCHEMA, "kind": login_record.LOGIN.name}):
            attributes = self._bus.get_property(_NAME, path, _ITEM, "Attributes")
            host, user_id = attributes.get("host", ""), attributes.get("user_id", "")
            if host and user_id.isdecimal():
                found[AccountKey(host, int(user_id))] = None
        return list(found)

    def _search(self, attributes: dict[str, str]) -> list[str]:
        """Return the matching open items; an empty list only where that is sure."""
        unlocked, locked = self._service.SearchItems(attributes, timeout=CALL_TIMEOUT)
        if locked and not unlocked:
            raise TransientError(_LOCKED)
        if not unlocked:
            self.open_default()
        return list(unlocked)

    def _open_session(self) -> str:
        """Open one; "plain" because who can watch this user's bus can ask the keyring too."""
        from gi.repository import GLib  # noqa: PLC0415

        empty = GLib.Variant("s", "")
        _, path = self._service.OpenSession("plain", empty, timeout=CALL_TIMEOUT)
        return str(path)

    def _close_session(self, path: str) -> None:
        """Close it after the work is done; failing that, it ends with the keyring or with us."""
        from gi.repository import GLib  # noqa: PLC0415

        with contextlib.suppress(DBusError, GLib.Error):
            session = self._bus.get(_NAME, path, "org.freedesktop.Secret.Session")
            session.Close(timeout=CALL_TIMEOUT)


def _attributes(key: AccountKey, kind: RecordKind[T]) -> dict[str, str]:
    """Return what an item is found by: never a secret."""
    return {
        "xdg:schema": SCHEMA,
        "kind": kind.name,
        "host": key.host,
        "user_id": str(key.user_id),
    }


def _explain(error: DBusError) -> BrokerError:
    failure = _FAILURES.get(error.name)
    if failure is None and error.name.startswith(_DBUS_ERROR + "Spawn."):
        failure = _NO_SERVICE
    if failure is None:
        text = f"the Secret Service answered {error.name}: {error.text}"
        failure = Failure(ErrorClass.TEMPORARY, "store_failed", text, _DYING.hint)
    return (PermanentError if failure is _NO_LIBRARY else TransientError)(failure)
