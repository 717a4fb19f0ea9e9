"""The HTTP door against clients and an upstream that mean no good: what each once got away with."""

import asyncio
import base64
import gzip
import json

import pytest

from brokerd.core.keys import Key
from brokerd.core.unseen_usage import unseen_usage
from brokerd.gate import Gate
from brokerd.gateway import catalogue, completing
from brokerd.gateway.parser import RefusedError
from brokerd.gateway.unreadable import reply_to
from fakes.copilot import FakeReply, cut
from fakes.http_service import JSON, SSE, UID, Stand, a_model, streamed
from fakes.key_store import FakeKeyStore


CHAT = {"model": "gpt-x", "messages": [{"role": "user", "content": "hi"}]}
WHOLE = b'{"id":"c1","object":"chat.completion","choices":[],"usage":{"total_tokens":3}}'
EVENT = b'data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
MODELS = [a_model("gpt-x", "/chat/completions")]
PICTURE = base64.b64encode(b"\x89PNG" + bytes(3000)).decode()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_where_upstream_redirects_to_is_not_passed_on(status):
    """A library would follow it, with the prompt, and with our key in a header of its own."""
    headers = {**JSON, "location": "https://evil.example/", "refresh": "0; https://evil.example/"}
    stand = Stand(FakeReply(status=status, headers=headers), models=MODELS)
    answer = await stand.ask("/chat/completions", CHAT)
    assert answer.status == status
    assert "evil" not in str(answer.headers) + answer.body.decode()


@pytest.mark.parametrize("room", [0, 1, 3, 256])
async def test_what_is_kept_back_is_so_every_time(monkeypatch, room):
    """However many names are remembered, and however often they come."""
    monkeypatch.setattr(completing, "NAMES_MAX", room)
    monkeypatch.setattr(completing, "_seen", set())
    monkeypatch.setattr(completing, "_kept_back", {"content-length"})
    odd = {f"x-{number}": "kept" for number in range(5)}
    bad = {"location": "/evil", "alt-svc": "evil", "access-control-allow-origin": "evil"}
    for headers in (odd, {**odd, **bad}, bad, {**bad, **odd}, odd, bad):
        stand = Stand(FakeReply(headers={**JSON, **headers}, chunks=[WHOLE]), models=MODELS)
        answer = await stand.ask("/chat/completions", CHAT)
        assert "evil" not in str(answer.headers)
        assert [name for name in answer.headers if name.startswith("x-") and name in odd] == [
            name for name in headers if name in odd
        ]
    assert len(completing._seen) <= room


async def test_packed_stream_is_passed_whole():
    """A comment or an error put into it would be no gzip."""
    packed = gzip.compress(EVENT)
    reply = FakeReply(headers={**SSE, "content-encoding": "gzip"}, chunks=[packed[:9], packed[9:]])
    answer = await Stand(reply, models=MODELS).ask("/chat/completions", CHAT)
    assert gzip.decompress(answer.body) == EVENT
    assert answer.headers["content-encoding"] == "gzip"
    reply = FakeReply(
        headers={**SSE, "content-encoding": "gzip"}, chunks=[packed[:9]], failure=cut()
    )
    answer = await Stand(reply, models=MODELS).ask("/chat/completions", CHAT)
    assert (answer.status, answer.json["error"]["code"]) == (503, "upstream_cut")


@pytest.mark.parametrize("account", ["a" * 60_000, "\xe9", "work, default", "-x", "<b>"])
async def test_what_can_be_no_account_is_not_repeated(account):
    stand = Stand(models=MODELS)
    answer = await stand.ask("/chat/completions", CHAT, x_copilot_broker_account=account)
    assert (answer.status, answer.json["error"]["code"]) == (400, "bad_account")
    assert account not in answer.body.decode() + str(answer.headers)
    assert not stand.copilot.calls


def a_result(content):
    used = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
    return {
        "model": "gpt-x",
        "max_tokens": 9,
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ],
    }


IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
}


