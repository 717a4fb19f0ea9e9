"""What both doors tell of a completion, once and before its end is passed on, and what is made of it."""

from __future__ import annotations

import asyncio
import json
import timeit

import pytest

from brokerd.app.usage import UsageSide
from brokerd.core.access import Rule
from brokerd.core.ledger.asked import Asked
from brokerd.core.ledger.record import read
from brokerd.core.peer import Peer
from brokerd.core.settings import Config, UsageSettings
from brokerd.core.usage_tail import Usage
from brokerd.errors import BrokerError
from brokerd.gate import Gate
from brokerd.proxy.outcome import Outcome
from brokerd.sockets.rounds import rounds_of
from copilot_broker.wire.connection import Connection
from fakes.clock import settle
from fakes.copilot import FakeReply as UpstreamReply
from fakes.http_service import JSON, Outlet, Stand, streamed
from fakes.proxy import FakeReply, upstream_cut
from fakes.rpc_door import PATIENCE, Door


TOLD = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
USAGE = Usage(7, 3, None, 10)
WHOLE = json.dumps({"model": "m", "choices": [], "usage": TOLD}).encode()
EVENTS = (
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[],"usage":' + json.dumps(TOLD).encode() + b"}\n\n",
    b"data: [DONE]\n\n",
)
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/chat/completions"
ERROR = b'data: {"error":{"code":"server_error","message":"no"}}\n\n'


# -- the HTTP door ----------------------------------------------------------------------------


async def over(outlet) -> None:
    async with asyncio.timeout(PATIENCE):
        await outlet.over.wait()


@pytest.mark.parametrize("answer", ["whole", "stream", "cut whole", "cut stream", "refused"])
async def test_http_tells_before_the_end_is_passed_on(monkeypatch, answer):
    answers = {
        "whole": UpstreamReply(headers=JSON, chunks=[WHOLE]),
        "stream": streamed(*EVENTS),
        "cut whole": UpstreamReply(headers=JSON, chunks=[WHOLE[:20]], failure=upstream_cut()),
        "cut stream": streamed(EVENTS[0], failure=upstream_cut()),
        "refused": UpstreamReply(400, headers=JSON, chunks=[b'{"error":{"message":"no"}}']),
    }
    stand = Stand(answers[answer])
    told_at_end = []
    for name in ("end", "reply"):
        passed_on = getattr(Outlet, name)

        def noting(self, *given, passed_on=passed_on):
            told_at_end.append(len(stand.ended))
            return passed_on(self, *given)

        monkeypatch.setattr(Outlet, name, noting)
    outlet, _ = stand.begin(CHAT, {**BODY, "stream": "stream" in answer})
    await over(outlet)
    assert told_at_end == [1]
    (outcome,) = stand.ended
    assert (outcome.account, outcome.model, outcome.initiator) == ("default", "m", "user")
    assert outcome.answered == (400 if answer == "refused" else 200)
    assert outcome.usage == (USAGE if answer in ("whole", "stream") else None)
    assert bool(outcome.code) is (answer not in ("whole", "stream"))


async def test_http_tells_of_an_error_among_the_events():
    stand = Stand(streamed(EVENTS[0], ERROR))
    outlet, _ = stand.begin(CHAT, {**BODY, "stream": True})
    await over(outlet)
    (outcome,) = stand.ended
    assert outcome.code
    assert outcome.was_served


async def test_http_tells_whose_login_a_request_cost_that_nobody_waited_for():
    stand = Stand(UpstreamReply(headers=JSON, chunks=[WHOLE]))
    stand.copilot.gate = asyncio.Event()
    _, work = stand.begin(CHAT, BODY, x_initiator="agent")
    async with asyncio.timeout(PATIENCE):
        await stand.copilot.asked.wait()
    work.close()
    (outcome,) = stand.ended
    assert (outcome.account, outcome.initiator, outcome.answered) == ("default", "agent", 0)
    assert outcome.usage is None


async def test_http_tells_of_what_was_not_sent_that_it_cost_nobody():
    stand = Stand(rules=[Rule(where="r", models=("other",))])
    outlet, _ = stand.begin(CHAT, BODY)
    await over(outlet)
    (outcome,) = stand.ended
    assert (outlet.status, outcome.account, outcome.code) == (403, "", "model_not_granted")


