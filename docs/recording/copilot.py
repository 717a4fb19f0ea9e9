"""Chapters 7 to 9: models, completions, and every refusal that the broker acts on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokerd.simulator import refusals
from recording.stage import NOW, Part, Section, staged


__all__ = ["CHAT", "completions", "models", "refused"]

MESSAGES = [{"role": "user", "content": "Say hello"}]
QUESTION = {"model": "sim-chat", "messages": MESSAGES}
CHAT = "8.1 Chat, as one object"
"""The heading of the usual completion."""
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


async def models() -> Section:
    """7: which there are, and accepting their terms."""
    async with staged() as stage:
        await stage.sign_in()
        listed = await stage.part(
            "The list",
            "Kept for ten minutes; entries are passed on whole, so limits, endpoints, the "
            "multiplier and the policy are GitHub's own words.",
            stage.proxy.models(None),
            kept={"data": 1},
        )
        accepted = await stage.part(
            "Accepting a model's terms",
            "Sent by `copilot-cred models enable` only, never by itself: it is the person's word.",
            stage.proxy.enable_model(None, "sim-premium"),
        )
    return Section("Models", "What a plan has to offer.", [listed, accepted])


async def completions() -> Section:
    """8: all that is answered."""
    parts = [
        await _answered(
            CHAT.partition(" ")[2],
            "Sent for `copilot-cred chat --no-stream` and any tool that asks likewise; the body "
            "goes up and down untouched. `X-Initiator` is derived where the tool does not say it.",
            QUESTION,
        ),
        await _answered(
            "Chat, as a stream",
            "The usual way: server-sent events, passed on as they arrive, until `[DONE]`.",
            QUESTION | {"stream": True},
        ),
        await _answered(
            "Chat with an image",
            "An image part in the body makes the broker say `Copilot-Vision-Request`; without "
            "it Copilot refuses.",
            QUESTION | {"messages": [{"role": "user", "content": [IMAGE]}]},
            answered_like=CHAT,
        ),
        await _answered(
            "Responses",
            "OpenAI's newer form, which some models have instead of chat.",
            {"model": "sim-responses", "input": "Say hello", "store": False},
            path="/responses",
        ),
        await _answered(
            "Messages",
            "Anthropic's form; `anthropic-version` and `anthropic-beta` are passed on.",
            {"model": "sim-claude", "max_tokens": 64, "messages": MESSAGES},
            path="/v1/messages",
            anthropic_version="2023-06-01",
        ),
        await _answered(
            "Messages, as a stream",
            "The same as a stream: events have names, and `message_stop` is the last.",
            {"model": "sim-claude", "max_tokens": 64, "messages": MESSAGES, "stream": True},
            path="/v1/messages",
            anthropic_version="2023-06-01",
        ),
        await _answered(
            "Embeddings",
            "Nobody takes a turn here, so no initiator is sent.",
            {"model": "sim-embedding", "input": ["hello"], "dimensions": 3},
            path="/embeddings",
        ),
        await _answered(
            "A model of Copilot's choice",
            "Gives a session token, which a tool may send along as `copilot-session-token`.",
            {"auto_mode": {"model_hints": ["auto"]}},
            path="/models/session",
        ),
    ]
    return Section(
        "Completions",
        "What tools are there for. The host is the one that the exchange named; the connection is "
        "kept for the next one.",
        parts,
    )


async def _answered(
    title: str,
    about: str,
    body: dict[str, Any],
    *,
    path: str = "/chat/completions",
    answered_like: str = "",
    **headers: str,
) -> Part:
    async with staged() as stage:
        await stage.sign_in()
        question = stage.complete(body, path, **headers)
        return await stage.part(title, about, question, answered_like=answered_like)


async def refused() -> Section:
    """9: all that is not."""
    return Section(
        "Completions refused",
        "Each is passed on as it came, status and body; what it means is said beside it.",
        [
            await _refused(
                "401: the token ended",
                "The broker gets a new token and sends the same request once more, with the same "
                "`x-request-id`; the caller sees the second answer alone.",
                "401_token_expired",
            ),
            await _refused(
                "402: the quota is used up",
                "Nothing is sent again; the headers say when the quota starts anew.",
                "402_quota_exceeded",
                all_headers=True,
            ),
            await _refused(
                "403: not permitted",
                "Passed on; once a minute at most the token is replaced for whoever comes next, "
                "because a token carries the plan of when it was made.",
                "403_feature",
            ),
            await _misdirected(),
            await _refused(
                "422: filtered",
                "The answer, not the request, was stopped by Copilot's filter.",
                "422",
            ),
            await _limited(),
            await _refused(
                "466: too old",
                "The version in `X-GitHub-Api-Version` is no longer served: a newer broker is "
                "needed.",
                "466",
            ),
        ],
    )


async def _refused(title: str, about: str, fault: str, *, all_headers: bool = False) -> Part:
    async with staged() as stage:
        await stage.sign_in()
        stage.simulator.world.queue_faults("/chat/completions", [refusals.named(fault, NOW)])
        part = await stage.part(title, about, stage.complete(QUESTION), all_headers=all_headers)
        # Where the token is replaced for whoever comes next, nobody has waited for that.
        await stage.broker.lease()
        return _checked(replace(part, exchanges=part.exchanges + stage.taken()))


async def _misdirected() -> Part:
    async with staged() as stage:
        await stage.sign_in()
        # The person's seat has moved since the token was made.
        stage.simulator.world.settings.plan = "business"
        stage.simulator.world.queue_faults("/chat/completions", [refusals.named("421", NOW)])
        part = await stage.part(
            "421: another host's",
            "The token belongs to another Copilot host, say after a change of plan: the broker "
            "gets a new one and sends the same once more to the host that is named with it.",
            stage.complete(QUESTION),
        )
        return _checked(part)


def _checked(part: Part) -> Part:
    """Hold what is said of requests that are sent again against what was sent."""
    ids = {
        value
        for each in part.exchanges
        for name, value in (each.kept.request_headers if each.kept else [])
        if name.lower() == "x-request-id"
    }
    assert len(ids) == 1, "sent again under another id"
    return part


async def _limited() -> Part:
    async with staged() as stage:
        await stage.sign_in()
        stage.simulator.world.queue_faults(
            "/chat/completions", [refusals.named("429_rate_limited", NOW)]
        )
        part = await stage.part(
            "429: too much",
            "For `retry-after` seconds nothing is sent for this account, or for this model where "
            "`x-ratelimit-exceeded` names one: whoever asks meanwhile, any tool, is told at once "
            "how long it takes.",
            stage.complete(QUESTION),
        )
        held = await stage.part("", "", stage.complete(QUESTION))
        assert not held.exchanges, "sent in spite of the limit"
        return part
