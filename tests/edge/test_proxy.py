"""One completion: what each answer makes us do, exactly how often, and what the caller sees."""

import asyncio
import contextlib
import json
import logging
import random
import uuid

import pytest

from brokerd.broker import Broker
from brokerd.core.settings import AccountSettings
from brokerd.core.tokens import CopilotToken, GitHubToken, IndexEntry, Login, User
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.pacer import Pacer
from brokerd.proxy import ACCOUNT_HEADER, Proxy
from brokerd.proxy import peeked as peeked_module
from brokerd.proxy import turn_headers as turn_headers_module
from brokerd.proxy.lender import MIN_VALID
from brokerd.proxy.peeked import PEEK_MAX
from brokerd.proxy.refused_tokens import DROP_PAUSE
from fakes.broker import a_lease, signed_out
from fakes.clock import FakeClock, settle
from fakes.copilot import FakeCopilot, FakeReply, cut
from fakes.github import FakeGitHub, transient
from fakes.proxied import (
    AUTHORIZE,
    BODY,
    EXPIRED,
    FIRST,
    LOG,
    SECOND,
    Asked,
    FakeLender,
    Taker,
    Ticker,
    each_way,  # noqa: F401 - runs each test three times
    failure_of,
    fields,
    proxy_of,
    refused,
    request,
)
from fakes.store import FakeIndex, FakeStore, FakeStores


@pytest.fixture(autouse=True)
def _nothing_secret_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.records:
        assert "canary" not in f"{record.getMessage()}{record.__dict__}"


@pytest.fixture(params=[logging.DEBUG, logging.INFO], ids=["watched", "unwatched"])
def both_ways(request, caplog):
    """An answer that is watched for the log is the same to its caller."""
    caplog.set_level(request.param, LOG.name)


# What is sent.


async def test_one_answer_is_one_lease_and_one_call(both_ways):
    proxy, copilot, lender = proxy_of(FakeReply(200, {"x-request-id": "r"}, [b'{"a"', b":1}"]))
    answer = await proxy.open(request())
    assert (answer.status, answer.account) == (200, "default")
    assert answer.headers == {"x-request-id": "r", ACCOUNT_HEADER: "default"}
    assert await answer.read(100) == b'{"a":1}'
    answer.close()
    assert copilot.replies[0].closed.is_set()
    assert lender.calls == [(None, MIN_VALID, None)]
    (call,) = copilot.calls
    assert (call.host, call.api_base, call.token) == ("github.com", FIRST.api_base, FIRST.token)
    assert (call.path, call.body) == ("/chat/completions", BODY)
    assert call.body is BODY, "not even copied"


async def test_the_account_is_the_callers_choice_and_the_leases_word():
    lender = FakeLender(a_lease(account="work", host="octo.ghe.com"))
    proxy, copilot, _ = proxy_of(lender=lender)
    answer = await proxy.open(request(account="work"))
    assert lender.calls == [("work", MIN_VALID, None)]
    assert copilot.calls[0].host == "octo.ghe.com"
    assert answer.headers[ACCOUNT_HEADER] == answer.account == "work"


async def test_a_request_gets_an_id_of_its_own_unless_it_has_one():
    proxy, copilot, _ = proxy_of()
    for _ in range(2):
        await proxy.open(request())
    await proxy.open(request(headers={"x-request-id": "mine"}))
    first, second, third = (call.headers["x-request-id"] for call in copilot.calls)
    assert uuid.UUID(first) != uuid.UUID(second)
    assert third == "mine"


@pytest.mark.parametrize(
    ("roles", "initiator", "reason"),
    [
        (("user", "user"), "user", "no_agent_role"),
        (("user", "system"), "user", "no_agent_role"),
        (("user", "tool"), "agent", "last_role_tool"),
        (("assistant", "user"), "user", "last_role_user"),
        (("assistant", "system"), "user", "last_role_system"),
    ],
)
async def test_the_initiator_is_derived_and_said(caplog, roles, initiator, reason):
    proxy, copilot, _ = proxy_of()
    messages = [{"role": role, "content": "x"} for role in roles]
    body = json.dumps({"messages": messages}).encode()
    await proxy.open(request(body))
    assert copilot.calls[0].headers["x-initiator"] == initiator
    assert "copilot-vision-request" not in copilot.calls[0].headers
    (said,) = fields(caplog, "initiator derived")
    assert (said["INITIATOR"], said["REASON"], said["ACCOUNT"]) == (initiator, reason, "default")
    assert said["levelname"] == "INFO"


