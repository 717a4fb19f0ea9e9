"""`/_control/`: how tests and demos pull the simulator's strings.

POST /_control/faults    {"path": "/user", "responses": [Fault, …]}   see `world.Fault`
POST /_control/settings  {"token_lifetime": 5, …}
GET  /_control/settings
POST /_control/approve   {"user_code"?: "…", "login"?: "…"}   without a code: the newest
POST /_control/deny      {"user_code"?: "…"}
POST /_control/revoke    {}                                   no token minted so far works any more
GET  /_control/requests  ?path=…                              credentials as fingerprints
POST /_control/reset     {}                                   forget grants, faults and requests
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from brokerd.simulator.world import Fault


if TYPE_CHECKING:
    from brokerd.simulator.world import World


__all__ = ["PREFIX", "ControlRoutes"]

PREFIX = "/_control/"


class ControlRoutes:
    """Handlers over one `World`."""

    def __init__(self, world: World) -> None:
        self.world = world

    def add_to(self, app: web.Application) -> None:
        """Register all routes."""
        app.router.add_post(f"{PREFIX}faults", self.faults)
        app.router.add_post(f"{PREFIX}settings", self.change_settings)
        app.router.add_get(f"{PREFIX}settings", self.settings)
        app.router.add_post(f"{PREFIX}approve", self.approve)
        app.router.add_post(f"{PREFIX}deny", self.deny)
        app.router.add_post(f"{PREFIX}revoke", self.revoke)
        app.router.add_get(f"{PREFIX}requests", self.requests)
        app.router.add_post(f"{PREFIX}reset", self.reset)

    async def faults(self, request: web.Request) -> web.Response:
        """Queue faults for a path."""
        body = await _json(request)
        try:
            faults = [Fault(**each) for each in body["responses"]]
            self.world.queue_faults(str(body["path"]), faults)
        except (KeyError, TypeError) as error:
            return web.json_response({"error": f"bad fault: {error}"}, status=400)
        return web.json_response({"queued": len(faults)})

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change some settings."""
        try:
            self.world.settings.change(await _json(request))
        except KeyError as error:
            return web.json_response({"error": f"unknown setting: {error}"}, status=400)
        return web.json_response(asdict(self.world.settings))

    async def settings(self, _request: web.Request) -> web.Response:
        """Show the settings."""
        return web.json_response(asdict(self.world.settings))

    async def approve(self, request: web.Request) -> web.Response:
        """Do what the person would do with the Authorize button."""
        return await self._decide(request, approve=True)

    async def deny(self, request: web.Request) -> web.Response:
        """Do what the person would do with the Cancel button."""
        return await self._decide(request, approve=False)

    async def _decide(self, request: web.Request, *, approve: bool) -> web.Response:
        body = await _json(request)
        found = self.world.decide(body.get("user_code"), approve=approve, login=body.get("login"))
        return web.json_response({"found": found}, status=200 if found else 404)

    async def revoke(self, _request: web.Request) -> web.Response:
        """Kill all tokens."""
        self.world.revoke_all()
        return web.json_response({})

    async def requests(self, request: web.Request) -> web.Response:
        """Show what was asked."""
        path = request.query.get("path")
        shown = [asdict(each) for each in self.world.requests if path in (None, each.path)]
        return web.json_response({"requests": shown})

    async def reset(self, _request: web.Request) -> web.Response:
        """Forget all but settings and tokens."""
        self.world.reset()
        return web.json_response({})


async def _json(request: web.Request) -> dict[str, Any]:
    if not request.can_read_body:
        return {}
    body = await request.json()
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="a JSON object, please")
    return body
