"""What the gate leaves a caller holds at the door: by rule, by socket, and when rules change."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import replace

import pytest

from brokerd.broker import WatchState
from brokerd.core.access import OPERATIONS, Rule, Scope
from brokerd.core.checks import Check, Verdict
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.gate import Gate
from brokerd.host.peers.peercred import peer_of
from brokerd.rpc.methods.grants import SANDBOXES
from copilot_broker.wire.connection import ResponseReceived, StreamData, StreamEnd
from fakes.broker import CANARY, a_lease, a_view
from fakes.proxy import FakeReply
from fakes.rpc_door import PATIENCE, Door, WireClient, until


OWN = os.getuid()
BODY = b'{"model":"gpt-4.1","messages":[]}'


@pytest.fixture
def gate():
    """Its rules are the test's: `gate.regrant`."""
    return Gate()


@pytest.fixture
async def door(tmp_path, gate):
    async with Door(tmp_path / "s", gate=gate, peers=of_a_unit, peer_by_pid=processes) as door:
        yield door


@pytest.fixture
async def client(door):
    return await door.knock()


def of_a_unit(sock: socket.socket) -> Peer:
    """Who we are, in a unit that is known: rules about others leave us alone."""
    return replace(peer_of(sock), unit="mine.service")


class Handle:
    """A hold on a process; tells whether it was let go."""

    def __init__(self) -> None:
        self.closed = False

    def fileno(self) -> int:
        return -1

    def is_alive(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


HANDLE = Handle()
CODE = Peer(pid=7, uid=OWN, gid=1, pidfd=HANDLE, unit="app-code-1.scope", sandbox="none")


def processes(pid: int) -> Peer:
    if pid == CODE.pid:
        return replace(CODE)
    if pid == 8:
        raise PermanentError(Failure(ErrorClass.USAGE, "no_such_process", "none", "See: ps"))
    raise OSError(24, "Too many open files")


# -- models and accounts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"model":"gpt-5","messages":[]}', "model_not_granted"),
        (b'{"messages":[]}', "model_not_granted"),
        (b'{"model":"gpt-4.1","Model":"gpt-5"}', "model_not_granted"),
        (b"no json", "model_not_granted"),
        (None, "model_not_granted"),
    ],
)
async def test_a_model_that_was_not_granted_is_never_asked_for(door, gate, client, body, code):
    gate.regrant([Rule(models=("gpt-4*",))])
    params = {} if body is None else {"body": body}
    answer = await client.call("completion.create", **params)
    assert (answer.error.error_class, answer.error.code) == (ErrorClass.DENIED, code)
    assert "copilot-cred grants" in answer.error.hint
    assert door.proxy.requests == []


@pytest.mark.parametrize("body", [BODY, BODY.decode()])
async def test_a_model_that_was_granted_is_asked_for(door, gate, client, body):
    gate.regrant([Rule(models=("gpt-4*",))])
    door.proxy.answer = FakeReply(b"{}")
    assert (await client.call("completion.create", body=body)).error is None
    assert (await client.call("token.get")).error.code == "scope_too_low"


async def test_a_body_is_not_looked_at_where_no_rule_names_models(door, client, monkeypatch):
    monkeypatch.setattr("brokerd.rpc.in_flight.asked_model", None)
    door.proxy.answer = FakeReply(b"{}")
    assert (await client.call("completion.create", body=BODY)).error is None


async def test_an_account_that_was_not_granted_is_denied_by_every_method(door, gate, client):
    gate.regrant([Rule(accounts=("work",))])
    for method, params in (
        ("token.get", {}),
        ("token.watch", {}),
        ("completion.create", {"body": BODY}),
        ("models.list", {}),
        ("quota.get", {}),
    ):
        for account in ({}, {"account": "home"}):
            answer = await client.call(method, **params, **account)
            assert answer.error.code == "account_not_granted", method
    assert door.broker.calls == door.proxy.requests == []
    door.broker.lease_answer = a_lease(account="work")
    assert (await client.call("token.get", account="work")).result["token"] == CANARY