@pytest.mark.parametrize("has_budget", [True, False])
async def test_who_hangs_up_is_charged_if_somebody_counts(has_budget):
    rules = [Rule(where="r", budget=10**6)] if has_budget else []
    stand = Stand(streamed(EVENTS[0], is_live=True), rules=rules)
    outlet, work = stand.begin(CHAT, {**BODY, "stream": True})
    async with asyncio.timeout(PATIENCE):
        await outlet.changed.wait()
    work.close()
    (outcome,) = stand.ended
    assert bool(outcome.spent) is has_budget
    assert (outcome.code, outcome.was_served) == ("", True)


# -- the RPC door -----------------------------------------------------------------------------


@pytest.fixture
async def rpc(tmp_path, monkeypatch):
    """A door that notes in which order it tells, and whom."""
    order: list = []
    for name in ("send_result", "send_error", "end_stream"):
        sent = getattr(Connection, name)

        def noting(self, *given, sent=sent, name=name, **more):
            order.append(name)
            return sent(self, *given, **more)

        monkeypatch.setattr(Connection, name, noting)
    async with Door(tmp_path / "s", on_completed=order.append) as door:
        client = await door.knock()
        await client.call("broker.hello")
        order.clear()
        door.order = order
        yield door, client


def body_of(**more) -> bytes:
    return json.dumps({**BODY, **more}).encode()


async def test_rpc_tells_before_a_whole_answer_leaves(rpc):
    door, client = rpc
    door.proxy.answers.append(FakeReply(WHOLE, account="work", initiator="agent"))
    await client.call("completion.create", body=body_of())
    outcome, sent = door.order
    assert sent == "send_result"
    assert (outcome.path, outcome.account, outcome.model) == (CHAT, "work", "m")
    assert (outcome.initiator, outcome.usage, outcome.spent) == ("agent", USAGE, 10)
    assert (outcome.status, outcome.answered, outcome.code) == (200, 200, "")


@pytest.mark.parametrize("is_cut", [False, True])
async def test_rpc_tells_before_a_streams_end(rpc, is_cut):
    door, client = rpc
    door.proxy.answers.append(reply := FakeReply(initiator="user"))
    await client.call("completion.create", body=body_of(stream=True), stream=True)
    reply.feed(*EVENTS[: 1 if is_cut else 3])
    reply.end(upstream_cut() if is_cut else None)
    async with asyncio.timeout(PATIENCE):
        await reply.closed.wait()
    outcome, sent = door.order
    assert sent == "end_stream"
    assert outcome.usage == (None if is_cut else USAGE)
    assert outcome.code == ("upstream_cut" if is_cut else "")


async def test_rpc_tells_of_an_error_among_the_events(rpc):
    door, client = rpc
    door.proxy.answers.append(reply := FakeReply())
    await client.call("completion.create", body=body_of(stream=True), stream=True)
    reply.feed(ERROR)
    reply.end()
    assert door.order[0].code


async def test_rpc_tells_once_of_what_its_caller_gives_up(rpc):
    door, client = rpc
    door.proxy.answers.append(reply := FakeReply())
    await client.call("completion.create", body=body_of(stream=True), stream=True)
    reply.feed(EVENTS[0])
    client.close()
    async with asyncio.timeout(PATIENCE):
        await reply.closed.wait()
    (outcome,) = door.order
    assert (outcome.code, outcome.usage, outcome.was_served) == ("", None, True)


# -- what is made of it -----------------------------------------------------------------------


MODELS = [
    {"id": "m", "billing": {"multiplier": 0.33}},
    {"id": "free", "billing": {"multiplier": 0}},
    {"id": "odd", "billing": {"multiplier": "lots"}},
]


class Side:
    def __init__(self, tmp_path, keep=30):
        self.config = Config(usage=UsageSettings(keep=keep))
        self.models = MODELS
        self.side = UsageSide(
            tmp_path / "state",
            config=lambda: self.config,
            models=lambda _account: self.models,
            put_off=lambda late: rounds_of(asyncio.get_running_loop()).first(late),
        )
        gate = Gate([Rule(where="r", budget=100)], own_uid=1000)
        self.caller = gate.admit(Peer(1, 1000, 1000, unit="editor.service"), "rpc")

    def outcome(self, **changes) -> Outcome:
        usual = Outcome(
            CHAT, self.caller, 200, "default", "m", "", 1.0, 0.5, USAGE, 0, "user", 200
        )
        return usual._replace(**changes)

    async def told(self, *outcomes: Outcome) -> dict:
        for outcome in outcomes:
            self.side.over(outcome)
        report = await self.side.report(Asked(0, 10**6, ("client",)))
        ((values, counts),) = report.rows
        assert values == ("unit", "editor.service", "")
        return {name: value for name, value in counts._asdict().items() if value}