async def test_a_run_of_the_same_initiator_is_said_once_a_second(caplog):
    now = 100.0
    proxy, _, _ = proxy_of(ticker=lambda: now)
    for seconds, role in enumerate(("user", "tool", "tool", "tool", "user", "user")):
        now = 100.0 + 0.4 * seconds
        await proxy.open(request(json.dumps({"messages": [{"role": role}]}).encode()))
    said = [record["INITIATOR"] for record in fields(caplog, "initiator derived")]
    assert said == ["user", "agent", "user"]
    now += 1.0
    await proxy.open(request(json.dumps({"messages": [{"role": "user"}]}).encode()))
    said = [record["INITIATOR"] for record in fields(caplog, "initiator derived")]
    assert said == ["user", "agent", "user", "user"]


@pytest.mark.parametrize("given", ["user", "agent", "Agent", "something new"])
@pytest.mark.parametrize("role", ["user", "tool"])
async def test_the_callers_initiator_is_never_changed(caplog, given, role):
    proxy, copilot, _ = proxy_of()
    body = json.dumps({"messages": [{"role": role, "content": "an image"}]}).encode()
    await proxy.open(request(body, headers={"x-initiator": given}))
    assert copilot.calls[0].headers["x-initiator"] == given
    assert not fields(caplog, "initiator derived")


async def test_a_body_is_not_read_for_a_caller_that_said_it(monkeypatch):
    monkeypatch.setattr("brokerd.proxy.turn_headers.read_turn", None)
    proxy, copilot, _ = proxy_of()
    await proxy.open(request(b"anything", headers={"x-initiator": "user"}))
    said = {"x-initiator": "user", "copilot-vision-request": "true"}
    await proxy.open(request(b"an image", headers=said))
    assert len(copilot.calls) == 2


@pytest.mark.parametrize("headers", [{}, {"x-initiator": "agent"}])
async def test_an_image_is_announced(headers):
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    body = json.dumps({"messages": [{"role": "user", "content": [image]}]}).encode()
    proxy, copilot, _ = proxy_of()
    await proxy.open(request(body, headers=headers))
    await proxy.open(request(body, headers={**headers, "copilot-vision-request": "false"}))
    first, second = (call.headers["copilot-vision-request"] for call in copilot.calls)
    assert (first, second) == ("true", "false")
    assert [call.headers["x-initiator"] for call in copilot.calls] == [
        headers.get("x-initiator", "user")
    ] * 2


async def test_an_unreadable_body_goes_up_as_it_is():
    proxy, copilot, _ = proxy_of()
    await proxy.open(request(b"\xff\x00 not json, an image"))
    assert copilot.calls[0].body == b"\xff\x00 not json, an image"
    assert copilot.calls[0].headers["x-initiator"] == "user"


async def test_the_callers_mapping_is_left_alone():
    given = {"openai-intent": "conversation-panel"}
    proxy, copilot, _ = proxy_of()
    await proxy.open(request(headers=given))
    assert given == {"openai-intent": "conversation-panel"}
    assert copilot.calls[0].headers["openai-intent"] == "conversation-panel"


# The table.


@pytest.mark.parametrize(
    "status", [200, 201, 204, 400, 404, 413, 422, 424, 429, 466, 499, 500, 502, 503, 529]
)
async def test_everything_without_a_row_is_passed_on_and_sent_once(both_ways, status):
    proxy, copilot, lender = proxy_of(refused(status, b"as it is", **{"retry-after": "7"}))
    answer = await proxy.open(request())
    assert (answer.status, answer.headers["retry-after"]) == (status, "7")
    assert await answer.read(100) == b"as it is"
    assert (len(copilot.calls), len(lender.calls), lender.rejected) == (1, 1, [])


@pytest.mark.parametrize("body", [EXPIRED, b"", b'{"message": "bad"}'])
async def test_a_401_is_one_rejection_one_refresh_one_replay(both_ways, caplog, body):
    proxy, copilot, lender = proxy_of(refused(401, body), FakeReply(chunks=[b"fine"]))
    answer = await proxy.open(request(headers={"openai-intent": "x"}))
    assert (answer.status, await answer.read(100)) == (200, b"fine")
    assert lender.calls == [(None, MIN_VALID, None), ("default", MIN_VALID, FIRST.token_id)]
    first, second = copilot.calls
    assert (first.token, second.token) == (FIRST.token, SECOND.token)
    assert second.api_base == SECOND.api_base
    assert second.body is first.body is BODY
    assert second.headers == first.headers, "the same x-request-id too"
    assert copilot.replies[0].closed.is_set()
    assert lender.rejected == []
    (said,) = fields(caplog, "token rejected by Copilot")
    assert (said["levelname"], said["ACCOUNT"], said["TOKEN_FP"]) == (
        "WARNING",
        "default",
        FIRST.token_id,
    )


