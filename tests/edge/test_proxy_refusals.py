"""Refusals: explained before they are passed on, remembered, told to the pacer; and direct tokens."""

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.proxy import Proxy
from brokerd.proxy import peeked as peeked_module
from fakes.broker import a_lease, a_view
from fakes.clock import FakeClock, settle
from fakes.copilot import FakeReply, cut
from fakes.proxied import (
    AUTHORIZE,
    EXPIRED,
    FIRST,
    LOG,
    WAY,
    FakeLender,
    Taker,
    Ticker,
    each_way,  # noqa: F401 - runs each test three times
    failure_of,
    proxy_of,
    refused,
    request,
)


GITHUB = {"x-github-request-id": "ABCD:1"}
QUOTA = {"x-quota-snapshot-chat": "ent=300&ov=0.0&ovPerm=false&rem=50&rst=2026-05-01T00:00:00Z"}
LIMITED = json.dumps({"error": {"message": "Slow down.", "code": "rate_limited"}}).encode()
MODEL_LIMITED = LIMITED.replace(b"rate_limited", b"user_model_rate_limited")
DIRECT = a_lease(token="canary-gho", token_id="0000000d", is_direct=True)


def asks_for(model):
    return request(json.dumps({"model": model, "messages": []}).encode())


def limited(body=LIMITED, **headers):
    return FakeReply(429, {**GITHUB, **headers}, [body])


def under_way(proxy):
    return proxy.pacing("default").in_flight


# What is said.


@pytest.fixture(params=[logging.DEBUG, logging.INFO], ids=["watched", "unwatched"])
def both_ways(request, caplog):
    caplog.set_level(request.param, LOG.name)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "status", [302, 400, 401, 402, 403, 404, 413, 421, 422, 424, 429, 466, 500]
)
async def test_every_refusal_comes_explained_and_as_it_is(both_ways, status, stream):
    body = b'{"error": {"message": "Because.", "code": "why:x"}}'
    headers = {**GITHUB, "content-type": "text/plain"}
    proxy, _, _ = proxy_of(*[FakeReply(status, headers, [body]) for _ in range(2)])
    answer = await proxy.open(request(stream=stream))
    assert (answer.refusal.code, answer.refusal.message) == (
        "why",
        f"GitHub Copilot answered {status}: Because",
    )
    assert answer.status == status
    taker = Taker()
    answer.stream_to(taker)
    assert (b"".join(taker.chunks), taker.ends) == (body, [None])
    answer.close()
    assert under_way(proxy) == 0


