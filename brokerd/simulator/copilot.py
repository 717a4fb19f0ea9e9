"""The routes of the Copilot API: what each of them answers, and how the answer goes out.

    GET  {api}/models                 POST {api}/chat/completions   POST {api}/embeddings
    POST {api}/models/{id}/policy     POST {api}/responses
    POST {api}/models/session         POST {api}/v1/messages
    POST {completions}/v1/engines/{id}/completions

What is POSTed is answered past aiohttp's writer, to the byte.
"""

from __future__ import annotations

import json
import re
import secrets
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web

from brokerd.simulator import catalogue, chat, fim, quirks, refusals, responses
from brokerd.simulator.admission import (
    RefusedError,
    bearer_of,
    check_caller,
    check_prompt,
    readable,
    refused,
    usable_model,
)
from brokerd.simulator.bending import anthropic_events, anthropic_whole
from brokerd.simulator.embeddings import MAX_DIMENSIONS, embeddings, texts_of
from brokerd.simulator.quota import quota_headers, quota_snapshots
from brokerd.simulator.sending import Outgoing
from brokerd.simulator.strictness import check_taken


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from brokerd.simulator.memory import Visit
    from brokerd.simulator.records import RecordedRequest
    from brokerd.simulator.world import World

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = [
    "CHAT_PATH",
    "MODELS_PATH",
    "CopilotRoutes",
    "answer_completion",
    "completes",
    "visit",
    "wanted_id",
]

CHAT_PATH = catalogue.CHAT
MODELS_PATH = "/models"
RESPONSES_PATH = "/responses"
MESSAGES_PATH = "/v1/messages"
EMBEDDINGS_PATH = "/embeddings"
SESSION_PATH = "/models/session"
COMPLETION_PATHS = frozenset({CHAT_PATH, RESPONSES_PATH, MESSAGES_PATH, EMBEDDINGS_PATH})
POLICY_PATH = re.compile(r"/models/(.+)/policy")
ENGINES_PATH = re.compile(r"/v1/engines/(.+)/completions")
# Texts of one request for embeddings where the model does not say.
MAX_INPUTS = 256


class CopilotRoutes:
    """`GET {api}/models`; what is POSTed goes by `answer_completion`, past aiohttp's writer."""

    def __init__(self, world: World) -> None:
        self.world = world

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get(MODELS_PATH, self.models)

    async def models(self, request: web.Request) -> web.Response:
        """`GET {api}/models`: with the terms that this person has accepted."""
        try:
            account = check_caller(self.world, request)
        except RefusedError as refusal:
            return web.Response(text=refusal.text, status=refusal.status)
        return web.json_response(catalogue.listed(self.world.copilot.accepted[account]))


def completes(request: web.Request) -> bool:
    """Whether it asks for something whose answer goes out byte by byte."""
    path = request.path
    known = _is_completion(path) or path == SESSION_PATH or POLICY_PATH.fullmatch(path)
    return request.method == "POST" and bool(known)


def visit(world: World, request: web.Request, recorded: RecordedRequest, body: bytes) -> Visit:
    """Take note of a request before anything is answered."""
    is_completion = _is_completion(request.path)
    account = world.account_of(bearer_of(request)) if is_completion else ""
    return world.copilot.visit(account, body, recorded)


def wanted_id(request: web.Request) -> str:
    """Give `x-request-id` of the answer: the caller's own, or a new one."""
    return request.headers.get("X-Request-Id") or str(uuid.uuid4())


