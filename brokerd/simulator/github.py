"""The routes of github.com and api.github.com, on one server.

Rows and shapes: the device flow, `GET /user` and the exchange, with the answers that the real ones
give to good and to bad requests.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import web

from brokerd.simulator import answers, pages


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.simulator.minting import GitHubGrant
    from brokerd.simulator.world import World


__all__ = ["GitHubRoutes"]

DEVICE_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 §3.5: `slow_down` lengthens the interval by five seconds.
SLOW_DOWN_STEP = 5
# A client that polls exactly on time must not be told off for a timer's tick.
PACING_TOLERANCE = 0.1


class GitHubRoutes:
    """Handlers over one `World`; `base_url` is what they call themselves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.base_url = ""

    def add_to(self, app: web.Application) -> None:
        """Register all routes."""
        app.router.add_post("/login/device/code", self.device_code)
        app.router.add_post("/login/oauth/access_token", self.access_token)
        app.router.add_get("/login/device", self.ask_person)
        app.router.add_post("/login/device", self.hear_person)
        app.router.add_get("/user", self.user)
        app.router.add_get("/copilot_internal/v2/token", self.exchange, allow_head=False)

    # github.com

    async def device_code(self, request: web.Request) -> web.Response:
        """RFC 8628 §3.1."""
        params = await _parameters(request)
        settings = self.world.settings
        client_id = params.get("client_id", "")
        if not client_id or (
            settings.known_clients is not None and client_id not in settings.known_clients
        ):
            return web.json_response({"error": "Not Found"}, status=404)
        if settings.device_flow_disabled:
            return _oauth_answer(request, {"error": "device_flow_disabled"}, status=400)
        grant = self.world.start_grant(client_id, params.get("scope", ""))
        return _oauth_answer(
            request,
            {
                "device_code": grant.device_code,
                "user_code": grant.user_code,
                "verification_uri": f"{self.base_url}/login/device",
                "expires_in": settings.device_expires_in,
                "interval": grant.interval,
            },
        )

    async def access_token(self, request: web.Request) -> web.Response:
        """RFC 8628 §3.4, RFC 6749 §6; errors come with 200, as GitHub's do."""
        params = await _parameters(request)
        match params.get("grant_type"):
            case "refresh_token":
                grant = self.world.spend_refresh_token(params.get("refresh_token", ""))
                if grant is None:
                    return _oauth_error(request, "bad_refresh_token")
                return self._granted(request, grant.client_id, grant.person.login, "")
            case grant_type if grant_type == DEVICE_GRANT_TYPE:
                return self._poll(request, params)
            case _:
                return _oauth_error(request, "unsupported_grant_type")

    def _poll(self, request: web.Request, params: Mapping[str, str]) -> web.Response:
        grant = self.world.grants.get(params.get("device_code", ""))
        now = time.monotonic()
        if grant is None or grant.decision == "spent":
            return _oauth_error(request, "incorrect_device_code")
        if params.get("client_id") != grant.client_id:
            return _oauth_error(request, "incorrect_client_credentials")
        too_soon = (
            grant.last_poll_at is not None
            and now - grant.last_poll_at < grant.interval - PACING_TOLERANCE
        )
        grant.last_poll_at = now
        if now >= grant.expires_at:
            return _oauth_error(request, "expired_token")
        if too_soon and self.world.settings.enforce_pacing:
            grant.interval += SLOW_DOWN_STEP
            return _oauth_error(request, "slow_down", interval=grant.interval)
        if grant.decision == "denied":
            grant.decision = "spent"
            return _oauth_error(request, "access_denied")
        if grant.decision == "pending" or grant.person is None:
            return _oauth_error(request, "authorization_pending")
        grant.decision = "spent"
        return self._granted(request, grant.client_id, grant.person.login, grant.scope)

    def _granted(
        self, request: web.Request, client_id: str, login: str, scope: str
    ) -> web.Response:
        access, refresh = self.world.issue_github_token(self.world.person(login), client_id)
        # GitHub Apps have permissions instead of scopes; scopes are told with commas.
        told = "" if client_id.startswith("Iv") else ",".join(scope.split())
        answer: dict[str, Any] = {"access_token": access, "token_type": "bearer", "scope": told}
        expires_in = self.world.settings.github_token_expires_in
        if expires_in is not None:
            answer |= {
                "expires_in": expires_in,
                "refresh_token": refresh,
                "refresh_token_expires_in": 15811200,
            }
        return _oauth_answer(request, answer)

    async def ask_person(self, request: web.Request) -> web.Response:
        """Show the approval page."""
        page = pages.ask(request.query.get("user_code", ""), self.world.settings.login)
        return web.Response(text=page, content_type="text/html")

    async def hear_person(self, request: web.Request) -> web.Response:
        """Take the decision made on the approval page."""
        form = await request.post()
        approve = form.get("decision") == "approve"
        user_code, login = str(form.get("user_code", "")), str(form.get("login", ""))
        if user_code and self.world.decide(user_code, approve=approve, login=login):
            return web.Response(text=pages.told(approved=approve), content_type="text/html")
        page = pages.ask("", login, "No device is waiting with that code. It may have expired.")
        return web.Response(text=page, content_type="text/html", status=422)

    # api.github.com

    async def user(self, request: web.Request) -> web.Response:
        """`GET /user`."""
        grant = self._signed_in(request)
        if grant is None:
            return answers.bad_credentials()
        person = {"login": grant.person.login, "id": grant.person.id, "type": "User", "name": None}
        return web.json_response(person, headers={"x-oauth-scopes": "read:user"})

    async def exchange(self, request: web.Request) -> web.Response:
        """`GET /copilot_internal/v2/token`; any other method does not exist."""
        settings = self.world.settings
        grant = self._signed_in(request)
        if grant is None:
            return answers.bad_credentials()
        if settings.no_access is not None:
            return answers.no_access(settings.no_access, grant.person.login)
        if grant.client_id in settings.refused_clients:
            return answers.not_found()
        token, expires_at = self.world.issue_copilot_token()
        return web.json_response(
            answers.exchanged(
                settings.exchange_form,
                token=token,
                expires_at=expires_at,
                refresh_in=settings.refresh_in,
                sku=settings.sku,
                api_base=settings.api_base or self.base_url,
            )
        )

    def _signed_in(self, request: web.Request) -> GitHubGrant | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return self.world.github_grant(token) if scheme.lower() in ("token", "bearer") else None


async def _parameters(request: web.Request) -> Mapping[str, str]:
    """Take parameters from a form, a JSON body or the query: GitHub takes all three."""
    if request.content_type == "application/json":
        body = await request.json()
        return {key: str(value) for key, value in body.items()} if isinstance(body, dict) else {}
    form = await request.post()
    return {**request.query, **{key: str(value) for key, value in form.items()}}


def _oauth_answer(request: web.Request, answer: dict[str, Any], status: int = 200) -> web.Response:
    """JSON to who accepts it, a form to everybody else."""
    if "json" in request.headers.get("Accept", ""):
        return web.json_response(answer, status=status)
    return web.Response(
        text=urlencode(answer), status=status, content_type="application/x-www-form-urlencoded"
    )


def _oauth_error(request: web.Request, error: str, **more: float) -> web.Response:
    answer = {
        "error": error,
        "error_description": f"simulated: {error}",
        "error_uri": "https://docs.github.com",
    }
    return _oauth_answer(request, answer | more)