@pytest.mark.parametrize("status", [200, 204])
async def test_what_is_no_refusal_is_not_read(both_ways, status):
    reply = FakeReply(status, {}, [b"a"], is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer = await proxy.open(request())
    assert answer.refusal is None
    assert not reply.is_taken
    assert proxy.last_refusal("default") is None


async def test_an_answer_that_is_not_githubs_says_so():
    proxy, _, _ = proxy_of(FakeReply(403, {"server": "squid"}, [b"<html>blocked"]))
    refusal = (await proxy.open(request())).refusal
    assert refusal.code == "intercepted"
    assert refusal.message.startswith("a proxy or firewall in between answered 403")
    assert "html" not in refusal.message


async def test_an_api_version_that_is_no_longer_supported_is_not_asked_for_again():
    proxy, copilot, lender = proxy_of(FakeReply(466, GITHUB, [b"bad request: the version"]))
    answer = await proxy.open(request())
    assert "[identity] copilot_api_version" in answer.refusal.hint
    assert answer.refusal.error_class is ErrorClass.DENIED
    assert (len(copilot.calls), len(lender.calls), lender.rejected) == (1, 1, [])


async def test_an_agents_sign_in_is_named_with_its_address():
    proxy, _, _ = proxy_of(FakeReply(401, GITHUB, [AUTHORIZE]))
    assert (await proxy.open(request())).refusal.url == "https://example.com/authorize"


async def test_terms_that_wait_are_named_where_the_list_of_models_is_at_hand():
    no = b'{"error": {"message": "The requested model is not supported.", "code": '
    no += b'"model_not_supported"}}'
    proxy, copilot, _ = proxy_of(*[FakeReply(400, GITHUB, [no]) for _ in range(3)])
    assert "enable ID" in (await proxy.open(asks_for("claude"))).refusal.hint
    copilot.models_answers = [[{"id": "claude", "policy": {"state": "unconfigured"}}]]
    await proxy.models(None)
    hint = (await proxy.open(asks_for("claude"))).refusal.hint
    assert hint.endswith(": copilot-cred models enable claude")
    assert "enable ID" in (await proxy.open(asks_for("other"))).refusal.hint
    assert proxy.last_refusal("default")[0].code == "model_not_supported"


# What is remembered.


async def test_the_last_refusal_is_remembered_with_its_age():
    ticker = Ticker()
    proxy, _, _ = proxy_of(refused(400, b"one"), refused(500, b"two"), ticker=ticker)
    await proxy.open(request())
    ticker.now += 5
    second = await proxy.open(request())
    ticker.now += 2
    assert proxy.last_refusal("default") == (second.refusal, 2.0)
    later = Failure(ErrorClass.TEMPORARY, "upstream_error", "GitHub Copilot broke off", "Again")
    proxy.note_refusal("default", later)
    assert proxy.last_refusal("default") == (later, 0.0)
    assert proxy.last_refusal("work") is None


async def test_quotas_are_read_of_whatever_answer_has_them():
    proxy, _, _ = proxy_of(
        FakeReply(200, QUOTA),
        FakeReply(200, {}),
        FakeReply(402, GITHUB | {"x-quota-snapshot-chat": "ent=300&rem=0"}, [b"no"]),
        FakeReply(200, {"x-quota-snapshot-chat": "odd"}),
    )
    assert proxy.quota("default") == {}
    for used in (150, 150, 300):
        await proxy.open(request())
        assert proxy.quota("default")["chat"].used == used
    await proxy.open(request())
    assert proxy.quota("default") == {}, "the last word, although it cannot be read"
    assert proxy.quota("work") == {}


async def test_nobody_goes_up_over_a_new_connection_into_a_pause():
    proxy, copilot, _ = proxy_of(FakeReply(429, {"retry-after": "100"}, [b"{}"]))
    copilot.has_connection = False
    copilot.connecting = made = asyncio.Event()
    asking = [asyncio.create_task(failure_of(proxy.open(request()))) for _ in range(10)]
    await settle()
    copilot.connecting = None
    (await proxy.open(request())).close()
    made.set()
    assert {failure.code for failure in await asyncio.gather(*asking)} == {"cooling_down"}
    assert len(copilot.calls) == 1
    view = proxy.pacing("default")
    assert (view.in_flight, view.cooldown_in, view.circuit) == (0, 100, "closed")


async def test_nothing_is_held_against_the_next_person_of_that_name():
    proxy, copilot, lender = proxy_of(
        limited(**QUOTA, **{"retry-after": "600"}), ticker=Ticker(), clock=FakeClock()
    )
    lender.changed()
    await settle()
    await proxy.models(None)
    await proxy.open(request())
    lender.views = [a_view(user_id=None, login=None)]
    lender.changed()
    await settle()
    lender.views = [a_view()]
    lender.changed()
    await settle()
    assert proxy.quota("default")
    assert proxy.last_refusal("default")
    assert (await failure_of(proxy.open(request()))).code == "cooling_down"
    lender.views = [a_view(user_id=7)]
    lender.changed()
    lender.changed()
    await settle()
    assert proxy.quota("default") == {}
    assert proxy.last_refusal("default") is None
    assert (await proxy.open(request())).status == 200
    await proxy.models(None)
    assert len(copilot.models_calls) == 2


# Pacing.


async def test_a_limit_is_everybodys_at_once_and_nothing_is_sent():
    clock = FakeClock()
    proxy, copilot, lender = proxy_of(limited(**{"retry-after": "30"}), clock=clock)
    lender.leases = [FIRST]
    answer = await proxy.open(request())
    assert (answer.status, answer.refusal.retry_after) == (429, 30.0)
    answer.close()
    for passed, left in ((0, 30), (10, 20)):
        await clock.advance(passed)
        failure = await failure_of(proxy.open(request()))
        assert (failure.code, failure.error_class) == ("cooling_down", ErrorClass.TEMPORARY)
        assert failure.retry_after == left
    assert len(copilot.calls) == 1
    await clock.advance(20)
    assert (await proxy.open(request())).status == 200
    assert proxy.pacing("default").cooldown_in is None


async def test_nothing_is_sent_while_a_limits_body_is_on_its_way():
    slow = FakeReply(429, {"retry-after": "30"}, is_live=True)
    proxy, copilot, lender = proxy_of(slow)
    lender.leases = [FIRST]
    limited_one = asyncio.create_task(proxy.open(request()))
    await slow.reading.wait()
    other = asyncio.create_task(failure_of(proxy.open(request())))
    await settle()
    assert len(copilot.calls) == 1
    slow.end()
    assert (await limited_one).status == 429
    assert (await other).code == "cooling_down"
    assert len(copilot.calls) == 1


async def test_nothing_is_sent_again_into_a_limit_that_came_while_the_token_was_replaced():
    proxy, copilot, lender = proxy_of(refused(401, **GITHUB), limited(**{"retry-after": "30"}))
    lender.leases = [FIRST]
    lender.gate = gate = asyncio.Event()  # the way to the second token
    gate.set()
    replaced = lender.lease

    async def lease(account=None, *, min_valid=60.0, reject=None):
        if reject is not None:
            assert (await proxy.open(request())).status == 429
            return a_lease(token="canary-second", token_id="00000002")
        return await replaced(account, min_valid=min_valid)

    lender.lease = lease
    assert (await failure_of(proxy.open(request()))).code == "cooling_down"
    assert len(copilot.calls) == 2, "the one refused, and the other one's"


async def test_a_named_accounts_refusal_names_it_in_its_next_step():
    work = a_lease(account="work")
    proxy, _, _ = proxy_of(refused(403), refused(403), lender=FakeLender(work))
    named = await proxy.open(request(account="work"))
    assert named.refusal.hint.endswith("copilot-cred status --account work")
    assert proxy.last_refusal("work")[0] == named.refusal
    unnamed = await proxy.open(request())
    assert unnamed.refusal.hint == named.refusal.hint, "work is the default, and not called so"
    proxy, _, _ = proxy_of(refused(403))
    assert (await proxy.open(request())).refusal.hint.endswith("copilot-cred status")


async def test_a_models_limit_is_that_models():
    proxy, copilot, lender = proxy_of(limited(MODEL_LIMITED, **{"retry-after": "30"}))
    lender.leases = [FIRST]
    await proxy.open(asks_for("a"))
    assert (await failure_of(proxy.open(asks_for("a")))).code == "cooling_down"
    assert (await proxy.open(asks_for("b"))).status == 200
    assert len(copilot.calls) == 2
    assert proxy.pacing("default").models.keys() == {"a"}


async def test_accounts_are_limited_apart():
    work = a_lease(account="work")
    proxy, _, _ = proxy_of(limited(), lender=FakeLender(FIRST, work))
    assert (await proxy.open(request())).status == 429
    assert (await proxy.open(request(account="work"))).status == 200


async def test_a_local_refusal_of_begin_is_raised_at_once_where_a_token_is_at_hand():
    proxy, _, lender = proxy_of(limited())
    lender.leases = [FIRST]
    await proxy.open(request())
    if WAY.now == "at once":
        with pytest.raises(TransientError, match="cooling_down"):
            Proxy.begin(proxy, request(), pytest.fail)
        assert under_way(proxy) == 1, "the 429 itself, which nobody has closed"


async def test_who_must_wait_is_served_in_turn_with_the_token_of_that_time():
    clock = FakeClock()
    late = a_lease(token="canary-late", token_id="0000001a")
    first = FakeReply(200, {}, [b"1"], is_live=True)
    proxy, copilot, lender = proxy_of(first, limited(), clock=clock)
    lender.leases = [FIRST]
    answer = await proxy.open(request())  # still under way
    (await proxy.open(request())).close()
    await clock.advance(60)
    assert proxy.pacing("default").limit == 1
    waiting = asyncio.create_task(proxy.open(request()))
    await settle()
    assert (len(copilot.calls), proxy.pacing("default").queued) == (2, 1)
    lender.leases = [late]
    answer.close()
    second = await waiting
    assert copilot.calls[2].token == late.token
    second.close()
    assert under_way(proxy) == 0


async def test_leaving_while_it_waits_its_turn_sends_nothing():
    clock = FakeClock()
    proxy, copilot, lender = proxy_of(
        FakeReply(200, {}, [b"1"], is_live=True), limited(), clock=clock
    )
    lender.leases = [FIRST]
    answer = await proxy.open(request())
    (await proxy.open(request())).close()
    await clock.advance(60)
    waiting = asyncio.create_task(proxy.open(request()))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    answer.close()
    await settle()
    assert (len(copilot.calls), under_way(proxy), proxy.pacing("default").queued) == (2, 0, 0)


# Every ticket is given back.


async def test_an_answer_is_under_way_until_it_is_closed():
    proxy, _, _ = proxy_of()
    answers = [await proxy.open(request()) for _ in range(3)]
    assert under_way(proxy) == 3
    for answer in answers:
        answer.close()
        answer.close()
    assert under_way(proxy) == 0


@pytest.mark.parametrize("status", [401, 421])
async def test_a_replay_goes_with_the_same_ticket(status):
    proxy, copilot, _ = proxy_of(refused(status), FakeReply(chunks=[b"fine"]))
    answer = await proxy.open(request())
    assert (len(copilot.calls), under_way(proxy)) == (2, 1)
    assert proxy.last_refusal("default") is None, "nobody was refused anything"
    answer.close()
    assert under_way(proxy) == 0


@pytest.mark.parametrize("is_replay", [True, False])
async def test_no_answer_is_no_longer_under_way(is_replay):
    lost = TransientError(cut("upstream_unreachable"))
    proxy, _, _ = proxy_of(*([refused(401)] if is_replay else []), lost)
    assert (await failure_of(proxy.open(request()))).code == "upstream_unreachable"
    assert under_way(proxy) == 0


async def test_a_login_that_died_leaves_nothing_under_way():
    error = TransientError(Failure(ErrorClass.LOCKED, "store_locked", "locked", "Unlock"))
    proxy, _, _ = proxy_of(refused(401), lender=FakeLender(FIRST, error))
    await failure_of(proxy.open(request()))
    assert under_way(proxy) == 0


@pytest.mark.parametrize("where", ["head", "replay", "body"])
async def test_leaving_gives_the_ticket_back(where):
    reply = FakeReply(401, is_live=True) if where == "body" else refused(401)
    proxy, copilot, _ = proxy_of(reply)
    if where == "head":
        copilot.gate = asyncio.Event()
    elif where == "replay":
        copilot.answers = [lambda call: setattr(copilot, "gate", asyncio.Event()) or reply]
    task = asyncio.create_task(proxy.open(request()))
    await settle()
    assert under_way(proxy) == 1
    task.cancel()
    await asyncio.wait([task])
    await settle()
    assert under_way(proxy) == 0


async def test_what_is_begun_and_closed_at_once_gives_the_ticket_back():
    for at_hand in (True, False):
        proxy, copilot, _ = proxy_of()
        copilot.has_connection = at_hand
        begun = Proxy.begin(proxy, request(), pytest.fail)
        begun.close()
        begun.close()
        await settle()
        assert under_way(proxy) == 0


async def test_ten_failures_in_a_row_open_the_circuit_and_a_busy_pool_is_none():
    proxy, copilot, lender = proxy_of(*[TransientError(cut("upstream_busy")) for _ in range(12)])
    lender.leases = [FIRST]
    for _ in range(12):
        assert (await failure_of(proxy.open(request()))).code == "upstream_busy"
    assert proxy.pacing("default").circuit == "closed"
    copilot.answers = [TransientError(cut("upstream_unreachable")) for _ in range(10)]
    for _ in range(10):
        assert (await failure_of(proxy.open(request()))).code == "upstream_unreachable"
    assert proxy.pacing("default").circuit == "open"
    assert (await failure_of(proxy.open(request()))).error_class is ErrorClass.TEMPORARY
    assert len(copilot.calls) == 22


# Direct tokens.


async def test_a_direct_token_is_sent_as_one():
    proxy, copilot, _ = proxy_of(lender=FakeLender(DIRECT))
    await proxy.open(request())
    assert (copilot.calls[0].is_direct, copilot.calls[0].token) == (True, DIRECT.token)


async def test_a_refused_direct_token_is_asked_about_and_not_replayed():
    proxy, copilot, lender = proxy_of(refused(401), refused(401), lender=FakeLender(DIRECT))
    for _ in range(2):
        answer = await proxy.open(request())
        assert (answer.status, await answer.read(100)) == (401, EXPIRED)
    assert (len(copilot.calls), len(lender.calls)) == (2, 2)
    assert lender.rejected == [("default", DIRECT.token_id)], "once a minute"


async def test_an_agents_sign_in_is_no_word_about_a_direct_token():
    proxy, _, lender = proxy_of(refused(401, AUTHORIZE), lender=FakeLender(DIRECT))
    await proxy.open(request())
    assert lender.rejected == []


async def test_a_direct_token_moves_to_another_host_too():
    moved = replace(DIRECT, api_base="https://moved.example.test")
    proxy, copilot, _ = proxy_of(
        refused(421), FakeReply(chunks=[b"fine"]), lender=FakeLender(DIRECT, moved)
    )
    assert (await proxy.open(request())).status == 200
    assert copilot.calls[1].api_base == moved.api_base


# What is no turn.


@pytest.mark.parametrize("path", ["/embeddings", "/models/session"])
async def test_nobody_is_said_to_have_begun_what_is_no_turn(both_ways, path):
    proxy, copilot, _ = proxy_of()
    await proxy.open(request(b'{"input": "an image of an assistant"}', path=path))
    assert copilot.calls[0].headers.keys() == {"x-request-id"}
    await proxy.open(request(path=path, headers={"x-initiator": "agent"}))
    assert copilot.calls[1].headers["x-initiator"] == "agent"


async def test_slow_refusals_hold_nobody_for_long(monkeypatch):
    monkeypatch.setattr(peeked_module, "PEEK_TIMEOUT", 0.01)
    reply = FakeReply(500, chunks=[b"slo"], is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer, taker = await proxy.open(request()), Taker()
    assert answer.refusal.message.endswith(": slo")
    answer.stream_to(taker)
    reply.push(b"w")
    answer.close()
    assert (taker.chunks, taker.ends) == ([b"slo", b"w"], [])
    assert reply.closed.is_set()
    assert under_way(proxy) == 0
