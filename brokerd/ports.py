"""The outside world on one page: what the broker needs of the edges.

`app.py` fills each port with an edge; tests fill them with the fakes of `tests/fakes`.
Edges raise only `TransientError` and `PermanentError` (`brokerd.errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from brokerd.core.completions import UpstreamCall
    from brokerd.core.keys import KeptKeys
    from brokerd.core.machine.device_grant import NotGranted
    from brokerd.core.quota import Report
    from brokerd.core.tokens import (
        AccountKey,
        CopilotToken,
        DeviceCode,
        GitHubToken,
        IndexEntry,
        Login,
        Pat,
        User,
    )
    from brokerd.errors import BrokerError, Failure


__all__ = [
    "AccountIndex",
    "Clock",
    "CopilotApi",
    "Exchange",
    "GitHub",
    "KeyStore",
    "LoginStore",
    "LoginStores",
    "Receiver",
    "Reply",
]


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
        """Nap for about so long (CLOCK_MONOTONIC underneath); a resume ends a long nap."""
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

    async def renew(self, client_id: str, token: GitHubToken) -> GitHubToken:
        """Replace an expiring token by its refresh token (RFC 6749 §6); the old pair then is dead.

        Raises PermanentError LOGIN_REQUIRED `bad_refresh_token` when GitHub does not take it.
        """
        ...

    async def exchange(self, token: GitHubToken, plan: str = "auto") -> CopilotToken:
        """GitHub token → Copilot token. `plan` names the Copilot host where GitHub does not.

        Raises PermanentError DENIED `exchange_not_found` for a token that may not (404).
        """
        ...

    async def direct(self, token: GitHubToken, plan: str = "auto") -> CopilotToken:
        """Return the GitHub token as its own bearer, with the Copilot host that takes it."""
        ...

    async def seat(self, token: GitHubToken) -> Report:
        """Read what the person's seat says of its quotas: `GET /copilot_internal/user`.

        Raises PermanentError LOGIN_REQUIRED `bad_credentials` for a dead token, DENIED
        `seat_hidden` where GitHub does not show the seat to the token's app.
        """
        ...

    async def billing(self, pat: Pat, login: str, now: float) -> Report:
        """Read what the person called `login` has used in the month (UTC) of `now`, Unix seconds.

        Raises PermanentError DENIED, and says what to change about the token: `pat_refused`
        (401), `pat_permission` (403), `pat_user_unknown` (404).
        """
        ...

    async def revoke(self, token: GitHubToken) -> None:
        """Have GitHub kill the token, and its refresh token, for good."""
        ...


class Receiver(Protocol):
    """Takes a body in pieces, as upstream's reads bring it; called from the event loop."""

    def data(self, chunk: bytes) -> None:
        """Take what one read brought; never empty. May call `Reply.pause` or `Reply.close`."""
        ...

    def ended(self, failure: Failure | None) -> None:
        """Know that nothing follows; None: the body is whole. Once, never after `Reply.close`."""
        ...


class Reply(Protocol):
    """An answer whose head is there; its body is either read whole or streamed, once.

    Whoever holds it closes it. Bytes are upstream's own: nothing is decoded but the transfer
    coding.
    """

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case names, end-to-end ones only (RFC 9110 §7.6.1), no cookies."""
        ...

    async def read(self, limit: int) -> bytes:
        """Return the whole body; TransientError when it is cut or longer than `limit` bytes."""
        ...

    def take_whole(self) -> bytes | None:
        """Return the body if all of it came with the head, else None: then it is still to be had.

        That is one read's worth at most.
        """
        ...

    def stream_to(self, receiver: Receiver) -> None:
        """Push what has arrived and then what arrives, until the end or `close`.

        May call the receiver before it returns.
        """
        ...

    def pause(self) -> None:
        """Take no more from upstream (TCP then slows it down); the receiver hears nothing."""
        ...

    def resume(self) -> None:
        """Go on; may call the receiver before it returns."""
        ...

    def close(self) -> None:
        """Want no more. What is still under way is cut at upstream at once; twice is no error."""
        ...


class Exchange(Protocol):
    """A request whose answer is waited for."""

    def close(self) -> None:
        """Want no answer: upstream is cut at once and nobody is told; twice is no error."""
        ...


class CopilotApi(Protocol):
    """The Copilot API of every host."""

    def begin(
        self, call: UpstreamCall, listener: Callable[[Reply | BrokerError], None]
    ) -> Exchange | None:
        """As `open`, for who does not want to wait; None, and nothing is sent, if one has to.

        The listener is called once, from the event loop and never before this returns, with the
        reply or with the TransientError that `open` would raise. Raises PermanentError at once.
        """
        ...

    async def open(
        self,
        call: UpstreamCall,
        still_wanted: Callable[[], None] | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Send it, once, and return when the head of the answer (any status) is there.

        `still_wanted` is asked right before it is sent when a connection had to be made, which
        takes a while; what it raises is raised, and nothing is sent. `on_sent` is called once it
        is on its way.

        Cancelling it cuts the connection. Raises TransientError where there is no answer,
        PermanentError (DENIED) for a base that a credential may not go to.
        """
        ...

    async def models(
        self, host: str, api_base: str, token: str, *, is_direct: bool = False
    ) -> list[dict[str, Any]]:
        """`GET /models`: GitHub's own entries, each id once.

        Raises PermanentError `copilot_token_rejected` for a 401, else as the refusal means.
        """
        ...

    async def enable_model(
        self, host: str, api_base: str, token: str, model: str, *, is_direct: bool = False
    ) -> str:
        """Accept a model's terms for the person; return the policy's state. Raises as `models`."""
        ...


class LoginStore(Protocol):
    """Where logins rest: Secret Service, file or memory.

    Beside a login may rest a personal access token; each is kept, replaced and deleted alone.
    """

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

    async def save_pat(self, key: AccountKey, pat: Pat) -> None:
        """Keep the personal access token of that account, replacing one; durable on return."""
        ...

    async def load_pat(self, key: AccountKey) -> Pat | None:
        """Return what is kept, None when surely nothing is; errors when that is not known.

        PermanentError STORE_UNAVAILABLE `pat_broken` or `store_newer` when it cannot be used.
        """
        ...

    async def delete_pat(self, key: AccountKey) -> None:
        """Forget it; nothing kept is no error."""
        ...


class LoginStores(Protocol):
    """All stores there are, and which one a new login goes to."""

    async def choose(self, kind: str | None) -> LoginStore:
        """Return the store for a new login; PermanentError STORE_UNAVAILABLE when none is."""
        ...

    def get(self, kind: str) -> LoginStore:
        """Return the store of that kind, as the index remembers it."""
        ...


class KeyStore(Protocol):
    """The keys of the HTTP door, as digests, with what each has spent; durable on return."""

    def load(self) -> KeptKeys:
        """Read all that is kept; nothing yet is no error.

        Raises PermanentError STORE_UNAVAILABLE for what it cannot make sense of, or must not.
        """
        ...

    def save(self, kept: KeptKeys) -> None:
        """Put this in its place, whole or not at all; what cannot be read is never replaced."""
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
        """The account meant by a caller that names none; None: nobody chose one."""
        ...

    @default.setter
    def default(self, name: str | None) -> None: ...
