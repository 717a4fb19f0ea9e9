"""Logins in the desktop's keyring: the Secret Service (freedesktop.org, draft 0.2) through pydbus.

One item per (host, user id, kind) in the default collection; its attributes, which any program may
search without a password, hold no secret. What passes by itself or by unlocking (locked, absent,
dying) is a TransientError: the broker asks again, and heals without a restart.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from brokerd.core import login_record
from brokerd.core.checks import Check, Verdict
from brokerd.core.tokens import AccountKey
from brokerd.dbus.bus import DBusError, SessionBus
from brokerd.dbus.keyring import Keyring
from brokerd.dbus.keyring_failures import explain
from brokerd.errors import PermanentError


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brokerd.core.login_record import RecordKind
    from brokerd.core.tokens import Login, Pat
    from brokerd.dbus.keyring import WhyPlain


__all__ = ["SCHEMA", "TRANSPORT_CHECK", "SecretServiceStore"]

log = logging.getLogger(__name__)

T = TypeVar("T")

SCHEMA: Final = "io.github.copilotbroker.Login"
"""libsecret's `xdg:schema`: which program's items these are."""
TRANSPORT_CHECK: Final = "keyring-transport"
"""Name of the finding of `doctor`."""


class SecretServiceStore:
    """`--store secret-service`: gnome-keyring, KWallet, KeePassXC or whoever owns the name."""

    kind = "secret-service"

    def __init__(self, bus: SessionBus) -> None:
        self._bus = bus
        self.transport: Literal["", "encrypted", "plain"] = ""
        """How secrets cross the bus, as the last session was; "" before the first."""
        self.why_plain: WhyPlain | None = None
        """Why they cross it unencrypted; None where they do not."""

    async def check(self) -> None:
        """Raise unless a login could be kept now; `transport` is known afterwards."""
        await self._run(lambda keyring: keyring.check())

    def transport_check(self) -> Check:
        """How secrets cross the bus, as of the last session: for doctor, after `check`."""
        if self.why_plain is not None:
            told = f"secrets cross the session bus unencrypted: {self.why_plain.told}"
            return Check(TRANSPORT_CHECK, Verdict.WARNING, told, self.why_plain.mend)
        if self.transport == "encrypted":
            return Check(TRANSPORT_CHECK, Verdict.OK, "secrets cross the session bus encrypted")
        return Check(TRANSPORT_CHECK, Verdict.OK, "no secret has crossed the session bus")

    async def save(self, login: Login) -> None:
        """Keep it; on the keyring's disk when this returns."""
        label = f"copilot-broker: {login.user.login}@{login.host}"
        attributes = _attributes(login.key, login_record.LOGIN)
        record = login_record.encode(login)
        await self._run(lambda keyring: keyring.save(attributes, label, record))

    async def load(self, key: AccountKey) -> Login | None:
        """Return it, None when the open keyring surely has none.

        PermanentError when the item is from a newer broker (`store_newer`) or no login
        (`store_broken`); the item is left as it is until a new login replaces it.
        """
        return await self._load(key, login_record.LOGIN)

    async def delete(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        attributes = _attributes(key, login_record.LOGIN)
        await self._run(lambda keyring: keyring.delete(attributes))

    async def keys(self) -> Sequence[AccountKey]:
        """Whose logins the open keyring has."""
        wanted = {"xdg:schema": SCHEMA, "kind": login_record.LOGIN.name}
        found: dict[AccountKey, None] = {}
        for attributes in await self._run(lambda keyring: keyring.attributes(wanted)):
            host, user_id = attributes.get("host", ""), attributes.get("user_id", "")
            if host and user_id.isdecimal():
                found[AccountKey(host, int(user_id))] = None
        return list(found)

    async def save_pat(self, key: AccountKey, pat: Pat) -> None:
        """Keep it; on the keyring's disk when this returns."""
        label = f"copilot-broker: personal access token of user {key.user_id} at {key.host}"
        attributes = _attributes(key, login_record.PAT)
        record = login_record.encode_pat(key, pat)
        await self._run(lambda keyring: keyring.save(attributes, label, record))

    async def load_pat(self, key: AccountKey) -> Pat | None:
        """Return it, None when the open keyring surely has none; errors as `load`."""
        return await self._load(key, login_record.PAT)

    async def delete_pat(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        attributes = _attributes(key, login_record.PAT)
        await self._run(lambda keyring: keyring.delete(attributes))

    async def _load(self, key: AccountKey, kind: RecordKind[T]) -> T | None:
        attributes = _attributes(key, kind)
        data = await self._run(lambda keyring: keyring.load(attributes))
        if data is None:
            return None
        try:
            return kind.read_for(key, data)
        except ValueError as error:
            raise PermanentError(kind.unusable(error, "the keyring")) from error

    async def _run(self, work: Callable[[Keyring], T]) -> T:
        try:
            return await self._bus.run(lambda bus: work(Keyring(bus, self._note)))
        except DBusError as error:
            raise explain(error) from error

    def _note(self, why_plain: WhyPlain | None) -> None:
        """Remember how a session is, in the bus thread; that it is plain is logged once."""
        if why_plain is not None and self.transport != "plain":
            extra = {"REASON": why_plain.told}
            log.warning("secrets cross the session bus unencrypted", extra=extra)
        self.transport = "plain" if why_plain else "encrypted"
        self.why_plain = why_plain


def _attributes(key: AccountKey, kind: RecordKind[T]) -> dict[str, str]:
    """Return what an item is found by: never a secret."""
    return {
        "xdg:schema": SCHEMA,
        "kind": kind.name,
        "host": key.host,
        "user_id": str(key.user_id),
    }