@pytest.mark.parametrize("body", [AUTHORIZE, b'{"authorize_url":"https://example.com"}'])
async def test_a_401_that_wants_another_login_is_passed_on_untouched(both_ways, body):
    reply = refused(401, body, **{"content-length": str(len(body))})
    proxy, copilot, lender = proxy_of(reply)
    answer = await proxy.open(request())
    assert (answer.status, answer.account) == (401, "default")
    assert answer.headers["content-length"] == str(len(body))
    taker = Taker()
    answer.stream_to(taker)
    assert (b"".join(taker.chunks), taker.ends) == (body, [None])
    assert (len(copilot.calls), len(lender.calls), lender.rejected) == (1, 1, [])


async def test_a_421_is_replayed_to_the_base_of_the_new_token(both_ways, caplog):
    reply = refused(421, b"Misdirected Request")
    proxy, copilot, _ = proxy_of(reply, FakeReply(chunks=[b"fine"]))
    answer = await proxy.open(request())
    assert await answer.read(100) == b"fine"
    assert [call.api_base for call in copilot.calls] == [FIRST.api_base, SECOND.api_base]
    assert copilot.replies[0].closed.is_set()
    (said,) = fields(caplog, "wrong host for the token")
    assert (said["levelname"], said["API_BASE"]) == ("INFO", FIRST.api_base)
    assert not fields(caplog, "token rejected by Copilot")


@pytest.mark.parametrize("first", [401, 421])
@pytest.mark.parametrize("second", [401, 421, 402, 403, 429, 500])
async def test_there_is_one_replay_in_all(both_ways, first, second):
    last = refused(second, b"the last word")
    proxy, copilot, lender = proxy_of(refused(first), last)
    answer = await proxy.open(request())
    assert (answer.status, await answer.read(100)) == (second, b"the last word")
    assert (len(copilot.calls), len(lender.calls)) == (2, 2)
    assert lender.rejected == ([("default", SECOND.token_id)] if second == 403 else [])


async def test_an_authorize_url_after_a_replay_is_passed_on():
    proxy, copilot, lender = proxy_of(refused(401), refused(401, AUTHORIZE))
    answer = await proxy.open(request())
    assert await answer.read(1000) == AUTHORIZE
    assert (len(copilot.calls), len(lender.calls)) == (2, 2)


async def test_a_403_drops_the_token_and_nobody_waits(both_ways, caplog):
    proxy, copilot, lender = proxy_of(refused(403, b"forbidden\n"))
    answer = await proxy.open(request())
    assert (answer.status, await answer.read(100)) == (403, b"forbidden\n")
    assert (len(copilot.calls), len(lender.calls)) == (1, 1)
    assert lender.rejected == [("default", FIRST.token_id)]
    (said,) = fields(caplog, "completion forbidden")
    assert (said["levelname"], said["DROPPED"]) == ("INFO", 1)


async def test_403s_drop_a_token_once_a_minute_for_each_account():
    ticker = Ticker()
    work = a_lease(account="work")
    lender = FakeLender(FIRST, FIRST, work, FIRST, FIRST, FIRST)
    proxy, copilot, _ = proxy_of(*[refused(403) for _ in range(6)], lender=lender, ticker=ticker)
    dropped = []
    for passed in (0, 1, 0, DROP_PAUSE - 1.1, 0.1, 1):
        ticker.now += passed
        lender.rejected.clear()
        assert (await proxy.open(request())).status == 403
        dropped += [[account for account, _ in lender.rejected]]
    assert dropped == [["default"], [], ["work"], [], ["default"], []]
    assert len(copilot.calls) == 6


async def test_a_402_is_passed_on_and_told(both_ways, caplog):
    proxy, copilot, lender = proxy_of(refused(402, b"quota", **{"retry-after": "3600"}))
    answer = await proxy.open(request())
    assert (answer.status, await answer.read(100)) == (402, b"quota")
    assert answer.headers["retry-after"] == "3600"
    assert (len(copilot.calls), len(lender.calls), lender.rejected) == (1, 1, [])
    assert len(fields(caplog, "quota used up")) == 1


