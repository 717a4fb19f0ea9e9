"""The routes of the Copilot API: who may ask, what is refused, how the answer goes out."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from aiohttp import web

from brokerd.simulator import catalogue, chat, quirks, refusals
from brokerd.simulator.parameters import place_asked
from brokerd.simulator.quota import quota_headers
from brokerd.simulator.sending import Outgoing


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from brokerd.simulator.world import World

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = [
    "CHAT_PATH",
    "MODELS_PATH",
    "CopilotRoutes",
    "answer_completion",
    "completes",
    "wanted_id",
]

CHAT_PATH = "/chat/completions"
MODELS_PATH = "/models"
IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})


class ChatRefusedError(Exception):
    """A completion that is refused, with the answer to give."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class CopilotRoutes:
    """`GET {api}/models`; completions go past aiohttp's writer: see `answer_completion`."""

    def __init__(self, world: World) -> None:
        self.world = world

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get(MODELS_PATH, self.models)

    async def models(self, request: web.Request) -> web.Response:
        """`GET {api}/models`."""
        try:
            check_caller(self.world, request)
        except ChatRefusedError as refused:
            return web.Response(text=refused.text, status=refused.status)
        return web.json_response(catalogue.MODELS)


def check_caller(world: World, request: web.Request) -> None:
    """Refuse (421) who is at the wrong host and (401) who has no good token."""
    host = world.settings.copilot_host
    if host is not None and request.headers.get("Host") != host:
        raise ChatRefusedError(421, refusals.MISDIRECTED)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    place = place_asked(request)
    if world.lacks_permission(token):
        raise ChatRefusedError(401, refusals.NO_PERMISSION)
    if scheme.lower() != "bearer" or not world.accepts_bearer(token, place):
        raise ChatRefusedError(401, refusals.TOKEN_EXPIRED)
    if world.misdirects(token, place):
        raise ChatRefusedError(421, refusals.MISDIRECTED)


def wanted_id(request: web.Request) -> str:
    """Give `x-request-id` of the answer: the caller's own, or a new one."""
    return request.headers.get("X-Request-Id") or str(uuid.uuid4())


def completes(request: web.Request) -> bool:
    """Whether it asks for a completion, whose answer goes out byte by byte."""
    return request.method == "POST" and request.path == CHAT_PATH


def answer_completion(
    world: World, request: web.Request, content: bytes, usual: Mapping[str, str]
) -> Outgoing:
    """Answer what `completes`; `usual` are the headers of every answer."""
    return answer_chat(world, request, content, usual)


def answer_chat(
    world: World, request: web.Request, content: bytes, usual: Mapping[str, str]
) -> Outgoing:
    """`POST {api}/chat/completions`; `usual` are the headers of every answer."""
    started = time.monotonic()
    settings = world.settings
    try:
        check_caller(world, request)
        body = _readable(request, content, require_editor=settings.require_editor)
        model = _usable_model(body)
        _check_messages(request, body, model)
    except ChatRefusedError as refused:
        headers = {**usual, "content-type": "text/plain; charset=utf-8"}
        return Outgoing(refused.status, headers, [refused.text.encode()])
    name = body["model"]
    names = {
        *settings.chat_quirks,
        *(quirks.of_alias(name) or ()),
        *catalogue.MODEL_QUIRKS.get(name, ()),
    }
    streamed = body.get("stream") is True
    said = chat.say(model["id"], body["messages"], settings)
    if streamed:
        events = quirks.bend_events(chat.events(said), names)
        writes = chat.sse_writes(events, settings, crlf="crlf" in names)
        kind = "text/event-stream"
    else:
        text = json.dumps(quirks.bend_whole(chat.whole(said), names), ensure_ascii=False)
        writes = chat.json_writes(text.encode(), settings)
        kind = "application/json"
    framing = settings.chat_framing
    if framing == "auto":
        framing = "chunked" if streamed else "length"
    headers = {
        **usual,
        "content-type": kind,
        "x-copilot-service-request-id": str(uuid.uuid4()),
        "x-github-backend": "Simulator",
        "openai-processing-ms": f"{(time.monotonic() - started) * 1000:.3f}",
        **quota_headers(world.wall(), premium_remaining=settings.premium_remaining),
    }
    return Outgoing(
        200,
        headers,
        writes,
        framing,
        first_delay=settings.chat_first_delay,
        interval=settings.chat_interval,
        in_one=settings.chat_events_per_write == 0,
        tcp_split=settings.chat_tcp_split,
    )


def _refused(code: str, message: str) -> ChatRefusedError:
    return ChatRefusedError(400, refusals.error_text(code, message))


def _readable(request: web.Request, content: bytes, *, require_editor: bool) -> dict[str, Any]:
    names = ("Editor-Version", "Copilot-Integration-Id")
    if require_editor and not any(request.headers.get(name) for name in names):
        text = "bad request: missing Editor-Version header for IDE auth\n"
        raise ChatRefusedError(400, text)
    try:
        body = json.loads(content)
    except ValueError:
        raise ChatRefusedError(400, "bad request: the body is no JSON\n") from None
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages:
        raise _refused("invalid_request_body", "messages: at least one is needed")
    return dict(body)


def _usable_model(body: Mapping[str, Any]) -> dict[str, Any]:
    model = catalogue.chat_model(body.get("model"))
    if model is None:
        raise _refused("model_not_supported", refusals.MODEL_NOT_SUPPORTED)
    if CHAT_PATH not in model.get("supported_endpoints", [CHAT_PATH]):
        message = f'model "{model["id"]}" is not accessible via the {CHAT_PATH} endpoint'
        raise _refused("unsupported_api_for_model", message)
    return model


def _check_messages(
    request: web.Request, body: Mapping[str, Any], model: Mapping[str, Any]
) -> None:
    messages = body["messages"]
    limit = model["capabilities"]["limits"]["max_prompt_tokens"]
    count = chat.prompt_tokens(messages)
    if count > limit:
        message = f"prompt token count of {count} exceeds the limit of {limit}"
        raise _refused("model_max_prompt_tokens_exceeded", message)
    if _has_image(messages) and request.headers.get("Copilot-Vision-Request") != "true":
        text = "bad request: missing required Copilot-Vision-Request header for vision requests\n"
        raise ChatRefusedError(400, text)


def _has_image(messages: list[Any]) -> bool:
    parts = (
        part
        for each in messages
        if isinstance(each, dict) and isinstance(each.get("content"), list)
        for part in each["content"]
    )
    return any(isinstance(part, dict) and part.get("type") in IMAGE_PARTS for part in parts)
