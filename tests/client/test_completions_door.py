"""Both clients' completions at the real RPC door, with upstream in the test's hands."""

from __future__ import annotations

import asyncio

import pytest

from brokerd.errors import ErrorClass, Failure
from copilot_broker import (
    AsyncClient,
    BrokerUnreachable,
    Client,
    Denied,
    Temporary,
    UpstreamRefused,
    UsageError,
)
from copilot_broker.calls.completion import MAX_BODY
from copilot_broker.wire.limits import STREAM_WINDOW
from fakes.broker import a_lease
from fakes.proxy import FakeReply
from fakes.rpc_door import PATIENCE, Door, until


AWKWARD = b"{\x00\xff" + bytes(range(256))
CHUNKS = [n.to_bytes(2, "big") * (1 + n % 100) for n in range(10_000)]


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        yield door


@pytest.fixture
def client(door):
    with Client(door.path, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def aclient(door):
    async with AsyncClient(door.path, timeout=PATIENCE) as client:
        yield client


async def closed(reply: FakeReply) -> None:
    async with asyncio.timeout(PATIENCE):
        await reply.closed.wait()


async def test_whole_answers(door, client, aclient):
    door.proxy.answers += [
        FakeReply(AWKWARD, status=status, account="work") for status in (200, 429)
    ]
    found = [
        await asyncio.to_thread(client.complete, AWKWARD, headers={"X-Initiator": "agent"}),
        await aclient.complete(AWKWARD, account="work"),
    ]
    assert [(answer.status, answer.body, answer.account) for answer in found] == [
        (200, AWKWARD, "work"),
        (429, AWKWARD, "work"),
    ]
    assert [request.body for request in door.proxy.requests] == [AWKWARD, AWKWARD]
    assert dict(door.proxy.requests[0].headers) == {"x-initiator": "agent"}


async def test_defaults_do_without_a_timeout(door):
    door.proxy.answers += [FakeReply(b"1"), FakeReply(b"2")]
    with Client(door.path) as client:
        assert (await asyncio.to_thread(client.complete, {})).body == b"1"
    async with AsyncClient(door.path) as aclient:
        assert (await aclient.complete({})).body == b"2"


async def test_largest_body_is_taken_and_a_larger_one_is_not_sent(door, aclient):
    body = b"x" * MAX_BODY
    headers = {"x-request-id": "i" * 1024}
    await aclient.complete(body, account="a" * 60, headers=headers)
    assert door.proxy.requests[0].body == body
    with pytest.raises(UsageError, match="body_too_large"):
        await aclient.complete(body + b"x")


@pytest.mark.parametrize("kind", ["client", "aclient"])
async def test_ten_thousand_chunks_of_a_stream(door, client, aclient, kind):
    reply = FakeReply(None, account="work")
    reply.feed(*CHUNKS)
    reply.end()
    door.proxy.answers.append(reply)
    if kind == "client":

        def read() -> bytes:
            with client.stream({}) as stream:
                assert (stream.status, stream.account) == (200, "work")
                return stream.read()

        found = await asyncio.to_thread(read)
    else:
        found = await aclient.stream({}).read()
    assert found == b"".join(CHUNKS)
    assert len(found) > 3 * STREAM_WINDOW


@pytest.mark.parametrize("kind", ["client", "aclient"])
async def test_leaving_early_cuts_upstream(door, client, aclient, kind):
    reply = FakeReply(None)
    reply.feed(b"1")
    door.proxy.answers.append(reply)
    if kind == "client":

        def leave() -> None:
            with client.stream({}) as stream:
                assert next(stream) == b"1"

        await asyncio.to_thread(leave)
    else:
        async for chunk in aclient.stream({}):
            assert chunk == b"1"
            break
    await closed(reply)


@pytest.mark.parametrize("ask", ["complete", "stream"])
async def test_cancelled_task_cuts_upstream_before_the_head(door, aclient, ask):
    door.proxy.may_answer.clear()

    async def wait() -> None:
        await getattr(aclient, ask)({})

    task = asyncio.create_task(wait())
    await until(lambda: door.proxy.waiting)
    task.cancel()
    await asyncio.wait([task])
    await until(lambda: door.proxy.cancelled)


@pytest.mark.parametrize("ask", ["complete", "stream"])
async def test_deadline_cuts_upstream_before_the_head(door, client, ask):
    door.proxy.may_answer.clear()
    with pytest.raises(Temporary, match="no answer from GitHub Copilot"):
        await asyncio.to_thread(getattr(client, ask), {}, timeout=1.0)
    await until(lambda: door.proxy.cancelled)


@pytest.mark.parametrize("kind", ["client", "aclient"])
async def test_death_of_upstream_is_typed(door, client, aclient, kind):
    reply = FakeReply(None)
    reply.feed(b"1")
    reply.cut()
    door.proxy.answers.append(reply)
    if kind == "client":
        reading = asyncio.to_thread(lambda: client.stream({}).read())
    else:
        reading = aclient.stream({}).read()
    with pytest.raises(Temporary, match="upstream_cut"):
        await reading


async def test_refusals_of_the_broker_are_typed(door, client, aclient):
    with pytest.raises(UsageError, match="path_not_allowed"):
        await asyncio.to_thread(client.complete, {}, path="/nowhere")
    with pytest.raises(UsageError, match="header_not_allowed"):
        await aclient.stream({}, headers={"authorization": "x"})
    assert door.proxy.requests == []


async def test_models(door, client, aclient):
    assert await asyncio.to_thread(client.models) == door.proxy.catalogue
    assert await aclient.models("work") == door.proxy.catalogue
    assert door.proxy.models_asked == [None, "work"]
    door.proxy.models_age = 700.0
    door.proxy.models_failure = Failure(ErrorClass.TEMPORARY, "upstream_429", "slow down", "Wait")
    for listed in (
        await asyncio.to_thread(client.model_list, fresh=True),
        await aclient.model_list(fresh=True),
    ):
        assert (listed.models, listed.age) == (door.proxy.catalogue, 700.0)
        assert isinstance(listed.failure, Temporary)
    assert door.proxy.models_wanted_fresh == [False, False, True, True]
    assert await asyncio.to_thread(client.enable_model, "m", "work") == "enabled"
    assert await aclient.enable_model("m") == "enabled"
    assert door.proxy.enabled == [("work", "m"), (None, "m")]


async def test_logout_tells_whether_github_has_revoked_it(door, client, aclient):
    assert await asyncio.to_thread(client.logout) is False
    assert await aclient.logout("work", revoke=True) is True
    assert door.broker.calls == [("logout", None, False), ("logout", "work", True)]


async def test_github_token_that_is_used_directly_reaches_nobody(door, client, aclient):
    door.broker.at_hand = door.broker.lease_answer = a_lease(is_direct=True)
    for _ in range(2):
        with pytest.raises(Denied, match="direct_mode"):
            await asyncio.to_thread(client.token)
        with pytest.raises(Denied, match="direct_mode"):
            await aclient.token()


async def test_refusals_are_the_brokers_words(door, client, aclient):
    refusal = Failure(ErrorClass.DENIED, "no_seat", "no seat", "Ask", "https://github.com/x", 9.0)
    door.proxy.answers += [FakeReply(b"no", status=403, refusal=refusal) for _ in range(4)]

    def take() -> None:
        for answer in (client.complete({}), client.stream({})):
            with pytest.raises(UpstreamRefused, match="no_seat") as caught:
                answer.raise_for_status()
            assert isinstance(caught.value, Denied)
            assert (caught.value.url, caught.value.retry_after) == ("https://github.com/x", 9.0)

    await asyncio.to_thread(take)
    with pytest.raises(UpstreamRefused, match="no_seat"):
        (await aclient.complete({})).raise_for_status()
    with pytest.raises(UpstreamRefused, match="no_seat"):
        await anext(aclient.stream({}).text())


@pytest.mark.parametrize("kind", ["client", "aclient"])
async def test_error_in_mid_stream_is_the_brokers_words(door, client, aclient, kind):
    reply = FakeReply(None, **{"content-type": "text/event-stream"})
    reply.feed(b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n')
    reply.feed(b'data: {"error":{"message":"too busy","code":"model_overloaded"}}\n\n')
    reply.end()
    door.proxy.answers.append(reply)
    texts = []

    def read() -> None:
        texts.extend(client.stream({}).text())

    async def aread() -> None:
        async for text in aclient.stream({}).text():
            texts.append(text)

    with pytest.raises(UpstreamRefused, match=r"model_overloaded: .*too busy") as caught:
        await (asyncio.to_thread(read) if kind == "client" else aread())
    assert texts == ["Hi"]
    assert isinstance(caught.value, Temporary)
    assert [account for account, _ in door.proxy.noted] == ["default"]


async def test_paused_stream_delays_no_call(door, client):
    reply = FakeReply(None)
    reply.feed(*[b"x" * 10_000] * 200)
    door.proxy.answers.append(reply)
    stream = await asyncio.to_thread(client.stream, {})
    await until(lambda: reply.paused)
    assert await asyncio.to_thread(client.token)
    assert reply.waiting
    reply.end()
    assert len(await asyncio.to_thread(stream.read)) == 2_000_000


async def test_door_that_closes_ends_streams(door, aclient):
    reply = FakeReply(None)
    reply.feed(b"1")
    door.proxy.answers.append(reply)
    stream = aclient.stream({})
    assert await anext(stream) == b"1"
    await door.server.drain(0)
    with pytest.raises((BrokerUnreachable, Temporary)):
        await stream.read()