async def test_the_default_account_is_the_one_that_was_looked_at(tmp_path):
    """It changes between the gate's word and the request: who is limited does not get the new one."""
    gate = Gate(default_account=lambda: "work")
    gate.regrant([Rule(accounts=("work",))])
    async with Door(tmp_path / "d", gate=gate) as door:
        client = await door.knock()
        door.proxy.answer = FakeReply(b"{}")
        assert (await client.call("completion.create", body=BODY)).error is None
        assert [request.account for request in door.proxy.requests] == ["work"]
        gate.regrant([])
        assert (await client.call("completion.create", body=BODY)).error is None
        assert [request.account for request in door.proxy.requests] == ["work", None]


async def test_who_is_limited_to_accounts_is_told_of_no_others(tmp_path):
    async def checks():
        about = [Check("store", Verdict.OK, "x")]
        return about + [Check(n, Verdict.OK, "x", account=n) for n in ("work", "home")]

    gate = Gate()
    async with Door(tmp_path / "d", gate=gate, checks=checks) as door:
        client = await door.knock()
        door.broker.views = [a_view(name="work", default=False), a_view(name="home")]

        async def told() -> tuple[str, list[str], list[str]]:
            status = (await client.call("broker.status")).result
            doctor = (await client.call("broker.doctor")).result
            names = [account["name"] for account in status["accounts"]]
            return status["summary"], names, [check["name"] for check in doctor["checks"]]

        everything = "signed in as octocat", ["work", "home"], ["store", "work", "home"]
        assert await told() == everything
        gate.regrant([Rule(accounts=("work",))])
        assert await told() == ("", ["work"], ["store", "work"])
        gate.regrant([])
        assert await told() == everything


async def test_too_many_requests_a_minute_are_told_when_to_come_again(door, gate, client):
    gate.regrant([Rule(requests_per_minute=2)])
    codes = [(await client.call("token.get")).error for _ in range(3)]
    assert codes[:2] == [None, None]
    assert (codes[2].error_class, codes[2].code) == (ErrorClass.TEMPORARY, "request_rate")
    assert 0 < codes[2].retry_after <= 60
    assert len(door.broker.calls) == 2
    assert (await client.call("broker.status")).error is None


async def test_the_express_lane_counts_as_well(door, gate, client):
    door.broker.at_hand = a_lease()
    gate.regrant([Rule(requests_per_minute=4)])
    errors = [(await client.call("token.get")).error for _ in range(5)]
    assert errors[:4] == [None] * 4
    assert errors[4].code == "request_rate"


# -- rules change ------------------------------------------------------------------------------


async def test_narrower_rights_hold_from_the_next_request_on(door, gate, client):
    door.broker.at_hand = a_lease()
    for _ in range(3):  # the last ones on the express lane
        assert (await client.call("token.get")).result["token"] == CANARY
    gate.regrant([Rule(scope=Scope.COMPLETE)])
    assert (await client.call("token.get")).error.code == "scope_too_low"
    assert (await client.call("broker.hello")).result["scope"] == "complete"
    gate.regrant([])
    assert (await client.call("token.get")).result["token"] == CANARY


async def test_a_token_that_was_waited_for_is_lent_by_the_rights_of_its_moment(door, gate, client):
    door.broker.may_answer.clear()
    await client.ask("token.get")
    await until(lambda: door.broker.waiting == 1)
    gate.regrant([Rule(scope=Scope.STATUS)])
    door.broker.may_answer.set()
    answer = await client.event()
    assert answer.error.code == "scope_too_low"
    assert CANARY.encode() not in client.received


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(scope=Scope.COMPLETE), "scope_too_low"),
        (Rule(accounts=("work",)), "account_not_granted"),
        (Rule(models=("*",)), "scope_too_low"),
    ],
)
async def test_a_watch_ends_before_the_next_token_that_is_not_granted(
    door, gate, client, rule, code
):
    await client.call("token.watch")
    door.broker.states.put_nowait(WatchState("default", "token", a_lease()))
    assert (await client.event()).chunk["token"] == CANARY
    gate.regrant([rule])
    second = a_lease(token="tid=second", token_id="ffff")
    door.broker.states.put_nowait(WatchState("default", "token", second))
    end = await client.event()
    assert isinstance(end, StreamEnd)
    assert end.error.code == code
    assert b"tid=second" not in client.received
    await door.broker.watch_left.wait()