# What a refresh that fails makes of a 401.


@pytest.mark.parametrize("code", ["network_down", "token_pending"])
async def test_a_421_is_passed_on_when_no_token_comes_for_now(both_ways, code):
    proxy, copilot, _ = proxy_of(refused(421), lender=FakeLender(FIRST, transient(code)))
    answer = await proxy.open(request())
    assert (answer.status, await answer.read(100)) == (421, EXPIRED)
    assert answer.headers[ACCOUNT_HEADER] == "default"
    assert len(copilot.calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        signed_out(),
        PermanentError(Failure(ErrorClass.DENIED, "no_copilot_access", "no", "Ask")),
        TransientError(Failure(ErrorClass.LOCKED, "store_locked", "locked", "Unlock")),
        transient("network_down"),
        transient("token_pending"),
    ],
)
async def test_why_there_is_no_token_says_more_than_a_401(error):
    proxy, copilot, _ = proxy_of(refused(401), lender=FakeLender(FIRST, error))
    assert await failure_of(proxy.open(request())) == error.failure
    assert len(copilot.calls) == 1
    assert copilot.replies[0].closed.is_set()


async def test_the_same_token_again_is_not_tried_again():
    proxy, copilot, lender = proxy_of(refused(401), lender=FakeLender(FIRST))
    answer = await proxy.open(request())
    assert (answer.status, await answer.read(100)) == (401, EXPIRED)
    assert (len(copilot.calls), len(lender.calls)) == (1, 2)


async def test_the_same_token_for_another_base_is_tried():
    moved = a_lease(token=FIRST.token, token_id=FIRST.token_id, api_base=SECOND.api_base)
    proxy, copilot, _ = proxy_of(refused(421), lender=FakeLender(FIRST, moved))
    assert (await proxy.open(request())).status == 200
    assert copilot.calls[1].api_base == SECOND.api_base


async def test_no_login_is_said_before_anything_is_sent():
    proxy, copilot, _ = proxy_of(lender=FakeLender(signed_out()))
    assert (await failure_of(proxy.open(request()))).error_class is ErrorClass.LOGIN_REQUIRED
    assert not copilot.calls


# Nothing else is ever sent twice.


@pytest.mark.parametrize("code", ["upstream_unreachable", "upstream_cut", "upstream_slow"])
async def test_no_answer_is_not_asked_for_again(code):
    proxy, copilot, lender = proxy_of(TransientError(cut(code)))
    assert (await failure_of(proxy.open(request()))).code == code
    assert (len(copilot.calls), len(lender.calls)) == (1, 1)


async def test_a_replay_without_an_answer_is_not_asked_for_again():
    proxy, copilot, _ = proxy_of(refused(401), TransientError(cut()))
    assert (await failure_of(proxy.open(request()))).code == "upstream_cut"
    assert len(copilot.calls) == 2


@pytest.mark.parametrize("status", [200, 500])
async def test_a_body_that_is_cut_is_not_asked_for_again(both_ways, status):
    reply = FakeReply(status, {}, [b"half"], failure=cut())
    proxy, copilot, _ = proxy_of(reply)
    answer = await proxy.open(request())
    taker = Taker()
    answer.stream_to(taker)
    assert (taker.chunks, taker.ends) == ([b"half"], [cut()])
    answer.close()
    proxy, copilot, _ = proxy_of(FakeReply(status, {}, [b"half"], failure=cut()))
    assert await failure_of((await proxy.open(request())).read(100)) == cut()
    assert len(copilot.calls) == 1


# Bodies that have to be read first.


