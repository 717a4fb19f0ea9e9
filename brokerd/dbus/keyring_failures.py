"""What can be wrong with a Secret Service, as a person is told it."""

from __future__ import annotations

from typing import Final

from brokerd.dbus.bus import DBusError
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError


__all__ = ["LOCKED", "NO_KEYRING", "explain", "nonsense"]

_ELSEWHERE: Final = "or keep the login elsewhere: copilot-cred login --store file|memory"
LOCKED: Final = Failure(
    ErrorClass.LOCKED,
    "store_locked",
    "the keyring is locked",
    "Unlock it by signing in to the desktop or in its password manager, e.g.: seahorse",
)
NO_KEYRING: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_keyring",
    "the Secret Service has no default keyring",
    f"Make one in the desktop's password manager, {_ELSEWHERE}",
)
NO_SERVICE: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_service",
    "no Secret Service answers on the session bus",
    f"Start one, e.g. gnome-keyring or KeePassXC, {_ELSEWHERE}",
)
NO_BUS: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_bus",
    "there is no session bus, so no Secret Service",
    f"Start it (systemctl --user start dbus.socket), {_ELSEWHERE}",
)
NO_LIBRARY: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "store_no_pydbus",
    "pydbus or PyGObject is not installed, so the Secret Service cannot be asked",
    f"Install them (sudo apt install python3-gi python3-pydbus), {_ELSEWHERE}",
)
DYING: Final = Failure(
    ErrorClass.TEMPORARY,
    "store_not_answering",
    "the Secret Service went away or did not answer in time",
    "It is asked again; see how it fares: copilot-cred status",
)

_DBUS_ERROR: Final = "org.freedesktop.DBus.Error."
_FAILURES: Final = {
    "org.freedesktop.Secret.Error.IsLocked": LOCKED,
    "org.freedesktop.Secret.Error.NoSession": DYING,  # it was restarted between two calls
    "org.freedesktop.Secret.Error.NoSuchObject": DYING,  # likewise, or the item went just now
    DBusError.NO_LIBRARY: NO_LIBRARY,
    DBusError.NO_SERVER: NO_BUS,
    DBusError.UNKNOWN_OBJECT: NO_SERVICE,
    DBusError.DISCONNECTED: DYING,
    DBusError.TIMEOUT: DYING,
    DBusError.NO_REPLY: DYING,
    _DBUS_ERROR + "UnknownMethod": DYING,  # an object that went: GDBus says so
    _DBUS_ERROR + "TimedOut": DYING,
    _DBUS_ERROR + "ServiceUnknown": NO_SERVICE,
    _DBUS_ERROR + "NameHasNoOwner": NO_SERVICE,
    _DBUS_ERROR + "AccessDenied": NO_SERVICE,
}
"""D-Bus error name → what it means to a person; `…Spawn.*` (activation failed) is NO_SERVICE."""


def explain(error: DBusError) -> BrokerError:
    """Return what to raise for it."""
    failure = _FAILURES.get(error.name)
    if failure is None and error.name.startswith(_DBUS_ERROR + "Spawn."):
        failure = NO_SERVICE
    if failure is None:
        text = f"the Secret Service answered {error.name}: {error.text}"
        failure = Failure(ErrorClass.TEMPORARY, "store_failed", text, DYING.hint)
    return (PermanentError if failure is NO_LIBRARY else TransientError)(failure)


def nonsense(error: ValueError) -> BrokerError:
    """Return what to raise for an answer that is against the specification."""
    text = f"the Secret Service answered what makes no sense: {error}"
    return TransientError(Failure(ErrorClass.TEMPORARY, "store_failed", text, DYING.hint))