async def test_a_token_that_waits_for_credit_is_lent_by_the_rights_of_its_moment(
    door, gate, client, caplog
):
    """The broker had told it while it was allowed; it leaves when there is credit again."""
    await client.call("token.watch")
    large = a_lease(token=CANARY + "x" * 200_000)
    for _ in range(2):
        door.broker.states.put_nowait(WatchState("default", "token", large))
    first = await client.event()
    await client.event()  # now more is owed than was granted
    last = a_lease(token="tid=last", token_id="ffff")
    door.broker.states.put_nowait(WatchState("default", "token", last))
    await until(door.broker.states.empty)
    gate.regrant([Rule(scope=Scope.STATUS)])
    client.wire.grant_credit(first.stream, 1_000_000)
    await client.flush()
    end = await client.event()
    assert isinstance(end, StreamEnd)
    assert end.error.code == "scope_too_low"
    assert b"tid=last" not in client.received
    assert "ffff" not in {getattr(record, "TOKEN_FP", "") for record in caplog.records}


async def test_who_is_let_in_no_more_is_closed(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "brokerd.rpc")
    gate = Gate([Rule(uid=OWN)], own_uid=OWN + 1)
    async with Door(tmp_path / "s", gate=gate) as door:
        watcher, idle = await door.knock(), await door.knock()
        assert (await watcher.call("token.watch")).error is None
        assert (await idle.call("token.get")).error is None
        gate.regrant([])
        assert await watcher.is_closed()
        assert await idle.is_closed()
        assert door.server.connections == gate.connections == 0
        await door.broker.watch_left.wait()
    reasons = [r.REASON for r in caplog.records if r.message == "connection closed"]
    assert reasons == ["revoked"] * 2


# -- several sockets ---------------------------------------------------------------------------


async def test_each_socket_has_its_name_its_rights_and_its_records(tmp_path, audit_trail):
    gate = Gate([Rule(listener="agents", scope=Scope.TOKEN)])
    others = {}
    async with Door(tmp_path / "s", gate=gate, other_listeners=lambda: ["http"]) as door:
        for name in ("agents", "panel"):
            others[name] = listening = socket.socket(socket.AF_UNIX)
            listening.bind(str(tmp_path / name))
            listening.listen(8)
            await door.server.serve(listening, name)
        own = await door.knock()
        callers = {name: WireClient(tmp_path / name) for name in others}
        scopes = {
            name: (await caller.call("broker.hello")).result["scope"]
            for name, caller in {"rpc": own, **callers}.items()
        }
        assert scopes == {"rpc": "admin", "agents": "token", "panel": "status"}
        assert (await callers["agents"].call("token.get")).error is None
        assert (await callers["panel"].call("token.get")).error.code == "scope_too_low"
        listed = (await own.call("grant.list")).result
        assert listed["listeners"] == ["agents", "http", "panel", "rpc"]
        assert listed["connections"] == 3
        (granted,) = audit_trail.of("token-granted")
        (denied,) = audit_trail.of("operation-denied")
        assert (granted["LISTENER"], granted["SCOPE"]) == ("agents", "token")
        assert (denied["LISTENER"], denied["SCOPE"]) == ("panel", "status")
        for each in (*callers.values(), *others.values()):
            each.close()


async def test_all_sockets_share_one_bound(tmp_path):
    """A crowd on one makes no room for itself by closing who is busy on another."""
    listening = socket.socket(socket.AF_UNIX)
    async with Door(tmp_path / "s", connections=2) as door:
        listening.bind(str(tmp_path / "t"))
        listening.listen(64)
        await door.server.serve(listening, "panel")
        watcher = await door.knock()
        await watcher.call("token.watch")
        crowd = []
        for _ in range(10):
            crowd.append(WireClient(tmp_path / "t"))
            assert (await crowd[-1].call("broker.status")).error is None
        assert door.server.connections == 2
        door.broker.states.put_nowait(WatchState("default", "token", a_lease()))
        assert isinstance(await watcher.event(), StreamData)
        for each in (*crowd, listening):
            each.close()


# -- explanations ------------------------------------------------------------------------------


