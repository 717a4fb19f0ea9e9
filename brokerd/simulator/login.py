"""The routes of github.com: the device flow, the renewal of tokens, the person's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from aiohttp import web

from brokerd.simulator import pages
from brokerd.simulator.credentials import REFRESH_LIFETIME
from brokerd.simulator.parameters import parameters, place_asked


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.simulator.minting import Person
    from brokerd.simulator.world import World


__all__ = ["LoginRoutes", "oauth_error"]

DEVICE_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
# RFC 8628 §3.5: `slow_down` lengthens the interval by five seconds.
SLOW_DOWN_STEP = 5
# A client that polls exactly on time must not be told off for a timer's tick.
PACING_TOLERANCE = 0.1


class LoginRoutes:
    """Handlers over one `World`; `base_url` is what they call themselves on loopback."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.base_url = ""

    def add_to(self, app: web.Application) -> None:
        """Register all routes."""
        app.router.add_post("/login/device/code", self.device_code)
        app.router.add_post("/login/oauth/access_token", self.access_token)
        app.router.add_get("/login/device", self.ask_person)
        app.router.add_post("/login/device", self.hear_person)

    async def device_code(self, request: web.Request) -> web.Response:
        """RFC 8628 §3.1."""
        params = await parameters(request)
        settings = self.world.settings
        client_id = params.get("client_id", "")
        if not client_id or (
            settings.known_clients is not None and client_id not in settings.known_clients
        ):
            return web.json_response({"error": "Not Found"}, status=404)
        if settings.device_flow_disabled:
            return _oauth_answer(request, {"error": "device_flow_disabled"}, status=400)
        place = place_asked(request)
        grant = self.world.start_grant(client_id, params.get("scope", ""), place.site)
        base = f"https://{place.host}" if place.site else self.base_url
        return _oauth_answer(
            request,
            {
                "device_code": grant.device_code,
                "user_code": grant.user_code,
                "verification_uri": f"{base}/login/device",
                "expires_in": settings.device_expires_in,
                "interval": grant.interval,
            },
        )

    async def access_token(self, request: web.Request) -> web.Response:
        """RFC 8628 §3.4, RFC 6749 §6; errors come with 200, as GitHub's do."""
        params = await parameters(request)
        match params.get("grant_type"):
            case "refresh_token":
                return self._renew(request, params)
            case grant_type if grant_type == DEVICE_GRANT_TYPE:
                return self._poll(request, params)
            case _:
                return _refused(request, "unsupported_grant_type")

    def _renew(self, request: web.Request, params: Mapping[str, str]) -> web.Response:
        token, site = params.get("refresh_token", ""), place_asked(request).site
        grant = self.world.github_grant(token, refresh=True, site=site)
        if grant is None:
            return _refused(request, "bad_refresh_token")
        if params.get("client_id", grant.client_id) != grant.client_id:
            return _refused(request, "incorrect_client_credentials")
        self.world.spend_refresh_token(token)
        return self._granted(request, grant.client_id, grant.person, grant.scope)

    def _poll(self, request: web.Request, params: Mapping[str, str]) -> web.Response:
        grant = self.world.grants.get(params.get("device_code", ""))
        now = self.world.clock.monotonic()
        if grant is None or grant.decision == "spent" or grant.host != place_asked(request).site:
            return _refused(request, "incorrect_device_code")
        if params.get("client_id") != grant.client_id:
            return _refused(request, "incorrect_client_credentials")
        too_soon = (
            grant.last_poll_at is not None
            and now - grant.last_poll_at < grant.interval - PACING_TOLERANCE
        )
        grant.last_poll_at = now
        if now >= grant.expires_at:
            return _refused(request, "expired_token")
        if too_soon and self.world.settings.enforce_pacing:
            grant.interval += SLOW_DOWN_STEP
            return _refused(request, "slow_down", interval=grant.interval)
        if grant.decision == "denied":
            grant.decision = "spent"
            return _refused(request, "access_denied")
        if grant.decision == "pending" or grant.person is None:
            return _refused(request, "authorization_pending")
        grant.decision = "spent"
        return self._granted(request, grant.client_id, grant.person, grant.scope)

    def _granted(
        self, request: web.Request, client_id: str, person: Person, scope: str
    ) -> web.Response:
        access, refresh = self.world.issue_github_token(
            person, client_id, scope=scope, host=place_asked(request).site
        )
        # GitHub Apps have permissions instead of scopes; scopes are told with commas.
        told = "" if access.startswith("ghu_") else ",".join(scope.split())
        answer: dict[str, Any] = {"access_token": access, "token_type": "bearer", "scope": told}
        expires_in = self.world.settings.github_token_expires_in
        if expires_in is not None:
            answer |= {
                "expires_in": expires_in,
                "refresh_token": refresh,
                "refresh_token_expires_in": REFRESH_LIFETIME,
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


def oauth_error(error: str, **more: float) -> dict[str, Any]:
    """Build the body of an error answer (RFC 6749 §5.2)."""
    told = {
        "error": error,
        "error_description": f"simulated: {error}",
        "error_uri": "https://docs.github.com",
    }
    return told | more


def _refused(request: web.Request, error: str, **more: float) -> web.Response:
    return _oauth_answer(request, oauth_error(error, **more))


def _oauth_answer(request: web.Request, answer: dict[str, Any], status: int = 200) -> web.Response:
    """JSON to who accepts it, a form to everybody else."""
    if "json" in request.headers.get("Accept", ""):
        return web.json_response(answer, status=status)
    return web.Response(
        text=urlencode(answer), status=status, content_type="application/x-www-form-urlencoded"
    )