async def test_a_refusal_too_long_to_read_is_replayed_as_a_plain_one():
    long = FakeReply(401, {}, [b'{"authorize_url": "x"' + b" " * PEEK_MAX, b"}"])
    proxy, copilot, _ = proxy_of(long, FakeReply(chunks=[b"fine"]))
    assert await (await proxy.open(request())).read(100) == b"fine"
    assert copilot.replies[0].closed.is_set()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_refusal_that_was_cut_is_passed_on_as_cut(is_streamed):
    reply = FakeReply(421, {"a": "b"}, [b"unauth"], failure=cut())
    proxy, _, _ = proxy_of(reply, lender=FakeLender(FIRST, transient()))
    answer = await proxy.open(request())
    assert (answer.status, answer.headers["a"]) == (421, "b")
    if is_streamed:
        taker = Taker()
        answer.stream_to(taker)
        assert (taker.chunks, taker.ends) == ([b"unauth"], [cut()])
    else:
        assert await failure_of(answer.read(100)) == cut()


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_refusal_that_does_not_end_is_not_waited_for(monkeypatch, is_streamed):
    monkeypatch.setattr(peeked_module, "PEEK_TIMEOUT", 0.01)
    reply = FakeReply(401, chunks=[b"una"], is_live=True)
    proxy, copilot, _ = proxy_of(reply, FakeReply(chunks=[b"fine"]))
    assert await (await proxy.open(request())).read(100) == b"fine"
    assert reply.closed.is_set()

    reply = FakeReply(421, chunks=[b"una"], is_live=True)
    proxy, copilot, _ = proxy_of(reply, lender=FakeLender(FIRST, transient()))
    answer = await proxy.open(request())
    assert reply.is_paused, "nothing is collected that nobody takes"
    assert answer.refusal.message == "GitHub Copilot answered 421: una"
    if is_streamed:
        taker = Taker()
        answer.stream_to(taker)
        reply.push(b"uthor")
        reply.push(b"ized")
        assert (taker.chunks, taker.ends) == ([b"una", b"uthor", b"ized"], [])
        reply.end()
        assert taker.ends == [None]
    else:
        reading = asyncio.create_task(answer.read(100))
        await settle()
        reply.push(b"uthorized")
        reply.end()
        assert await reading == b"unauthorized"
    assert len(copilot.calls) == 1


