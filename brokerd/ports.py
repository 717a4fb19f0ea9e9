"""The outside world on one page: what the broker needs of the edges.

`app.py` fills each port with an edge; tests fill them with the fakes of `tests/fakes`.
Edges raise only `TransientError` and `PermanentError` (`brokerd.errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brokerd.core.device_grant import NotGranted
    from brokerd.core.tokens import (
        AccountKey,
        CopilotToken,
        DeviceCode,
        GitHubToken,
        IndexEntry,
        Login,
        User,
    )


__all__ = ["AccountIndex", "Clock", "GitHub", "LoginStore", "LoginStores"]


class Clock(Protocol):
    """The machine's three clocks, in seconds."""

    def boottime(self) -> float:
        """CLOCK_BOOTTIME: counts suspend; all deadlines are in it (clock_gettime(2))."""
        ...

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC: stops in suspend; the difference of the two tells of one."""
        ...

    def wall(self) -> float:
        """CLOCK_REALTIME as Unix seconds; only ever shown to people and clients."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Nap for about so long (CLOCK_MONOTONIC underneath: keep naps short)."""
        ...


class GitHub(Protocol):
    """GitHub as seen by one account; one instance per host."""

    async def request_device_code(self, client_id: str, scope: str) -> DeviceCode:
        """Start the device authorization grant (RFC 8628 §3.1)."""
        ...

    async def poll_device_grant(
        self, client_id: str, code: DeviceCode
    ) -> GitHubToken | NotGranted:
        """Ask once whether the user has decided (RFC 8628 §3.4)."""
        ...

    async def identify(self, token: GitHubToken) -> User:
        """Whose token is this: `GET /user`."""
        ...

    async def exchange(self, token: GitHubToken) -> CopilotToken:
        """GitHub token → Copilot token."""
        ...


class LoginStore(Protocol):
    """Where logins rest: Secret Service, file or memory."""

    @property
    def kind(self) -> str:
        """`secret-service`, `file` or `memory`."""
        ...

    async def save(self, login: Login) -> None:
        """Keep it, replacing what is kept for the same key; durable on return."""
        ...

    async def load(self, key: AccountKey) -> Login | None:
        """Return what is kept, None when surely nothing is; errors when that is not known."""
        ...

    async def delete(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        ...

    async def keys(self) -> Sequence[AccountKey]:
        """Whose logins are kept."""
        ...


class LoginStores(Protocol):
    """All stores there are, and which one a new login goes to."""

    async def choose(self, kind: str | None) -> LoginStore:
        """Return the store for a new login; PermanentError STORE_UNAVAILABLE when none is."""
        ...

    def get(self, kind: str) -> LoginStore:
        """Return the store of that kind, as the index remembers it."""
        ...


class AccountIndex(Protocol):
    """Which accounts there are: names and places, no secrets; durable on return."""

    def load(self) -> None:
        """Read what is kept."""
        ...

    def entries(self) -> Mapping[str, IndexEntry]:
        """Name → entry."""
        ...

    def put(self, name: str, entry: IndexEntry) -> None:
        """Keep it, replacing what has that name."""
        ...

    def remove(self, name: str) -> None:
        """Forget it; an unknown name is no error."""
        ...

    @property
    def default(self) -> str | None:
        """The account meant by a caller that names none."""
        ...

    @default.setter
    def default(self, name: str | None) -> None: ...
