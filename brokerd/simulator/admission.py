"""What the Copilot API refuses before it does anything: who asks, for what, and in which words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from brokerd.simulator import catalogue, chat, refusals
from brokerd.simulator.parameters import place_asked


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

    from brokerd.simulator.world import World


__all__ = [
    "RefusedError",
    "bearer_of",
    "check_caller",
    "check_prompt",
    "readable",
    "refused",
    "usable_model",
]

KINDS = {"/embeddings": "embeddings", "/v1/engines": "completion"}
"""What a model has to be for, by path; for the others it is chat."""

IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})


class RefusedError(Exception):
    """A request that is refused, with the answer to give."""

    def __init__(
        self, status: int, text: str, headers: Mapping[str, str | None] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def refused(code: str, message: str, status: int = 400) -> RefusedError:
    """Refuse with a code, as JSON that is called text."""
    return RefusedError(status, refusals.error_text(code, message))


def bearer_of(request: web.Request) -> str:
    """Give the bearer token; empty when there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def check_caller(world: World, request: web.Request) -> str:
    """Refuse (421) who is at the wrong host and (401) who has no good token; name the others."""
    host = world.settings.copilot_host
    if host is not None and request.headers.get("Host") != host:
        raise RefusedError(421, refusals.MISDIRECTED)
    token, place = bearer_of(request), place_asked(request)
    if world.lacks_permission(token):
        raise RefusedError(401, refusals.NO_PERMISSION)
    if not world.accepts_bearer(token, place):
        raise RefusedError(401, refusals.TOKEN_EXPIRED)
    if world.misdirects(token, place):
        raise RefusedError(421, refusals.MISDIRECTED)
    return world.account_of(token)


def readable(world: World, request: web.Request, content: bytes) -> dict[str, Any]:
    """Read the body, of an editor or somebody who signed in with a GitHub token."""
    names = ("Editor-Version", "Copilot-Integration-Id")
    is_editors = world.accepts_copilot_token(bearer_of(request)) and world.settings.require_editor
    if is_editors and not any(request.headers.get(name) for name in names):
        text = "bad request: missing Editor-Version header for IDE auth\n"
        raise RefusedError(400, text)
    try:
        body = json.loads(content)
    except ValueError:
        raise RefusedError(400, "bad request: the body is no JSON\n") from None
    if not isinstance(body, dict):
        raise refused("invalid_request_body", "the body is no object")
    return body


def usable_model(world: World, account: str, name: Any, path: str) -> dict[str, Any]:
    """Give the entry of the model; refuse what is not there, not allowed, or not for `path`."""
    model = catalogue.usable(name, world.copilot.accepted[account])
    kind = KINDS.get(path, "chat")
    if model is None or model["capabilities"]["type"] != kind:
        raise refused("model_not_supported", refusals.MODEL_NOT_SUPPORTED)
    if kind == "chat" and path not in model.get("supported_endpoints", [catalogue.CHAT]):
        message = f'model "{model["id"]}" is not accessible via the {path} endpoint'
        raise refused("unsupported_api_for_model", message)
    return model


def check_prompt(
    request: web.Request, messages: Sequence[Any], model: Mapping[str, Any], code: str
) -> None:
    """Refuse a prompt that is too long, with `code`, and images nobody spoke of."""
    limit = model["capabilities"]["limits"]["max_prompt_tokens"]
    count = chat.prompt_tokens(messages)
    if count > limit:
        raise refused(code, f"prompt token count of {count} exceeds the limit of {limit}")
    if _has_image(messages) and request.headers.get("Copilot-Vision-Request") != "true":
        text = "bad request: missing required Copilot-Vision-Request header for vision requests\n"
        raise RefusedError(400, text)


def _has_image(messages: Sequence[Any]) -> bool:
    parts = (
        part
        for each in messages
        if isinstance(each, dict) and isinstance(each.get("content"), list)
        for part in each["content"]
    )
    return any(isinstance(part, dict) and part.get("type") in IMAGE_PARTS for part in parts)
