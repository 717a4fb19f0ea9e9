"""GitHub for one host: the port `brokerd.ports.GitHub` over HTTP.

Each method asks one question once. When to ask again is the core's business; what an answer
means is in `parsing` and `refusals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.modes import EXCHANGE_NOT_FOUND, kind_of
from brokerd.core.tokens import User
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.upstream import billing, direct, parsing, revocation, seat, sign_in
from brokerd.upstream.bodies import bears_request_id
from brokerd.upstream.copilot import CLOSE_PATIENCE, Copilot
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings, urls_for
from brokerd.upstream.http import HttpClient
from brokerd.upstream.identity import Identity
from brokerd.upstream.side import Side
from brokerd.upstream.tls import Trust


if TYPE_CHECKING:
    from brokerd.core.machine.device_grant import NotGranted
    from brokerd.core.quota import Report
    from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, Pat
    from brokerd.upstream.hosts import Urls


__all__ = ["HttpGitHub", "Upstream"]

INSTALLATION = User(0, "installation")
"""Whose an installation token is: no person's. Numbers of people begin at 1."""


class HttpGitHub:
    """GitHub at one host; see `brokerd.ports.GitHub` for the meaning of the methods.

    All raise TransientError when asking again may help, PermanentError when it does not.
    """

    def __init__(
        self,
        host_urls: Urls,
        *,
        http: HttpClient,
        permitted: OriginAllowList,
        identity: Identity | None = None,
    ) -> None:
        self._side = Side(host_urls, http, permitted, identity or Identity())

    async def request_device_code(self, client_id: str, scope: str) -> DeviceCode:
        """Start the device authorization grant (RFC 8628 §3.1)."""
        return await sign_in.request_device_code(self._side, client_id, scope)

    async def poll_device_grant(
        self, client_id: str, code: DeviceCode
    ) -> GitHubToken | NotGranted:
        """Ask once whether the user has decided (RFC 8628 §3.4)."""
        return await sign_in.poll_device_grant(self._side, client_id, code)

    async def renew(self, client_id: str, token: GitHubToken) -> GitHubToken:
        """Replace an expiring token by its refresh token (RFC 6749 §6); the old pair then is dead.

        Raises PermanentError LOGIN_REQUIRED `bad_refresh_token` when GitHub does not take it.
        """
        return await sign_in.renew(self._side, client_id, token)

    async def identify(self, token: GitHubToken) -> User:
        """Whose token is this, and what may it do: `GET /user`."""
        side = self._side
        answer = await side.http.get(side.urls.api, "/user", side.identity.for_user(token))
        if answer.status == 200:
            return parsing.user(answer)
        error = side.refusal(answer)
        # Tolerant: that an installation token, which is no person's, gets a plain 403 here is by
        # all we know of the kind so, but not documented.
        if kind_of(token.value) == "installation" and error.failure.code == "forbidden":
            return INSTALLATION
        raise error

    async def exchange(self, token: GitHubToken, plan: str = "auto") -> CopilotToken:
        """GitHub token → Copilot token; the endpoint is undocumented, see `parsing`.

        Raises PermanentError DENIED `exchange_not_found` for a token that may not (404).
        """
        side = self._side
        answer = await side.http.get(
            side.urls.api, "/copilot_internal/v2/token", side.identity.for_exchange(token)
        )
        if answer.status == 200:
            return parsing.copilot_token(answer, plan, side.urls, side.permitted)
        error = side.refusal(answer)
        # A 404 without GitHub's request id may be anybody's, and decides nothing for good.
        if error.failure.code == "not_found" and bears_request_id(answer):
            raise _exchange_not_found()
        raise error

    async def direct(self, token: GitHubToken, plan: str = "auto") -> CopilotToken:
        """Return the GitHub token as its own bearer, with the Copilot host that takes it."""
        return await direct.direct(self._side, token, plan)

    async def seat(self, token: GitHubToken) -> Report:
        """Read what the person's seat says of its quotas: `GET /copilot_internal/user`.

        Raises PermanentError DENIED `seat_hidden` where the token's app may not see it.
        """
        return await seat.seat(self._side, token)

    async def billing(self, pat: Pat, login: str, now: float) -> Report:
        """Read what the person has used in the month (UTC) of `now`, Unix seconds.

        Raises PermanentError DENIED `pat_refused`, `pat_permission` or `pat_user_unknown`.
        """
        return await billing.billing(self._side, pat, login, now)

    async def revoke(self, token: GitHubToken) -> None:
        """Have GitHub kill the token, and its refresh token, for good.

        Raises PermanentError USAGE `not_revocable` for kinds that GitHub does not take.
        """
        await revocation.revoke(self._side, token)


def _exchange_not_found() -> PermanentError:
    return PermanentError(
        Failure(
            ErrorClass.DENIED,
            EXCHANGE_NOT_FOUND,
            "GitHub hides the exchange from this login: the app or token it was made with may "
            "not use it",
            "Sign in with another client_id in config.toml: copilot-cred login",
        )
    )


class Upstream:
    """All hosts of one configuration; call it with a host, close it at the end."""

    def __init__(self, settings: UpstreamSettings = UpstreamSettings()) -> None:  # noqa: B008 - frozen
        self._settings = settings
        self._identity = Identity(settings.identity)
        trust = Trust(settings.ca_file)
        self._http = HttpClient(settings, trust=trust)
        self.copilot = Copilot(settings, http=self._http, identity=self._identity, trust=trust)
        """The port `brokerd.ports.CopilotApi`."""

    def __call__(self, host: str) -> HttpGitHub:
        """Return GitHub at `host`; PermanentError (USAGE) for a host without Copilot."""
        return HttpGitHub(
            urls_for(host, self._settings),
            http=self._http,
            permitted=OriginAllowList(host, self._settings),
            identity=self._identity,
        )

    def headers_for_client(self) -> dict[str, str]:
        """Headers that whoever uses a Copilot token should send with it."""
        return self._identity.for_client()

    async def aclose(self, patience: float = CLOSE_PATIENCE) -> None:
        """Let streams under way end within `patience` seconds, then give back what is held."""
        await self.copilot.aclose(patience)
        await self._http.aclose()