async def test_a_long_refusal_is_passed_on_whole_and_as_it_comes():
    chunks = [b"x" * 40_000, b"y" * 40_000]
    reply = FakeReply(400, chunks=chunks, is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer, taker = await proxy.open(request()), Taker()
    assert reply.is_paused
    answer.stream_to(taker)
    assert taker.chunks == [b"".join(chunks)]
    last = b"z" * 100_000
    reply.push(last)
    assert taker.chunks[-1] is last
    answer.pause()
    reply.push(b"!")
    assert taker.chunks[-1] is last
    answer.resume()
    reply.end(cut())
    assert (taker.chunks[-1], taker.ends) == (b"!", [cut()])


async def test_a_long_refusal_is_read_whole_or_refused_by_its_length():
    chunks = [b"x" * 40_000, b"y" * 40_000, b"z" * 40_000]
    proxy, _, _ = proxy_of(*[FakeReply(400, chunks=chunks) for _ in range(3)])
    assert await (await proxy.open(request())).read(120_000) == b"".join(chunks)
    for limit in (119_999, 10):
        assert (await failure_of((await proxy.open(request())).read(limit))).code == (
            "upstream_too_long"
        )


async def test_leaving_while_a_long_refusal_is_read_cuts_it():
    reply = FakeReply(400, chunks=[b"x" * 70_000], is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer = await proxy.open(request())
    reading = asyncio.create_task(answer.read(1_000_000))
    await settle()
    await cancelled(reading)
    assert reply.closed.is_set()


async def held(body=AUTHORIZE):
    proxy, _, _ = proxy_of(refused(401, body))
    return await proxy.open(request())


async def test_a_held_answer_can_be_paused_before_its_bytes():
    answer, taker = await held(), Taker()
    answer.pause()
    answer.stream_to(taker)
    assert (taker.chunks, taker.ends) == ([], [])
    answer.resume()
    assert (taker.chunks, taker.ends) == ([AUTHORIZE], [None])
    answer.resume()
    answer.close()
    answer.close()
    assert (taker.chunks, taker.ends) == ([AUTHORIZE], [None])


async def test_a_held_answer_can_be_paused_and_left_by_its_bytes():
    answer = await held()
    taker = Taker(on_data=answer.pause)
    answer.stream_to(taker)
    assert (taker.chunks, taker.ends) == ([AUTHORIZE], [])
    answer.resume()
    assert (taker.chunks, taker.ends) == ([AUTHORIZE], [None])
    answer = await held()
    taker = Taker(on_data=answer.close)
    answer.stream_to(taker)
    answer.resume()
    assert (taker.chunks, taker.ends) == ([AUTHORIZE], [])


async def test_a_held_answer_is_as_bounded_as_any():
    answer = await held()
    assert (await failure_of(answer.read(10))).error_class is ErrorClass.TEMPORARY
    assert await (await held()).read(len(AUTHORIZE)) == AUTHORIZE


# Streams.


async def test_a_stream_passes_read_by_read(both_ways):
    chunks = [b"data: {}\n\n", b"da", b"ta: [DONE]\n\n", b"\xff\x00"]
    reply = FakeReply(200, {"content-type": "text/event-stream"}, chunks[:1], is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer = await proxy.open(request(stream=True))
    taker = Taker()
    answer.stream_to(taker)
    assert taker.chunks == chunks[:1]
    for chunk in chunks[1:]:
        reply.push(chunk)
    assert taker.chunks == chunks
    assert all(a is b for a, b in zip(taker.chunks, chunks, strict=True))
    assert taker.ends == []
    reply.end()
    assert taker.ends == [None]


async def test_pause_resume_and_close_reach_upstream(both_ways):
    reply = FakeReply(chunks=[b"1", b"2", b"3"], is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer = await proxy.open(request(stream=True))
    taker = Taker(on_data=answer.pause)
    answer.stream_to(taker)
    assert taker.chunks == [b"1"]
    assert reply.is_paused
    answer.resume()
    assert taker.chunks == [b"1", b"2"]
    taker.on_data = answer.close
    answer.resume()
    assert taker.chunks == [b"1", b"2", b"3"]
    assert reply.closed.is_set()
    answer.close()
    assert taker.ends == []


async def test_the_end_is_written_down_for_debugging(caplog):
    caplog.set_level(logging.DEBUG, LOG.name)
    usage = b'data: {"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
    ticker = Ticker()
    reply = FakeReply(chunks=[usage, b"data: [DONE]\n\n"], is_live=True)
    proxy, _, _ = proxy_of(reply, ticker=ticker)
    answer = await proxy.open(request(stream=True))
    answer.stream_to(Taker())
    ticker.now += 1.5
    assert not fields(caplog, "completion ended")
    reply.end()
    answer.close()
    (said,) = fields(caplog, "completion ended")
    expected = {
        "levelname": "DEBUG",
        "ACCOUNT": "default",
        "STATUS": 200,
        "BYTES": len(usage) + 14,
        "DURATION_MS": 1500,
        "INITIATOR": "user",
        "REASON": "no_agent_role",
        "END": "whole",
        "DONE": 1,
        "PROMPT_TOKENS": 3,
        "COMPLETION_TOKENS": 4,
        "CACHED_TOKENS": None,
        "TOTAL_TOKENS": 7,
    }
    assert said.items() >= expected.items()


@pytest.mark.parametrize("way", ["left", "upstream_cut"])
async def test_other_ends_are_written_down_too(caplog, way):
    caplog.set_level(logging.DEBUG, LOG.name)
    reply = FakeReply(chunks=[b"x"], is_live=True)
    proxy, _, _ = proxy_of(reply)
    answer = await proxy.open(request(stream=True, headers={"x-initiator": "canary"}))
    answer.stream_to(Taker())
    if way == "upstream_cut":
        reply.end(cut())
    answer.close()
    (said,) = fields(caplog, "completion ended")
    assert (said["END"], said["DONE"], said["BYTES"]) == (way, 0, 1)
    assert (said["INITIATOR"], said["REASON"]) == ("other", "caller")
    assert "TOTAL_TOKENS" not in said


async def test_a_read_body_is_written_down(caplog):
    caplog.set_level(logging.DEBUG, LOG.name)
    body = b'{"choices": [], "usage": {"total_tokens": 7}}'
    proxy, _, _ = proxy_of(FakeReply(chunks=[body]), FakeReply(chunks=[b"x"], failure=cut()))
    await (await proxy.open(request())).read(1000)
    await failure_of((await proxy.open(request())).read(1000))
    whole, broken = fields(caplog, "completion ended")
    assert (whole["END"], whole["TOTAL_TOKENS"], whole["BYTES"]) == ("whole", 7, len(body))
    assert broken["END"] == "upstream_cut"


async def test_nobody_who_debugs_means_nothing_between_upstream_and_receiver(caplog):
    caplog.set_level(logging.INFO, LOG.name)
    seen = []

    class Direct(FakeReply):
        def stream_to(self, receiver):
            seen.append(receiver)
            super().stream_to(receiver)

    proxy, _, _ = proxy_of(Direct(chunks=[b"x"]))
    answer, taker = await proxy.open(request(stream=True)), Taker()
    answer.stream_to(taker)
    assert seen == [taker]
    assert not fields(caplog, "completion ended")


# Leaving early.


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_while_a_token_is_awaited_sends_nothing():
    proxy, copilot, lender = proxy_of()
    lender.gate = asyncio.Event()
    task = asyncio.create_task(proxy.open(request()))
    await settle()
    await cancelled(task)
    assert not copilot.calls


async def test_leaving_while_upstream_is_asked_cuts_it():
    proxy, copilot, _ = proxy_of()
    copilot.gate = asyncio.Event()
    task = asyncio.create_task(proxy.open(request()))
    await settle()
    await cancelled(task)
    assert (len(copilot.calls), copilot.cancelled) == (1, 1)


async def test_leaving_while_the_replay_is_asked_for_cuts_it():
    def answer(call):
        copilot.gate = asyncio.Event()  # for the next call
        return refused(401)

    proxy, copilot, _ = proxy_of(answer)
    task = asyncio.create_task(proxy.open(request()))
    await settle()
    await cancelled(task)
    assert (len(copilot.calls), copilot.cancelled) == (2, 1)
    assert copilot.replies[0].closed.is_set()


async def test_leaving_while_a_refusal_is_held_closes_it():
    reply = FakeReply(401, is_live=True)
    proxy, copilot, lender = proxy_of(reply)
    task = asyncio.create_task(proxy.open(request()))
    await reply.reading.wait()
    await cancelled(task)
    assert reply.closed.is_set()
    assert (len(copilot.calls), len(lender.calls)) == (1, 1)


async def test_leaving_while_the_token_is_replaced_sends_nothing_more():
    proxy, copilot, lender = proxy_of(refused(401))
    task = asyncio.create_task(proxy.open(request()))
    await copilot.asked.wait()
    lender.gate = asyncio.Event()
    await settle()
    assert len(lender.calls) == 2
    await cancelled(task)
    assert len(copilot.calls) == 1
    assert copilot.replies[0].closed.is_set()


# With the real broker.


class World:
    """A broker that is signed in, and a Copilot that knows which tokens are dead."""

    def __init__(self):
        self.clock = FakeClock()
        self.github = FakeGitHub(self.clock)
        login = Login("github.com", User(42, "octocat"), GitHubToken("gho_kept"), "app")
        store, index = FakeStore(), FakeIndex()
        store.items[login.key] = login
        index.put("default", IndexEntry("github.com", 42, "octocat", "memory", "app"))
        index.default = "default"
        self.broker = Broker(
            clock=self.clock,
            github=lambda host: self.github,
            stores=FakeStores(store),
            index=index,
            settings=lambda name: AccountSettings(),
            random=random.Random(1),
        )
        self.copilot = FakeCopilot()
        self.dead = set()
        self.proxy = Asked(
            self.broker, lambda: self.copilot, Pacer(self.clock), monotonic=self.clock.boottime
        )

    def answer(self, call):
        return refused(401) if call.token in self.dead else FakeReply(chunks=[b"fine"])

    def will_answer(self, count):
        self.copilot.answers = [self.answer] * count

    def exchanges(self):
        return self.github.count("exchange")


@pytest.fixture
async def world():
    world = World()
    task = asyncio.create_task(world.broker.run())
    await settle()
    yield world
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await settle()


async def test_a_storm_of_401s_is_one_refresh(world):
    world.will_answer(100)
    world.dead = {(await world.broker.lease(None)).token}
    answers = await asyncio.gather(*(world.proxy.open(request()) for _ in range(50)))
    assert [await answer.read(100) for answer in answers] == [b"fine"] * 50
    assert world.exchanges() == 2
    assert len(world.copilot.calls) == 100
    assert len({call.headers["x-request-id"] for call in world.copilot.calls}) == 50


async def test_a_late_401_of_an_old_token_refreshes_nothing(world):
    world.will_answer(3)
    old = (await world.broker.lease(None)).token
    world.dead = {old}
    late = FakeReply(401, is_live=True)
    world.copilot.answers.insert(0, late)
    slow = asyncio.create_task(world.proxy.open(request()))
    await late.reading.wait()
    await (await world.proxy.open(request())).read(100)
    assert world.exchanges() == 2
    late.push(EXPIRED)
    late.end()
    assert await (await slow).read(100) == b"fine"
    assert world.exchanges() == 2


async def test_expiry_in_the_middle_of_a_run_is_invisible(world):
    minted_at = {}

    def answer(call):
        now = world.clock.boottime()
        born_at = minted_at.setdefault(call.token, world.github.times("exchange")[-1])
        return FakeReply(200 if now - born_at < world.github.lifetime else 401)

    world.copilot.answers = [answer] * 100
    for passed in [300.0] * 20 + [1799.0, 1.0, 1700.0, 99.0]:
        assert (await world.proxy.open(request())).status == 200
        await world.clock.advance(passed)
    for slept in (1795.0, 100_000.0):
        world.clock.suspend(slept)
        assert (await world.proxy.open(request())).status == 200
    assert len(world.copilot.calls) == 26, "none was refused"
    assert len(minted_at) > 5


async def test_a_stream_outlives_its_token(world):
    reply = FakeReply(chunks=[b"1"], is_live=True)
    world.copilot.answers = [reply]
    answer, taker = await world.proxy.open(request(stream=True)), Taker()
    answer.stream_to(taker)
    await world.clock.advance(4000.0)
    reply.push(b"2")
    reply.end()
    assert (taker.chunks, taker.ends) == ([b"1", b"2"], [None])


async def test_a_403_has_the_token_replaced_for_the_next_caller(world):
    old = (await world.broker.lease(None)).token
    world.copilot.answers = [refused(403) for _ in range(3)]
    world.github.gate = asyncio.Event()
    answer = await world.proxy.open(request())
    assert answer.status == 403, "although the new token is not there yet"
    await settle()
    assert world.exchanges() == 2
    world.github.gate.set()
    fresh = (await world.broker.lease(None)).token
    assert fresh != old
    for _ in range(2):
        assert (await world.proxy.open(request())).status == 403
    await settle()
    assert world.exchanges() == 2
    assert (await world.broker.lease(None)).token == fresh


async def test_rejecting_what_nobody_has_changes_nothing(world):
    before = await world.broker.lease(None)
    world.broker.reject("nobody", before.token_id)
    world.broker.reject("default", "deadbeef")
    await settle()
    assert (await world.broker.lease(None)).token == before.token


async def test_the_base_of_a_new_token_is_adopted(world, monkeypatch):
    async def exchange(token, plan="auto"):
        return CopilotToken("tid=canary;moved", 1800.0, 1500.0, "https://moved.example.com")

    monkeypatch.setattr(world.github, "exchange", exchange)
    world.copilot.answers = [refused(421, b"Misdirected Request")]
    for _ in range(2):
        assert (await world.proxy.open(request())).status == 200
    assert [call.api_base for call in world.copilot.calls] == [
        "https://api.example.com",
        "https://moved.example.com",
        "https://moved.example.com",
    ]


async def test_a_login_that_died_is_said_instead_of_the_401(world):
    world.will_answer(1)
    world.dead = {(await world.broker.lease(None)).token}
    world.github.revoked = {"gho_kept"}
    failure = await failure_of(world.proxy.open(request()))
    assert failure.error_class is ErrorClass.LOGIN_REQUIRED
    assert len(world.copilot.calls) == 1


# Asking without waiting.


@pytest.mark.parametrize("at_hand", [True, False])
async def test_what_was_begun_and_is_closed_is_cut_and_told_of_nothing(at_hand):
    proxy, copilot, _ = proxy_of()
    copilot.has_connection = at_hand
    copilot.gate = asyncio.Event()
    told = []
    begun = Proxy.begin(proxy, request(), told.append)
    async with asyncio.timeout(10):
        await copilot.asked.wait()
    begun.close()
    begun.close()
    while not copilot.cancelled:
        await asyncio.sleep(0)
    assert (copilot.cancelled, told) == (1, [])


async def test_an_answer_that_crosses_with_the_close_is_given_up():
    reply = FakeReply(200, {}, [b"late"])
    proxy, copilot, _ = proxy_of(reply)
    copilot.has_connection = False
    told = []
    begun = Proxy.begin(proxy, request(), told.append)
    (task,) = proxy._tasks
    task.remove_done_callback(begun._task_ended)  # it comes later, as it may
    await asyncio.wait([task])
    begun.close()
    begun._task_ended(task)
    async with asyncio.timeout(10):
        await reply.closed.wait()
    assert told == []


@pytest.mark.parametrize("has_connection", [True, False])
async def test_a_body_is_read_once_whether_a_connection_is_at_hand_or_not(
    monkeypatch, has_connection
):
    reads = []
    read_turn = turn_headers_module.read_turn
    monkeypatch.setattr(
        turn_headers_module, "read_turn", lambda body: reads.append(body) or read_turn(body)
    )
    proxy, copilot, _ = proxy_of()
    copilot.has_connection = has_connection
    body = json.dumps({"messages": [{"role": "tool", "content": "42"}]}).encode()
    answer = await proxy.open(request(body))
    assert (answer.status, len(reads), len(copilot.calls)) == (200, 1, 1)
