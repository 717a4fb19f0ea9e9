"""What a request says about itself, in the several ways GitHub takes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brokerd.simulator.places import place_of


if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from brokerd.simulator.places import Place


__all__ = ["json_object", "parameters", "place_asked", "token_sent"]


def place_asked(request: web.Request) -> Place:
    """Tell which of GitHub's hosts a request is for."""
    return place_of(request.headers.get("Host", ""))


def token_sent(request: web.Request) -> str:
    """Give the token of a request; empty when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() in ("token", "bearer") else ""


async def json_object(request: web.Request) -> dict[str, Any] | None:
    """Read a JSON body; None when it is no object."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


async def parameters(request: web.Request) -> Mapping[str, str]:
    """Take parameters from a form, a JSON body or the query: GitHub takes all three."""
    if request.content_type == "application/json":
        body = await json_object(request) or {}
        return {key: str(value) for key, value in body.items()}
    form = await request.post()
    return {**request.query, **{key: str(value) for key, value in form.items()}}
