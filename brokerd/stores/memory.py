"""Logins for this process's life only: gone with the daemon, and only when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Sequence

    from brokerd.core.tokens import AccountKey, Login, Pat


__all__ = ["MemoryStore"]


class MemoryStore:
    """`--store memory`: nothing touches a disk; every restart asks for a new login."""

    kind = "memory"

    def __init__(self) -> None:
        self._logins: dict[AccountKey, Login] = {}
        self._pats: dict[AccountKey, Pat] = {}

    async def check(self) -> None:
        """Return: memory is always there."""

    async def save(self, login: Login) -> None:
        """Keep it until the process ends."""
        self._logins[login.key] = login

    async def load(self, key: AccountKey) -> Login | None:
        """Return what is kept, None when nothing is."""
        return self._logins.get(key)

    async def delete(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        self._logins.pop(key, None)

    async def keys(self) -> Sequence[AccountKey]:
        """Whose logins are kept."""
        return list(self._logins)

    async def save_pat(self, key: AccountKey, pat: Pat) -> None:
        """Keep it until the process ends."""
        self._pats[key] = pat

    async def load_pat(self, key: AccountKey) -> Pat | None:
        """Return what is kept, None when nothing is."""
        return self._pats.get(key)

    async def delete_pat(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        self._pats.pop(key, None)