async def test_everybody_may_ask_about_itself_and_about_nobody_else(door, gate, client):
    gate.regrant([Rule(where="config.toml:3", scope=Scope.STATUS)])
    own = (await client.call("grant.explain")).result
    assert own["peer"]["pid"] == os.getpid()
    assert (own["listener"], own["admitted"], own["scope"]) == ("rpc", True, "status")
    assert own["models"] is own["accounts"] is own["requests_per_minute"] is None
    assert [step["where"] for step in own["steps"]] == ["listener rpc", "config.toml:3"]
    for params in ({"pid": 7}, {"unit": "x"}, {"uid": 0}, {"listener": "http"}, {"sandbox": ""}):
        answer = await client.call("grant.explain", **params)
        assert answer.error.code in {"scope_too_low", "bad_params"}, params
        assert answer.result is None
    assert (await client.call("grant.list")).error.code == "scope_too_low"


async def test_another_process_is_explained_and_let_go(door, gate, client):
    gate.regrant([
        Rule(where="config.toml:3", unit="app-code-*", models=("b", "a"), requests_per_minute=9),
        Rule(where="config.toml:9", models=("c*",), accounts=("work", "home"), unit="app-*"),
    ])  # fmt: skip
    HANDLE.closed = False
    told = (await client.call("grant.explain", pid=7)).result
    assert HANDLE.closed
    assert (told["peer"]["pid"], told["peer"]["unit"]) == (7, "app-code-1.scope")
    assert told["scope"] == "complete"
    assert told["models"] == ["(b, a) & (c*)"]
    assert told["accounts"] == ["home", "work"]
    assert told["requests_per_minute"] == 9
    changed = (await client.call("grant.explain", pid=7, unit="x.service", listener="http")).result
    assert (changed["listener"], changed["scope"], changed["models"]) == ("http", "complete", None)


async def test_somebody_who_would_be_kept_out_is_told_why(client):
    told = (await client.call("grant.explain", uid=OWN + 1)).result
    assert told["admitted"] is False
    assert told["scope"] is told["models"] is told["accounts"] is None
    assert told["error"]["code"] == "uid_not_allowed"
    assert told["steps"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"pid": -1}, "bad_params"),
        ({"pid": "7"}, "bad_params"),
        ({"uid": True}, "bad_params"),
        ({"unit": 7}, "bad_params"),
        ({"sandbox": "jail"}, "bad_params"),
        ({"pid": 8}, "no_such_process"),
        ({"pid": 9}, "bad_params"),
    ],
)
async def test_questions_that_make_no_sense_are_usage_errors(client, params, code):
    error = (await client.call("grant.explain", **params)).error
    assert (error.error_class, error.code) == (ErrorClass.USAGE, code)


@pytest.mark.parametrize("sandbox", SANDBOXES)
async def test_every_sandbox_can_be_asked_about(client, sandbox):
    told = (await client.call("grant.explain", sandbox=sandbox)).result
    assert told["peer"]["sandbox"] == sandbox


# -- the doctor, and what there is not ----------------------------------------------------------


async def test_who_asks_while_the_doctor_looks_waits_for_the_same(tmp_path):
    may_end, looked = asyncio.Event(), []

    async def checks():
        looked.append(True)
        await may_end.wait()
        return [Check("swap", Verdict.WARNING, "memory may be swapped", "See: swapon")]

    async with Door(tmp_path / "s", checks=checks) as door:
        first, second = await door.knock(), await door.knock()
        await first.ask("broker.doctor")
        await second.ask("broker.doctor")
        await until(lambda: looked)
        first.close()  # who asked first leaves, and the other is told all the same
        await until(lambda: door.server.connections == 1)
        may_end.set()
        answer = await second.event()
        assert isinstance(answer, ResponseReceived)
        assert answer.result == {
            "checks": [
                {
                    "name": "swap",
                    "verdict": "warning",
                    "told": "memory may be swapped",
                    "mend": "See: swapon",
                }
            ]
        }
        await second.call("broker.doctor")
        assert len(looked) == 2


async def test_a_method_that_only_the_gate_knows_is_unknown(client):
    """All others are there: each answers, be it that the parameters make no sense."""
    async with asyncio.timeout(PATIENCE):
        for method in set(OPERATIONS) - {"account.login", "token.watch"}:
            error = (await client.call(method)).error
            missing = method == "http.request"
            assert (error is not None and error.code == "unknown_method") == missing, method
