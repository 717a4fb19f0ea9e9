"""The Secret Service (freedesktop.org, API draft 0.2) for the length of one operation.

Every operation opens a session of its own, so a keyring that was restarted is simply asked again.
Nothing here ever prompts.

An empty search is no proof: a locked or missing collection finds nothing either. So "none" is said
only when the default collection is there and open.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from brokerd.dbus.bus import CALL_TIMEOUT, Bus, DBusError, translate
from brokerd.dbus.keyring_failures import LOCKED, NO_KEYRING, nonsense
from brokerd.dbus.secret_session import (
    DH_AES,
    PLAIN,
    AesTransport,
    KeyAgreement,
    PlainTransport,
    Transport,
    load_library,
)
from brokerd.errors import TransientError


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Keyring", "WhyPlain"]

_NAME: Final = "org.freedesktop.secrets"
_PATH: Final = "/org/freedesktop/secrets"
_SERVICE: Final = "org.freedesktop.Secret.Service"
_COLLECTION: Final = "org.freedesktop.Secret.Collection"
_ITEM: Final = "org.freedesktop.Secret.Item"
_NOWHERE: Final = "/"


@dataclass(frozen=True)
class WhyPlain:
    """Why secrets cross the bus unencrypted, and what ends that."""

    told: str
    mend: str


_NO_ENCRYPTION: Final = WhyPlain(
    "the Secret Service offers no encryption",
    "Use one that does, e.g. GNOME Keyring: sudo apt install gnome-keyring",
)


class Keyring:
    """One operation's view of the service, in the bus thread. Raises DBusError, BrokerError."""

    def __init__(self, bus: Bus, tell: Callable[[WhyPlain | None], None]) -> None:
        """`tell` is called for each session: why it is plain, None when it encrypts."""
        self._bus = bus
        self._tell = tell
        self._service = bus.get(_NAME, _PATH, _SERVICE)

    def check(self) -> None:
        """Raise unless an item could be kept now."""
        self.open_default()
        session, _ = self._open_session()
        self._close_session(session)

    def open_default(self) -> str:
        """Return the path of the default collection, or raise that it is missing or locked."""
        path: str = self._service.ReadAlias("default", timeout=CALL_TIMEOUT)
        if path == _NOWHERE:
            raise TransientError(NO_KEYRING)
        try:
            is_locked = self._bus.get_property(_NAME, path, _COLLECTION, "Locked")
        except DBusError as error:
            if error.name == DBusError.UNKNOWN_OBJECT:  # an alias for a keyring that never was
                raise TransientError(NO_KEYRING) from error
            raise
        if is_locked:
            raise TransientError(LOCKED)
        return path

    def save(self, attributes: dict[str, str], label: str, record: bytes) -> None:
        """Keep it in the default collection, replacing the item of these attributes."""
        from gi.repository import GLib  # noqa: PLC0415

        collection = self._bus.get(_NAME, self.open_default(), _COLLECTION)
        properties = {
            f"{_ITEM}.Label": GLib.Variant("s", label),
            f"{_ITEM}.Attributes": GLib.Variant("a{ss}", attributes),
        }
        session, transport = self._open_session()
        secret = (session, *transport.seal(record), "application/json")
        _, prompt = collection.CreateItem(properties, secret, True, timeout=CALL_TIMEOUT)
        self._close_session(session)
        if prompt != _NOWHERE:  # it wants to ask the user first: not from a background service
            raise TransientError(LOCKED)

    def load(self, attributes: dict[str, str]) -> bytes | None:
        """Return the item's secret, None where surely there is no such item."""
        items = self._search(attributes)
        if not items:
            return None
        session, transport = self._open_session()
        secrets = self._service.GetSecrets(items[:1], session, timeout=CALL_TIMEOUT)
        self._close_session(session)
        if not secrets:  # locked since the search
            raise TransientError(LOCKED)
        _, parameters, value, _ = secrets[items[0]]
        try:
            return transport.open(bytes(parameters), bytes(value))  # pydbus gives lists of ints
        except ValueError as error:
            raise nonsense(ValueError("the secret cannot be decrypted")) from error

    def delete(self, attributes: dict[str, str]) -> None:
        """Delete every item of these attributes."""
        for path in self._search(attributes):
            prompt = self._bus.get(_NAME, path, _ITEM).Delete(timeout=CALL_TIMEOUT)
            if prompt != _NOWHERE:
                raise TransientError(LOCKED)

    def attributes(self, wanted: dict[str, str]) -> list[dict[str, str]]:
        """Return all attributes of every item that has the wanted ones."""
        paths = self._search(wanted)
        return [self._bus.get_property(_NAME, path, _ITEM, "Attributes") for path in paths]

    def _search(self, attributes: dict[str, str]) -> list[str]:
        """Return the matching open items; an empty list only where that is sure."""
        unlocked, locked = self._service.SearchItems(attributes, timeout=CALL_TIMEOUT)
        if locked and not unlocked:
            raise TransientError(LOCKED)
        if not unlocked:
            self.open_default()
        return list(unlocked)

    def _open_session(self) -> tuple[str, Transport]:
        """Open one that encrypts, else a plain one; what comes of it is told first."""
        from gi.repository import GLib  # noqa: PLC0415

        why_plain = _lacking_library()
        if why_plain is None:
            agreement = KeyAgreement()
            public = GLib.Variant("ay", agreement.public)
            try:
                answer, path = self._service.OpenSession(DH_AES, public, timeout=CALL_TIMEOUT)
            except GLib.Error as error:
                if translate(error).name != DBusError.NOT_SUPPORTED:
                    raise
                why_plain = _NO_ENCRYPTION
            else:
                transport = _agree(agreement, answer)
                self._tell(None)
                return str(path), transport
        self._tell(why_plain)
        empty = GLib.Variant("s", "")
        _, path = self._service.OpenSession(PLAIN, empty, timeout=CALL_TIMEOUT)
        return str(path), PlainTransport()

    def _close_session(self, path: str) -> None:
        """Close it after the work is done; failing that, it ends with the keyring or with us."""
        from gi.repository import GLib  # noqa: PLC0415

        with contextlib.suppress(DBusError, GLib.Error):
            session = self._bus.get(_NAME, path, "org.freedesktop.Secret.Session")
            session.Close(timeout=CALL_TIMEOUT)


def _lacking_library() -> WhyPlain | None:
    """Return why nothing can be encrypted here; None when it can."""
    try:
        load_library()
    except (ImportError, RuntimeError) as error:
        told = f"the cryptography library cannot be used: {error}"
        return WhyPlain(told, "Install it: sudo apt install python3-cryptography")
    return None


def _agree(agreement: KeyAgreement, answer: Any) -> AesTransport:
    """Make the session's key; an answer that is no key is an error, never a reason for `plain`."""
    try:
        if not isinstance(answer, list):  # of ints: a D-Bus byte array
            raise ValueError("it sent no public key")  # noqa: TRY004, TRY301 - one way out
        return agreement.agree(bytes(answer))
    except ValueError as error:
        raise nonsense(error) from error
