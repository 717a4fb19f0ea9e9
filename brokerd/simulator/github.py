"""The routes of api.github.com: who somebody is, their seat, the exchange, the end of tokens.

Who asks with wrong credentials too often is locked out; who asks too much is limited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from brokerd.simulator import answers, billing, minting, places
from brokerd.simulator.answers import refused
from brokerd.simulator.notifications import error_envelope
from brokerd.simulator.parameters import json_object, place_asked, token_sent
from brokerd.simulator.seat import seat


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.simulator.minting import GitHubGrant
    from brokerd.simulator.world import World

    Answering = Callable[[web.Request, GitHubGrant], Awaitable[web.Response]]

__all__ = ["GitHubRoutes"]

# Most credentials that one revocation may name.
MAX_REVOKED = 1000


class GitHubRoutes:
    """Handlers over one `World`; `base_url` is what they call themselves on loopback."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.base_url = ""

    def add_to(self, app: web.Application) -> None:
        """Register all routes."""
        asking = {
            "/user": self.user,
            "/copilot_internal/v2/token": self.exchange,
            "/copilot_internal/user": self.seat,
            "/users/{login}/settings/billing/{page:premium_request|ai_credit}/usage": self.billing,
        }
        for path, answering in asking.items():
            app.router.add_get(path, self._signed_in(answering), allow_head=False)
        app.router.add_post("/graphql", self._signed_in(self.graphql))
        app.router.add_post("/credentials/revoke", self.revoke)

    def _signed_in(self, answering: Answering) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Let only those in whose token is good, and not too often."""

        async def handler(request: web.Request) -> web.Response:
            world, token = self.world, token_sent(request)
            named = minting.read_github_token(token)
            address = f"address {request.remote}"
            who = address if named is None else f"login {named.person.login}"
            if world.lockout.holds(who) or world.lockout.holds(address):
                return refused(403, answers.LOCKED_OUT)
            if "Authorization" not in request.headers:
                return refused(401, "Requires authentication")  # nothing wrong, nothing counted
            grant = world.github_grant(token, site=place_asked(request).site)
            if grant is None:
                if world.lockout.count(who):
                    return refused(403, answers.LOCKED_OUT)
                return refused(401, "Bad credentials")
            within, headers = world.rates.take(grant.person.login, world.wall())
            if not within:
                message = f"API rate limit exceeded for user ID {grant.person.id}."
                return refused(403, message, headers)
            answer = await answering(request, grant)
            answer.headers.update(headers)
            return answer

        return handler

    def _endpoints(self, request: web.Request) -> dict[str, str] | None:
        settings = self.world.settings
        if not settings.endpoints:
            return None
        place = place_asked(request)
        return places.endpoints(place, settings.plan, self.base_url, settings.api_base)

    async def user(self, _request: web.Request, grant: GitHubGrant) -> web.Response:
        """`GET /user`."""
        if grant.kind == "ghs_":
            return refused(403, answers.NOT_INTEGRATED)
        person = {"login": grant.person.login, "id": grant.person.id, "type": "User", "name": None}
        # Fine-grained tokens have permissions, and not even the header.
        headers = {"x-oauth-scopes": ", ".join(grant.scope.split())}
        return web.json_response(person, headers=None if grant.kind == "github_pat_" else headers)

    async def exchange(self, request: web.Request, grant: GitHubGrant) -> web.Response:
        """`GET /copilot_internal/v2/token`; any other method does not exist."""
        settings = self.world.settings
        if not self.world.exchangeable(grant):
            return refused(404, "Not Found")
        if settings.no_access is not None:
            body = error_envelope(settings.no_access, grant.person.login)
            return web.json_response(body, status=403)
        token, expires_at = self.world.issue_copilot_token(place_asked(request).site, grant.person)
        return web.json_response(
            answers.exchanged(
                settings.exchange_form,
                token=token,
                expires_at=expires_at,
                refresh_in=settings.refresh_in,
                sku=settings.sku,
                individual=settings.plan == "individual",
                endpoints=self._endpoints(request),
            )
        )

    async def seat(self, request: web.Request, grant: GitHubGrant) -> web.Response:
        """`GET /copilot_internal/user`."""
        settings = self.world.settings
        return web.json_response(
            seat(
                settings.user_form,
                login=grant.person.login,
                plan=settings.plan,
                sku=settings.sku,
                now=self.world.wall(),
                endpoints=self._endpoints(request),
            )
        )

    async def graphql(self, request: web.Request, grant: GitHubGrant) -> web.Response:
        """`POST /graphql`: `viewer { copilotEndpoints { api } login }` and nothing else."""
        body = await json_object(request)
        query = str((body or {}).get("query", ""))
        if "viewer" not in query:
            problem = {"message": "A query attribute must be specified and must be a string."}
            return web.json_response({"errors": [problem]})
        viewer: dict[str, Any] = {"login": grant.person.login}
        if "copilotEndpoints" in query:
            named = self._endpoints(request)
            if named is not None:
                named["originTracker"] = named.pop("origin-tracker")
            viewer["copilotEndpoints"] = named
        return web.json_response({"data": {"viewer": viewer}})

    async def billing(self, request: web.Request, grant: GitHubGrant) -> web.Response:
        """`GET /users/{login}/settings/billing/{page}/usage`."""
        form, person = self.world.settings.billing_form, grant.person
        if form == "expired":
            self.world.lockout.count(f"login {person.login}")
            return refused(401, "Bad credentials")
        is_known = request.match_info["login"].lower() == person.login.lower()
        if not is_known or form == "unknown_user":
            return refused(404, "Not Found")
        if grant.kind not in ("github_pat_", "ghp_") or form == "no_permission":
            return refused(403, "Resource not accessible by personal access token")
        asked = billing.period(request.query, self.world.wall())
        if asked is None:
            return refused(400, "Bad Request")
        page = request.match_info["page"]
        return web.json_response(billing.usage(page, form, person.login, asked))

    async def revoke(self, request: web.Request) -> web.Response:
        """`POST /credentials/revoke`: for anybody who holds them, but not signed in."""
        if "Authorization" in request.headers:
            return refused(403, "This endpoint does not take authenticated requests")
        body = await json_object(request)
        credentials = None if body is None else body.get("credentials")
        if (
            not isinstance(credentials, list)
            or not 1 <= len(credentials) <= MAX_REVOKED
            or not all(isinstance(each, str) and each for each in credentials)
        ):
            return refused(422, "Validation Failed")
        for each in credentials:
            self.world.revoke(each)
        return web.json_response({}, status=202)