def answer_completion(
    world: World, request: web.Request, content: bytes, usual: Mapping[str, str], guest: Visit
) -> Outgoing:
    """Answer what `completes`; `usual` are the headers of every answer."""
    try:
        account = check_caller(world, request)
        if _is_completion(request.path):
            _check_rate(guest)
        body = readable(world, request, content)
        if request.path == SESSION_PATH:
            return _object(world, usual, _session(world, account, body))
        if policy := POLICY_PATH.fullmatch(request.path):
            return _object(world, usual, _policy(world, account, policy[1], body))
        if request.path == EMBEDDINGS_PATH:
            told = _embeddings(world, account, body)
            return replace(_object(world, usual, told), usage=told["usage"])
        if engine := ENGINES_PATH.fullmatch(request.path):
            return _fim(world, account, unquote(engine[1]), body, usual)
        return _completion(world, request, account, body, usual)
    except RefusedError as refusal:
        headers: dict[str, str | None] = {
            **usual, "content-type": "text/plain; charset=utf-8", **refusal.headers,
        }  # fmt: skip
        return Outgoing(refusal.status, headers, [refusal.text.encode()])


def _is_completion(path: str) -> bool:
    return path in COMPLETION_PATHS or ENGINES_PATH.fullmatch(path) is not None


def _check_rate(guest: Visit) -> None:
    wait = guest.wait()
    if wait is not None:
        limited = refusals.rate_limit("rate_limited", wait)
        raise RefusedError(429, limited.body, limited.headers)