@pytest.mark.parametrize("content", ["done", [IMAGE], [{"type": "text", "text": "done"}, IMAGE]])
async def test_agent_s_turn_is_one_in_other_words_too(content):
    """As a person's it would be charged: Chat Completions puts the image into a user's message."""
    stand = Stand(models=MODELS)
    await stand.ask("/v1/messages", a_result(content))
    (call,) = stand.copilot.calls
    assert call.path == "/chat/completions"
    assert call.headers["x-initiator"] == "agent"
    assert call.headers.get("copilot-vision-request") == (None if content == "done" else "true")


async def test_person_s_turn_stays_one_and_the_caller_s_word_stands():
    stand = Stand(models=MODELS)
    asked = {**CHAT, "max_tokens": 9}
    await stand.ask("/v1/messages", asked)
    await stand.ask("/v1/messages", a_result([IMAGE]), x_initiator="user")
    assert [call.headers["x-initiator"] for call in stand.copilot.calls] == ["user", "user"]


async def test_a_list_that_takes_its_time_is_waited_for_no_longer(monkeypatch):
    monkeypatch.setattr(catalogue, "WAIT", 0.01)
    stand = Stand(models=MODELS)
    stand.copilot.models_gate = asyncio.Event()
    answer = await stand.ask("/v1/messages", CHAT)
    assert answer.status == 200
    assert [call.path for call in stand.copilot.calls] == ["/v1/messages"]
    stand.catalogue.close()


@pytest.mark.parametrize("reason", ["line_too_long", "head_too_long", "too_many_headers"])
def test_strangers_are_told_a_status_and_nothing_else(reason):
    assert reply_to(RefusedError(431, reason)).body
    assert not reply_to(RefusedError(431, reason), is_bare=True).body


async def test_nobody_is_kept_waiting_for_a_translation_without_end():
    """160,000 messages in five megabytes held up the whole broker for four seconds."""
    stand = Stand(models=MODELS)
    turns = [{"role": "user", "content": "hi"}]
    asked = {"model": "gpt-x", "max_tokens": 9}
    answer = await stand.ask("/v1/messages", {**asked, "messages": turns * 30_000})
    assert (answer.status, "30000 objects" in answer.json["error"]["message"]) == (400, True)
    assert not stand.copilot.calls
    await stand.ask("/v1/messages", {**asked, "messages": turns * 1000})
    assert [len(sent["messages"]) for sent in stand.sent] == [1000]


# -- what a key is charged -----------------------------------------------------------------------


async def spent_after(stand, *, secret, leave=False):
    outlet, work = stand.begin(
        "/chat/completions", {**CHAT, "stream": True}, authorization=f"Bearer {secret}"
    )
    async with asyncio.timeout(10):
        if leave:
            await outlet.changed.wait()
            work.close()
        else:
            await outlet.over.wait()
    (ended,) = stand.ended
    return ended.spent


@pytest.mark.parametrize(
    ("reply", "leave"),
    [
        (streamed(*[EVENT] * 20, is_live=True), True),
        (streamed(*[EVENT] * 20, failure=cut()), False),
        (streamed(*[EVENT] * 20, b"data: [DONE]\n\n"), False),
    ],
    ids=["hung up", "died", "not told"],
)
async def test_who_leaves_before_the_usage_is_told_is_charged_all_the_same(reply, leave):
    stand = Stand(reply, models=MODELS)
    stand.gate = stand.service._gate = Gate((), own_uid=UID, keys=FakeKeyStore())
    _, secret = stand.gate.create_key(lambda created, digest: Key("tool", digest, created))
    assert 10 < await spent_after(stand, secret=secret, leave=leave) < 100


def test_guess_is_of_the_prompt_and_what_was_said():
    assert unseen_usage(b"", 0) == 1
    assert unseen_usage(b"x y " * 1000, 0) == 1000
    assert unseen_usage(b"", 20_000) == 100


def test_image_is_not_charged_by_its_bytes():
    picture = base64.b64encode(bytes(300_000)).decode()
    body = json.dumps({"url": f"data:image/png;base64,{picture}"}).encode()
    assert len(body) > 400_000
    assert 1500 < unseen_usage(body, 0) < 2000
