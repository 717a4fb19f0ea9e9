"""Logins that the daemon was given from outside: held while it runs, and never written.

Where they rest is the environment or the credential that they came from. What is kept here is only
whose they are, as GitHub has told, for whoever asks for the login again (after a lock).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.stores.memory import MemoryStore


if TYPE_CHECKING:
    from brokerd.core.given import Source
    from brokerd.core.tokens import AccountKey, Login, Pat


__all__ = ["GivenStore"]


class GivenStore(MemoryStore):
    """The store that is named in the index for logins of one `source`."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.kind = source

    async def check(self) -> None:
        """Raise PermanentError: no new login goes here."""
        raise self._read_only("no login can be kept there")

    async def save(self, login: Login) -> None:
        """Note whose it is; PermanentError for a login that came another way."""
        if login.source != self.kind:
            raise self._read_only("no other login can be kept there")
        await super().save(login)

    async def save_pat(self, key: AccountKey, pat: Pat) -> None:
        """Raise PermanentError: there is no place for one."""
        del key, pat
        raise self._read_only("no other token can be kept beside it")

    def _read_only(self, what: str) -> PermanentError:
        text = f"the account's login comes from outside ({self.kind}): {what}"
        hint = (
            'Set source = "login" for the account in config.toml, then: '
            "systemctl --user reload copilot-broker"
        )
        return PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "store_read_only", text, hint))
