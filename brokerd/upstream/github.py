"""GitHub for one host: the port `brokerd.ports.GitHub` over HTTP.

Each method asks one question once. When to ask again is the core's business; what an answer
means is in `parsing` and `refusals`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.upstream import parsing
from brokerd.upstream.copilot import CLOSE_PATIENCE, Copilot
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings, urls_for
from brokerd.upstream.http import HttpClient
from brokerd.upstream.identity import Identity
from brokerd.upstream.refusals import refusal, with_proxy_hint
from brokerd.upstream.tls import Trust


if TYPE_CHECKING:
    from brokerd.core.device_grant import NotGranted
    from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
    from brokerd.upstream.hosts import Urls
    from brokerd.upstream.http import Answer


__all__ = ["HttpGitHub", "Upstream"]

# RFC 8628 §3.4
DEVICE_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
UNKNOWN_CLIENT = "GitHub does not know this client id"
CLIENT_HINT = (
    "Check client_id of the account in config.toml (vscode and copilot are known to work), then: "
    "copilot-cred login"
)


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
        self._urls = host_urls
        self._http = http
        self._permitted = permitted
        self._identity = identity or Identity()

    async def request_device_code(self, client_id: str, scope: str) -> DeviceCode:
        """Start the device authorization grant (RFC 8628 §3.1)."""
        form = {"client_id": client_id} | ({"scope": scope} if scope else {})
        answer = await self._http.post_form(
            self._urls.login, "/login/device/code", self._identity.for_login(), form
        )
        error = (parsing.fields_of(answer) or {}).get("error")
        if error in ("device_flow_disabled", "unauthorized_client"):
            raise _client_refused(
                answer, "device_flow_disabled", "this app may not sign in devices"
            )
        if answer.status in (401, 404, 422) or (answer.status == 200 and isinstance(error, str)):
            raise _client_refused(answer, "client_id_unknown", UNKNOWN_CLIENT)
        self._demand_success(answer)
        return parsing.device_code(answer, self._permitted)

    async def poll_device_grant(
        self, client_id: str, code: DeviceCode
    ) -> GitHubToken | NotGranted:
        """Ask once whether the user has decided (RFC 8628 §3.4)."""
        answer = await self._http.post_form(
            self._urls.login,
            "/login/oauth/access_token",
            self._identity.for_login(),
            {
                "client_id": client_id,
                "device_code": code.device_code,
                "grant_type": DEVICE_GRANT_TYPE,
            },
        )
        if answer.status == 404:
            raise _client_refused(answer, "client_id_unknown", UNKNOWN_CLIENT)
        # RFC 6749 §5.2 sends errors with 400, GitHub with 200: the body counts for both.
        if answer.status != 400 or parsing.fields_of(answer) is None:
            self._demand_success(answer)
        return parsing.grant(answer)

    async def identify(self, token: GitHubToken) -> User:
        """Whose token is this: `GET /user`."""
        answer = await self._http.get(self._urls.api, "/user", self._identity.for_user(token))
        self._demand_success(answer)
        return parsing.user(answer)

    async def exchange(self, token: GitHubToken) -> CopilotToken:
        """GitHub token → Copilot token; the endpoint is undocumented, see `parsing`."""
        answer = await self._http.get(
            self._urls.api, "/copilot_internal/v2/token", self._identity.for_exchange(token)
        )
        if answer.status == 404 and answer.headers.get("x-github-request-id"):
            raise PermanentError(
                Failure(
                    ErrorClass.DENIED,
                    "exchange_not_found",
                    "GitHub hides the exchange from this login: the app or token it was made "
                    "with may not use it",
                    "Sign in with another client_id in config.toml: copilot-cred login",
                )
            )
        self._demand_success(answer)
        return parsing.copilot_token(answer, self._urls, self._permitted)

    def _demand_success(self, answer: Answer) -> None:
        if answer.status != 200:
            raise refusal(answer, self._permitted)


def _client_refused(answer: Answer, code: str, message: str) -> PermanentError:
    hint = with_proxy_hint(answer, CLIENT_HINT)
    return PermanentError(Failure(ErrorClass.USAGE, code, message, hint))


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