def _session(world: World, account: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """`POST {api}/models/session`: a model chosen by Copilot."""
    hints = body.get("auto_mode", {})
    if not isinstance(hints, dict) or not isinstance(hints.get("model_hints"), list):
        raise refused("invalid_request_body", "auto_mode.model_hints: a list is needed")
    available = catalogue.available(world.copilot.accepted[account])
    return {
        "available_models": available,
        "selected_model": available[0],
        "session_token": f"sim-session.{secrets.token_hex(16)}",
        "expires_at": int(world.wall() + world.settings.session_lifetime),
        "discounted_costs": dict.fromkeys(available, 0.1),
    }


def _policy(world: World, account: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """`POST {api}/models/{id}/policy`: accept a model's terms; an organization's word stands."""
    model = catalogue.entry(name)
    if model is None:
        raise refused("model_not_found", f"model {name[:64]!r} not found", 404)
    if body.get("state") != "enabled":
        raise refused("invalid_request_body", "state: must be enabled")
    if model.get("policy", {}).get("state") == "disabled":
        raise RefusedError(403, "forbidden: the policy of your organization disables this model\n")
    if "policy" in model:
        world.copilot.accepted[account].add(name)
    return {"state": "enabled", "terms": model.get("policy", {}).get("terms", "")}


def _embeddings(world: World, account: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """`POST {api}/embeddings`."""
    model = usable_model(world, account, body.get("model"), EMBEDDINGS_PATH)
    texts, dimensions = texts_of(body.get("input")), body.get("dimensions", MAX_DIMENSIONS)
    if texts is None:
        raise refused("invalid_request_body", "input: a text or texts are needed")
    most = model["capabilities"]["limits"].get("max_inputs", MAX_INPUTS)
    if len(texts) > most:
        raise refused("invalid_request_body", f"input: {len(texts)} texts, at most {most}")
    if not isinstance(dimensions, int) or not 0 < dimensions <= MAX_DIMENSIONS:
        raise refused("invalid_request_body", f"dimensions: 1 to {MAX_DIMENSIONS}")
    return embeddings(model["id"], texts, dimensions)


def _fim(
    world: World, account: str, name: str, body: Mapping[str, Any], usual: Mapping[str, str]
) -> Outgoing:
    """`POST {completions}/v1/engines/{id}/completions`: in a stream or not at all."""
    started, settings = time.monotonic(), world.settings
    model = usable_model(world, account, name, "/v1/engines")
    if not isinstance(body.get("prompt"), str):
        raise refused("invalid_request_body", "prompt: a text is needed")
    if body.get("stream") is not True:
        raise refused("invalid_request_body", "stream: only true is supported")
    filled = fim.fill(model["id"], body)
    events = fim.events(filled)
    return Outgoing(
        200,
        _headers(world, usual, "text/event-stream", started),
        chat.sse_writes(events, settings, crlf=False),
        first_delay=settings.chat_first_delay,
        interval=settings.chat_interval,
        in_one=settings.chat_events_per_write == 0,
        tcp_split=settings.chat_tcp_split,
        usage=filled.usage,
    )


def _messages(path: str, body: Mapping[str, Any]) -> list[Any]:
    """Read what is said; refuse what that path does not take."""
    if path == RESPONSES_PATH:
        if body.get("store") is True:
            raise refused("store_not_supported", "store is not supported: nothing is kept here")
        if body.get("previous_response_id") is not None:
            name = str(body["previous_response_id"])[:64]
            message = f"Previous response with id '{name}' not found."
            raise refused("previous_response_not_found", message)
        messages = responses.messages_of(body)
    else:
        given = body.get("messages")
        messages = given if isinstance(given, list) else []
    if not messages:
        name = "input" if path == RESPONSES_PATH else "messages"
        raise refused("invalid_request_body", f"{name}: at least one is needed")
    last = messages[-1]
    if path == MESSAGES_PATH and isinstance(last, dict) and last.get("role") == "assistant":
        message = "This model does not support assistant message prefill."
        raise refused("invalid_request_body", message)
    return messages


def _completion(
    world: World,
    request: web.Request,
    account: str,
    body: Mapping[str, Any],
    usual: Mapping[str, str],
) -> Outgoing:
    """`POST {api}/chat/completions`, `/responses` and `/v1/messages`."""
    started = time.monotonic()
    settings, path, name = world.settings, request.path, body.get("model")
    messages = _messages(path, body)
    check_taken(path, request.headers, body)
    model = usable_model(world, account, name, path)
    # Too long a prompt has a code of its own, except for Responses.
    code = "model_max_prompt_tokens_exceeded"
    check_prompt(
        request, messages, model, "invalid_request_body" if path == RESPONSES_PATH else code
    )
    names = {
        *settings.chat_quirks,
        *(quirks.of_alias(str(name)) or ()),
        *(catalogue.MODEL_QUIRKS.get(str(name), ()) if path == CHAT_PATH else ()),
    }
    said = chat.say(model["id"], messages, settings, body)
    if body.get("stream") is True:
        events = quirks.bend_events(_events(world, path, said), names, is_chat=path == CHAT_PATH)
        writes = chat.sse_writes(events, settings, crlf="crlf" in names)
        kind = "text/event-stream"
    else:
        whole = chat.whole(said)
        if path == CHAT_PATH:
            whole = quirks.bend_whole(whole, names)
        elif path == MESSAGES_PATH:
            whole = anthropic_whole(whole)
        else:
            whole = responses.whole(said)
        writes = chat.json_writes(json.dumps(whole, ensure_ascii=False).encode(), settings)
        kind = "application/json"
    framing = settings.chat_framing
    if framing == "auto":
        framing = "length" if kind == "application/json" else "chunked"
    return Outgoing(
        200,
        _headers(world, usual, kind, started),
        writes,
        framing,
        first_delay=settings.chat_first_delay,
        interval=settings.chat_interval,
        in_one=settings.chat_events_per_write == 0,
        tcp_split=settings.chat_tcp_split,
        usage=said.usage,
    )


def _events(world: World, path: str, said: chat.Said) -> list[Any]:
    if path == RESPONSES_PATH:
        remaining = world.settings.premium_remaining
        return responses.events(said, quota_snapshots(world.wall(), premium_remaining=remaining))
    events = chat.events(said)
    return events if path == CHAT_PATH else anthropic_events(events)


def _object(world: World, usual: Mapping[str, str], body: Mapping[str, Any]) -> Outgoing:
    headers = _headers(world, usual, "application/json", time.monotonic())
    return Outgoing(200, headers, [json.dumps(body).encode()])


def _headers(
    world: World, usual: Mapping[str, str], kind: str, started: float
) -> dict[str, str | None]:
    return {
        **usual,
        "content-type": kind,
        "x-copilot-service-request-id": str(uuid.uuid4()),
        "x-github-backend": "Simulator",
        "openai-processing-ms": f"{(time.monotonic() - started) * 1000:.3f}",
        **quota_headers(world.wall(), premium_remaining=world.settings.premium_remaining),
    }
