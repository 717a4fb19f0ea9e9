"""`key.lease` and `key.mint` over a real socket: the limits checked, and nothing without a login."""

from __future__ import annotations

import logging

import pytest

from brokerd.core.keys import BUDGET_MAX
from brokerd.core.passing import MINTED_LIFE_MAX, Passing, PassingKey, Process
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.gate import Gate
from fakes.key_store import FakeKeyStore
from fakes.rpc_door import Door


NOW = 1_790_000_000.0
AT = "127.0.0.1:40001"
PLAIN = {
    "created_at": int(NOW),
    "expires_at": None,
    "models": None,
    "account": None,
    "requests_per_minute": None,
    "budget": None,
    "spent_today": 0,
    "label": "x",
}
RUN = {**PLAIN, "name": "run:x", "kind": "run", "address": AT, "pid": 7}
MINTED = {**PLAIN, "name": "get:x", "kind": "get", "models": ["*"], "expires_at": int(NOW) + 60}
MINT = {"label": "x", "models": ["*"], "expires_in": 60}


class Runs:
    """Leases what is asked for; keeps what that was, and by whom."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.asked: list[tuple[int, Passing]] = []

    async def lease(self, by, wanted: Passing) -> tuple[PassingKey, str]:
        self.asked.append((by.peer.pid, wanted))
        process = Process(7, 8, "b")
        return self.gate.passing.lease(by, wanted, at=AT, process=process, on_revoked=lambda: None)


@pytest.fixture
def gate():
    return Gate(keys=FakeKeyStore(), wall=lambda: NOW)


@pytest.fixture
def runs(gate):
    return Runs(gate)


@pytest.fixture
async def door(tmp_path, gate, runs):
    async with Door(tmp_path / "s", gate=gate, lease_run=runs.lease) as door:
        yield door


@pytest.fixture
async def client(door):
    return await door.knock()


@pytest.mark.parametrize(
    ("method", "params", "shown"),
    [
        ("key.lease", {"label": "x"}, RUN),
        ("key.mint", MINT, MINTED),
    ],
)
async def test_a_key_is_told_once_and_listed_without_its_text(client, method, params, shown):
    answer = (await client.call(method, **params)).result
    text = answer.pop("key")
    assert answer == shown
    assert (await client.call("key.list")).result == {"keys": [shown]}
    assert client.received.count(text.encode()) == 1
    revoked = (await client.call("key.revoke", name=shown["name"])).result
    assert revoked == {"name": shown["name"], "connections": 0}
    assert (await client.call("key.list")).result == {"keys": []}


@pytest.mark.parametrize(
    ("method", "limits"),
    [
        ("key.lease", {"models": ["gpt-*", "o3"]}),
        ("key.lease", {"account": "work"}),
        ("key.lease", {"requests_per_minute": 1}),
        ("key.lease", {"budget": BUDGET_MAX}),
        ("key.lease", dict.fromkeys(("models", "account", "budget", "requests_per_minute"))),
        ("key.mint", {"models": ["gpt-*"]}),
        ("key.mint", {"account": "work"}),
    ],
)
async def test_a_limit_is_taken_and_shown(client, runs, method, limits):
    params = {"label": "x"} if method == "key.lease" else MINT
    answer = (await client.call(method, **(params | limits))).result
    assert {name: answer[name] for name in limits} == limits
    for _, wanted in runs.asked:
        for name, value in limits.items():
            assert getattr(wanted, name) == (tuple(value) if name == "models" and value else value)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        *(
            (method, {"label": label})
            for method in ("key.lease", "key.mint")
            for label in (None, 7, "", "a b", "../x", "run:x", "x" * 65)
        ),
        *(
            (method, {"models": models})
            for method in ("key.lease", "key.mint")
            for models in ([], "gpt-*", ["a", 7], ["a\nb"], ["x" * 257])
        ),
        ("key.lease", {"account": "a b"}),
        ("key.lease", {"requests_per_minute": 0}),
        ("key.lease", {"requests_per_minute": True}),
        ("key.lease", {"budget": 0}),
        ("key.lease", {"budget": BUDGET_MAX + 1}),
        ("key.mint", {"models": None}),
        ("key.mint", {"expires_in": None}),
        ("key.mint", {"expires_in": 0.5}),
        ("key.mint", {"expires_in": MINTED_LIFE_MAX + 1}),
        ("key.mint", {"expires_in": "1h"}),
        ("key.mint", {"expires_in": float("inf")}),
        ("key.mint", {"expires_in": float("nan")}),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused(client, runs, gate, method, params):
    error = (await client.call(method, **{**MINT, **params})).error
    assert (error.error_class, error.code) == (ErrorClass.USAGE, "bad_params")
    assert runs.asked == []
    assert gate.passing.keys == ()


@pytest.mark.parametrize("method", ["key.lease", "key.mint"])
@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (PermanentError(Failure(ErrorClass.LOGIN_REQUIRED, "login_required", "nobody")), 4),
        (PermanentError(Failure(ErrorClass.DENIED, "no_copilot", "no seat")), 5),
        (PermanentError(Failure(ErrorClass.USAGE, "unknown_account", "which")), 2),
        (TransientError(Failure(ErrorClass.LOCKED, "locked", "unlock it")), 6),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_who_could_not_use_it_gets_none(door, client, gate, *, method, raised, code):
    door.broker.lease_answer = raised
    error = (await client.call(method, **MINT, account="work")).error
    assert (error.error_class, error.code) == (code, raised.failure.code)
    assert gate.passing.keys == ()
    assert door.broker.calls[-1][:2] == ("lease", "work")


@pytest.mark.parametrize("method", ["key.lease", "key.mint"])
async def test_what_ails_the_network_now_need_not_ail_the_program(door, client, method):
    away = Failure(ErrorClass.TEMPORARY, "github_unreachable", "no network")
    door.broker.lease_answer = TransientError(away)
    assert (await client.call(method, **MINT)).result["name"].endswith(":x")


async def test_a_broker_without_an_http_door_says_so(tmp_path, gate):
    async with Door(tmp_path / "s", gate=gate) as door:
        error = (await (await door.knock()).call("key.lease", label="x")).error
        assert (error.error_class, error.code) == (ErrorClass.USAGE, "no_runs")


async def test_the_log_holds_no_key(client, caplog):
    caplog.set_level(logging.DEBUG)
    texts = [
        (await client.call(method, **MINT)).result["key"] for method in ("key.lease", "key.mint")
    ]
    assert "run leased" in caplog.text
    assert "key minted" in caplog.text
    for text in texts:
        assert all(text not in str(vars(record)) for record in caplog.records)