@pytest.fixture
async def side(tmp_path):
    side = Side(tmp_path)
    yield side
    await side.side.close()


SERVED = {"requests": 1, "user_turns": 1, "prompt_tokens": 7, "completion_tokens": 3}


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, {**SERVED, "premium": 330}),
        ({"model": "free"}, SERVED),
        ({"model": "odd"}, {**SERVED, "unpriced": 1}),
        ({"model": "unheard-of"}, {**SERVED, "unpriced": 1}),
        (
            {"initiator": "agent", "usage": Usage(7, None, 5, 7)},
            {"requests": 1, "agent_turns": 1, "prompt_tokens": 7, "cached_tokens": 5},
        ),
        ({"initiator": "", "usage": None}, {"requests": 1, "untold": 1}),
        (
            {"code": "bad", "status": 400, "answered": 400, "usage": None},
            {"requests": 1, "user_turns": 1, "errors": 1},
        ),
        (
            {"code": "upstream_cut", "status": 502, "usage": None},
            {"requests": 1, "user_turns": 1, "errors": 1, "untold": 1},
        ),
        (
            {"status": 0, "answered": 0, "head_seconds": None, "usage": None},
            {"requests": 1, "user_turns": 1, "untold": 1},
        ),
    ],
)
async def test_an_outcome_becomes_counts(side, changes, counted):
    assert await side.told(side.outcome(**changes)) == counted


async def test_what_a_round_has_counted_is_one_record_of_each_line(side, tmp_path):
    for model in ("m", "free", "m", "m"):
        side.side.over(side.outcome(model=model))
    await settle()
    side.side.over(side.outcome())
    await settle()
    records = list(read((tmp_path / "state/usage.journal").read_bytes()))
    assert [(line.model, counts.requests, counts.premium) for _, line, counts in records] == [
        ("m", 3, 990),
        ("free", 1, 0),
        ("m", 1, 330),
    ]
    assert (await side.told())["requests"] == 5


async def test_a_new_list_of_models_has_new_prices(side):
    side.side.over(side.outcome())
    side.models = [{"id": "m", "billing": {"multiplier": 10}}]
    assert (await side.told(side.outcome()))["premium"] == 10_330


async def test_what_was_not_sent_is_no_usage_and_budgets_hear_of_all(side):
    side.side.over(side.outcome(account="", spent=0))
    assert (await side.told(side.outcome(spent=100)))["requests"] == 1
    with pytest.raises(BrokerError, match="budget"):
        side.caller.check("completion.create")


async def test_nothing_is_counted_where_nobody_wants_it(tmp_path):
    side = Side(tmp_path, keep=0)
    side.side.open()
    side.side.over(side.outcome())
    with pytest.raises(BrokerError) as raised:
        await side.side.report(Asked(0, 1))
    assert raised.value.failure.code == "usage_off"
    assert side.side.check().told == "not counted"
    await side.side.close()
    assert not (tmp_path / "state").exists()


async def test_doctor_and_status_say_what_is_in_the_way(side, tmp_path):
    assert side.side.check().holds
    assert side.side.status() == {"keep": 30, "error": None}
    (tmp_path / "state").write_text("in the way")
    side.side.over(side.outcome())
    await asyncio.sleep(0)  # it is written when the round is over
    check, shown = side.side.check(), side.side.status()["error"]
    assert not check.holds
    assert check.mend == shown["hint"]
    assert shown["code"] == "store_unsafe"
    (tmp_path / "state").unlink()
    assert (await side.told(side.outcome()))["requests"] == 2
    assert side.side.check().holds


async def test_a_defect_of_ours_is_logged_and_harms_no_request(side, caplog):
    def breaks(_account):
        raise RuntimeError

    side.side._models = breaks
    side.side.over(side.outcome())
    assert [each.message for each in caplog.records] == ["usage not counted"]


async def test_all_of_it_is_a_matter_of_microseconds(side):
    outcome = side.outcome()
    side.side.over(outcome)
    best = min(timeit.repeat(lambda: side.side.over(outcome), number=200, repeat=20)) / 200
    assert best < 25e-6, "three in peace; the machine is shared"
