"""`/_control/`: how tests and demos pull the simulator's strings.

POST /_control/faults    {"path": "/user", "responses": [Fault, …]}   see `faults.Fault`
                         {"path"?: "/chat/completions", "named": ["402_date", …]}
                         {"path": "/user", "named": ["403_sso", …]}
                         (both at once: the named ones come first)
POST /_control/settings  {"token_lifetime": 5, "chat_quirks": ["comments"], …}  see `settings`
GET  /_control/settings
GET  /_control/names     names of the faults of Copilot's paths ("faults") and of GitHub's
                         ("github"), and of the quirks with what they are
POST /_control/approve   {"user_code"?: "…", "login"?: "…"}   without a code: the newest
POST /_control/deny      {"user_code"?: "…"}
POST /_control/token     {"kind": "github_pat_", "login"?, "client_id"?, "scope"?, "expires_in"?,
                          "host"?}   mint one of any kind: {"token": "…"}
POST /_control/revoke    {}                                   no token minted so far works any more
GET  /_control/requests  ?path=…                              see `records.RecordedRequest`
GET  /_control/last_body ?x_request_id=…   length and sha256 of the last completion's body, as sent
POST /_control/reset     {}                                   forget grants, faults, requests,
                                                              lock-outs and rates

A fault may leave the true answer but cut it ("truncate": 100), replace its body ("replace_body":
"<html>") or change fields of it ("json_patch": {"expires_at": "soon", "endpoints.api": 7}).
A token's kind is one of gho_ ghu_ github_pat_ ghs_ ghp_ ghr_; "host" is who issued it, a tenant
(octo.ghe.com) or github.com: without it all of them take it.

Quirks of one answer only: ask for the model `sim-quirk-NAME` or `sim-quirk-NAME+NAME`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from brokerd.simulator import github_refusals, quirks, refusals
from brokerd.simulator.copilot import CHAT_PATH
from brokerd.simulator.faults import Fault
from brokerd.simulator.naming import named


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
        app.router.add_get(f"{PREFIX}names", self.names)
        app.router.add_post(f"{PREFIX}approve", self.approve)
        app.router.add_post(f"{PREFIX}deny", self.deny)
        app.router.add_post(f"{PREFIX}token", self.token)
        app.router.add_post(f"{PREFIX}revoke", self.revoke)
        app.router.add_get(f"{PREFIX}requests", self.requests)
        app.router.add_get(f"{PREFIX}last_body", self.last_body)
        app.router.add_post(f"{PREFIX}reset", self.reset)

    async def faults(self, request: web.Request) -> web.Response:
        """Queue faults for a path."""
        body = await _json(request)
        try:
            names = body["named"] if "responses" not in body else body.get("named", [])
            copilots = names and all(each in refusals.NAMES for each in names)
            path = str(body.get("path", CHAT_PATH) if copilots else body["path"])
            faults = [named(each, self.world.wall(), path) for each in names]
            faults += [Fault(**each) for each in body.get("responses", [])]
            self.world.queue_faults(path, faults)
        except (KeyError, TypeError) as error:
            return web.json_response({"error": f"bad fault: {error}"}, status=400)
        return web.json_response({"queued": len(faults)})

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change some settings."""
        try:
            self.world.settings.change(await _json(request))
        except KeyError as error:
            return web.json_response({"error": f"unknown setting: {error}"}, status=400)
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(asdict(self.world.settings))

    async def settings(self, _request: web.Request) -> web.Response:
        """Show the settings."""
        return web.json_response(asdict(self.world.settings))

    async def names(self, _request: web.Request) -> web.Response:
        """Show what there is to choose from."""
        told = {name: quirk.about for name, quirk in quirks.QUIRKS.items()}
        shown = {"faults": refusals.NAMES, "github": github_refusals.NAMES, "quirks": told}
        return web.json_response(shown)

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

    async def token(self, request: web.Request) -> web.Response:
        """Mint a GitHub token."""
        try:
            return web.json_response({"token": self.world.mint(**await _json(request))})
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)

    async def revoke(self, _request: web.Request) -> web.Response:
        """Kill all tokens."""
        self.world.revoke_all()
        return web.json_response({})

    async def requests(self, request: web.Request) -> web.Response:
        """Show what was asked."""
        path = request.query.get("path")
        shown = [asdict(each) for each in self.world.requests if path in (None, each.path)]
        return web.json_response({"requests": shown})

    async def last_body(self, request: web.Request) -> web.Response:
        """Tell what the last completion's answer was, to the byte; 404 before there is one."""
        wanted = request.query.get("x_request_id")
        for each in reversed(self.world.requests):
            if each.path == CHAT_PATH and wanted in (None, each.request_id):
                shown = {
                    "x_request_id": each.request_id,
                    "status": each.status,
                    "length": each.sent,
                    "sha256": each.sent_sha256,
                    "finished": each.finished,
                    "cancelled": each.cancelled,
                }
                return web.json_response(shown)
        return web.json_response({"error": "no such completion"}, status=404)

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
