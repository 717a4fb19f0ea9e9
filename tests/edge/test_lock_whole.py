"""A lock as callers of the whole broker meet it, with completions under way."""

from __future__ import annotations

import gc

import pytest

from brokerd.upstream.request_head import RequestHead
from copilot_broker import Locked
from fakes.whole import a_secret_in, whole_broker


BODY = {"model": "sim-chat", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/chat/completions"


@pytest.fixture
async def whole(tmp_path):
    async with whole_broker(tmp_path, chat_interval=0.05, chat_chunks=10) as whole:
        yield whole


async def test_a_completion_under_way_ends_and_none_begins(whole):
    async with whole.client() as client, whole.client() as other:
        async with client.stream(BODY) as stream:
            chunks = [await anext(stream)]
            assert await other.lock()
            for wanted in (other.complete(BODY), other.token(), other.models(), other.quota()):
                with pytest.raises(Locked, match="broker_locked"):
                    await wanted
            chunks += [chunk async for chunk in stream]
        assert b"[DONE]" in b"".join(chunks)
        assert len(whole.asked(CHAT)) == 1
        assert await other.unlock()
        assert (await other.token()).account == "default"
        assert b"[DONE]" in (await other.complete(BODY)).body


def heads_beside(known: list[RequestHead]) -> list[RequestHead]:
    numbers = {id(each) for each in known}
    found = [each for each in gc.get_objects() if isinstance(each, RequestHead)]
    return [each for each in found if id(each) not in numbers]


async def test_no_token_stays_in_the_heads_of_requests(whole):
    others = heads_beside([])  # of other tests, as a failed one's
    async with whole.client() as client:
        await client.complete(BODY)
        heads = heads_beside(others)
        assert a_secret_in([vars(each) for each in heads])
        await client.lock()
        whole.upstream.copilot.forget_tokens()
        heads.clear()
        gc.collect()
        heads = heads_beside(others)
        assert not a_secret_in([vars(each) for each in heads])
        await client.unlock()
        assert (await client.complete(BODY)).status == 200
