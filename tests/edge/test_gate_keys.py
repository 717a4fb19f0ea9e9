"""Who shows a key gets what the key leaves, until it is revoked, expired or used up."""

from __future__ import annotations

import logging

import pytest

from brokerd.core.access import Rule, Scope
from brokerd.core.keys import DAY, KEYS_MAX, Key, digest_of, text_of
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.gate import Gate
from brokerd.gate.keyring import REVOKED_MAX, WRITE_EVERY
from fakes.key_store import FakeKeyStore


NOON = 20_000 * DAY + DAY // 2
BROKEN = PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "keys_broken", "it is not JSON"))


class FakeProcess:
    """A hold on a process."""

    def __init__(self) -> None:
        self.closed = 0

    def fileno(self) -> int:
        return -1

    def is_alive(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed += 1


class Bench:
    """A gate with clocks that the test moves, and with random bytes that count up."""

    def __init__(self, store: FakeKeyStore, rules: tuple[Rule, ...] = ()) -> None:
        self.store = store
        self.now, self.wall = 1000.0, float(NOON)
        self.drawn = 0
        self.gate = Gate(
            rules,
            own_uid=1000,
            clock=lambda: self.now,
            wall=lambda: self.wall,
            keys=store,
            random=self.draw,
        )

    def draw(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")

    def make(self, name: str = "ci", **limits) -> str:
        lasts = limits.pop("lasts", None)

        def key(created: int, digest: str) -> Key:
            expires = None if lasts is None else created + lasts
            return Key(name, digest, created, expires, **limits)

        return self.gate.create_key(key)[1]

    def connect(self, listener: str = "http-tcp"):
        self.process = FakeProcess()
        peer = Peer(pid=42, uid=1000, gid=1000, pidfd=self.process)
        return self.gate.admit(peer, listener)

    def refusal(self, caller, secret: str) -> Failure:
        with pytest.raises(PermanentError) as caught:
            self.gate.with_key(caller, secret)
        assert secret not in str(caught.value) or not secret
        return caught.value.failure


@pytest.fixture
def bench(caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    return Bench(FakeKeyStore())


def told(caplog) -> list[tuple[str, str]]:
    return [(r.message, getattr(r, "KEY", "-")) for r in caplog.records]


# -- who gets in by a key ----------------------------------------------------------------------


def test_who_shows_a_key_gets_what_the_key_leaves(bench):
    text = bench.make(models=("gpt-*",), account="work", requests_per_minute=2)
    caller = bench.connect()
    keyed = bench.gate.with_key(caller, text)
    assert (keyed.account, keyed.models_matter, keyed.scope) == ("work", True, Scope.COMPLETE)
    with pytest.raises(PermanentError, match="model_not_granted"):
        keyed.check("completion.create", "work", "claude-x")
    with pytest.raises(PermanentError, match="account_not_granted"):
        keyed.check("completion.create", "home", "gpt-5")
    keyed.check("completion.create", "work", "gpt-5")
    keyed.check("completion.create", "work", "gpt-5")
    with pytest.raises(TransientError, match="request_rate"):
        keyed.check("completion.create", "work", "gpt-5")
    caller.check("completion.create", "home", "claude-x")  # the connection itself is as it was


def test_one_key_on_one_connection_is_one_caller_and_is_closed_with_it(bench):
    text = bench.make()
    caller = bench.connect()
    keyed = bench.gate.with_key(caller, text)
    assert bench.gate.with_key(caller, text) is keyed
    assert bench.gate.connections == 1
    caller.close()
    assert bench.process.closed == 1, "the process is the connection's"
    assert (bench.gate.connections, bench.gate._with_keys) == (0, {})


def test_the_records_of_who_shows_a_key_name_it(bench, caplog):
    text = bench.make()
    caller = bench.connect()
    keyed = bench.gate.with_key(caller, text)
    keyed.complete("default")
    with pytest.raises(PermanentError, match="scope_too_low"):
        keyed.check("token.get")
    caller.complete("default")
    caller.close()
    assert told(caplog) == [
        ("key created", "ci"),
        ("completion granted", "ci"),
        ("operation denied", "ci"),
        ("completion granted", ""),
        ("completions made", "ci"),
        ("completions made", ""),
    ]


@pytest.mark.parametrize(
    ("secret", "code"),
    [
        ("", "key_missing"),
        ("cpb_", "key_unknown"),
        (text_of(bytes(32)), "key_unknown"),
        ("sk-" + "x" * 40, "key_unknown"),
        ("cpb_" + "\N{SNOWMAN}" * 43, "key_unknown"),
    ],
)
def test_no_key_and_an_unknown_one_are_denied_and_written_down(bench, caplog, secret, code):
    bench.make()
    caller = bench.connect()
    failure = bench.refusal(caller, secret)
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, code)
    assert failure.hint.endswith(": copilot-cred key create NAME")
    bench.refusal(caller, secret)
    caller.close()
    denied = [r for r in caplog.records if r.message == "operation denied"]
    assert [(r.OPERATION, r.REASON, r.COUNT, r.KEY) for r in denied] == [
        ("http.request", code, 1, ""),
        ("http.request", code, 1, ""),
    ]
    assert not secret or secret not in str([vars(r) for r in caplog.records])


def test_a_key_is_over_when_its_time_is(bench, caplog):
    text = bench.make(lasts=60)
    caller = bench.connect()
    bench.wall += 59
    bench.gate.with_key(caller, text)
    bench.wall += 1
    for connection in (caller, bench.connect()):  # one that has used it, and a new one
        failure = bench.refusal(connection, text)
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "key_expired")
        assert failure.hint.endswith(": copilot-cred key create ci")
    assert told(caplog)[1:] == [("operation denied", "ci")] * 2


def test_a_revoked_key_closes_who_uses_it_and_says_so(bench, caplog):
    text, other = bench.make(), bench.make("other")
    using, idle = bench.connect(), bench.connect()
    closed = []
    using.on_revoked = lambda: closed.append("using")
    idle.on_revoked = lambda: closed.append("idle")
    keyed = bench.gate.with_key(using, text)
    bench.gate.with_key(idle, other)
    caplog.clear()
    bench.gate.revoke_key("ci")
    assert closed == ["using"]
    with pytest.raises(PermanentError, match="key_revoked"):
        keyed.check("completion.create", "default", "gpt-5")
    for connection in (using, bench.connect()):
        failure = bench.refusal(connection, text)
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "key_revoked")
        assert failure.hint.endswith(": copilot-cred key create ci")
    bench.gate.with_key(idle, other)
    (record,) = [r for r in caplog.records if r.message == "key revoked"]
    assert (record.KEY, record.COUNT) == ("ci", 1)


def test_the_door_may_hear_of_a_revoked_key_itself(bench):
    text = bench.make()
    caller = bench.connect()
    heard = []
    caller.on_revoked = lambda: heard.append("connection")
    bench.gate.with_key(caller, text).on_revoked = lambda: heard.append("key")
    bench.gate.revoke_key("ci")
    assert heard == ["key"]


def test_new_rules_hold_for_who_shows_a_key_too(bench):
    text = bench.make()
    caller = bench.connect()
    keyed = bench.gate.with_key(caller, text)
    keyed.check("completion.create")
    bench.gate.regrant([Rule("config.toml:1", key="ci", scope=Scope.STATUS)])
    with pytest.raises(PermanentError, match="scope_too_low"):
        keyed.check("completion.create")
    caller.check("completion.create")
    bench.gate.revoke_key("ci")
    bench.gate.regrant([])
    with pytest.raises(PermanentError, match="key_revoked"):
        keyed.check("completion.create")


def test_a_rate_is_shared_by_the_connections_of_a_key_and_by_no_other_key(bench):
    first, second = bench.make("a", requests_per_minute=1), bench.make("b", requests_per_minute=1)
    bench.gate.with_key(bench.connect(), first).check("completion.create")
    with pytest.raises(TransientError, match="request_rate: key a allows 1 requests a minute"):
        bench.gate.with_key(bench.connect(), first).check("completion.create")
    bench.gate.with_key(bench.connect(), second).check("completion.create")
    bench.make("c")  # to make a key gives nobody a new bucket
    with pytest.raises(TransientError, match="request_rate"):
        bench.gate.with_key(bench.connect(), first).check("completion.create")


# -- the budget --------------------------------------------------------------------------------


def test_over_budget_is_not_now_until_the_next_day_in_utc(bench, caplog):
    text = bench.make(budget=100)
    caller = bench.connect()
    keyed = bench.gate.with_key(caller, text)
    keyed.check("completion.create")
    keyed.spend(99)
    keyed.check("completion.create")
    keyed.spend(1)
    with pytest.raises(TransientError) as caught:
        keyed.check("completion.create")
    failure = caught.value.failure
    assert (failure.error_class, failure.code) == (ErrorClass.TEMPORARY, "key_budget")
    assert failure.retry_after == DAY // 2
    assert failure.hint.endswith(": copilot-cred key list")
    assert told(caplog)[-1] == ("operation denied", "ci")
    keyed.check("models.list")
    caller.check("completion.create")
    bench.wall += DAY // 2
    keyed.check("completion.create")


def test_what_it_may_never_do_is_denied_before_it_is_told_to_wait(bench):
    text = bench.make(budget=1, models=("gpt-*",))
    keyed = bench.gate.with_key(bench.connect(), text)
    keyed.spend(1)
    with pytest.raises(PermanentError, match="model_not_granted"):
        keyed.check("completion.create", None, "claude-x")


def test_the_budget_is_the_keys_and_not_the_connections(bench):
    text = bench.make(budget=10)
    bench.gate.with_key(bench.connect(), text).spend(10)
    with pytest.raises(TransientError, match="key_budget"):
        bench.gate.with_key(bench.connect(), text).check("completion.create")


def test_who_shows_no_key_has_no_budget(bench):
    caller = bench.connect("http")
    caller.spend(10**9)
    caller.check("completion.create")
    assert caller.account is None
    assert bench.store.saves == 0


def test_what_was_spent_outlives_a_restart_and_is_not_written_each_time(bench):
    text = bench.make(budget=10)
    keyed = bench.gate.with_key(bench.connect(), text)
    written = bench.store.saves
    for _ in range(5):
        keyed.spend(1)
    assert bench.store.saves == written
    bench.now += WRITE_EVERY
    keyed.spend(1)
    keyed.spend(1)
    assert bench.store.saves == written + 1
    bench.gate.close()
    bench.gate.close()
    assert bench.store.saves == written + 2
    again = Bench(bench.store)
    assert again.gate.list_keys()[0][1] == 7
    again.gate.with_key(again.connect(), text).spend(3)
    with pytest.raises(TransientError, match="key_budget"):
        again.gate.with_key(again.connect(), text).check("completion.create")


def test_a_disk_that_fails_costs_no_count(bench, caplog):
    text = bench.make(budget=10)
    keyed = bench.gate.with_key(bench.connect(), text)
    bench.now += WRITE_EVERY
    bench.store.faults = [BROKEN]
    keyed.spend(4)
    assert caplog.records[-1].message == "spent tokens not written"
    keyed.spend(4)
    bench.gate.close()
    assert bench.store.kept.spent["ci"].tokens == 8


@pytest.mark.parametrize("tokens", [0, -5])
def test_nothing_and_less_cost_nothing(bench, tokens):
    text = bench.make(budget=10)
    bench.gate.with_key(bench.connect(), text).spend(tokens)
    assert bench.gate.list_keys()[0][1] == 0


def test_what_a_revoked_key_still_had_under_way_is_counted_for_nobody(bench):
    keyed = bench.gate.with_key(bench.connect(), bench.make())
    bench.gate.revoke_key("ci")
    keyed.spend(5)
    bench.make()
    assert bench.gate.list_keys()[0][1] == 0


# -- making and keeping ------------------------------------------------------------------------


def test_the_text_is_kept_nowhere(bench, caplog):
    text = bench.make()
    bench.gate.with_key(bench.connect(), text)
    (kept,) = bench.store.kept.keys
    assert kept.digest == digest_of(text)
    assert text not in str(vars(bench.store.kept))
    assert kept.digest not in repr(bench.store.kept)
    assert text not in str([vars(r) for r in caplog.records])


def test_a_name_is_taken_until_its_key_has_expired(bench):
    old = bench.make(lasts=60)
    with pytest.raises(PermanentError, match="key_exists") as caught:
        bench.make()
    assert caught.value.failure.hint.endswith(": copilot-cred key revoke ci")
    using = bench.connect()
    closed = []
    using.on_revoked = lambda: closed.append("using")
    bench.gate.with_key(using, old)
    bench.wall += 60
    new = bench.make()
    assert closed == ["using"]
    assert [key.name for key, _ in bench.gate.list_keys()] == ["ci"]
    assert bench.refusal(bench.connect(), old).code == "key_revoked"
    bench.gate.with_key(bench.connect(), new)


def test_there_is_a_bound_on_keys_and_on_what_is_remembered_of_them(bench):
    for number in range(REVOKED_MAX + 2):
        bench.make(f"r{number}")
        bench.gate.revoke_key(f"r{number}")
    assert len(bench.store.kept.revoked) == REVOKED_MAX
    for number in range(KEYS_MAX):
        bench.make(f"k{number}")
    with pytest.raises(PermanentError, match="too_many_keys"):
        bench.make("one-more")
    bench.gate.revoke_key("k7")
    bench.make("one-more")


def test_what_cannot_be_written_does_not_hold(bench):
    bench.make()
    bench.store.faults = [BROKEN]
    with pytest.raises(PermanentError, match="keys_broken"):
        bench.make("other")
    bench.store.faults = [BROKEN]
    with pytest.raises(PermanentError, match="keys_broken"):
        bench.gate.revoke_key("ci")
    assert [key.name for key, _ in bench.gate.list_keys()] == ["ci"]
    assert [rule.key for rule in bench.gate.rules] == ["ci"]


def test_while_keys_cannot_be_read_none_works_and_none_is_made(bench, caplog):
    text = bench.make()
    bench.store.faults = [BROKEN] * 4
    saved = bench.store.saves
    again = Bench(bench.store)
    assert [r.REASON for r in caplog.records if r.message == "keys not read"] == [str(BROKEN)]
    assert again.gate.rules == ()
    assert again.refusal(again.connect(), text).code == "keys_broken"
    for attempt in (again.make, again.gate.list_keys):
        with pytest.raises(PermanentError, match="keys_broken"):
            attempt()
    assert bench.store.saves == saved
    again.gate.with_key(again.connect(), text)  # mended meanwhile
    assert [rule.key for rule in again.gate.rules] == ["ci"]
    with pytest.raises(PermanentError, match="key_not_found"):
        again.gate.revoke_key("nobody")


def test_a_gate_without_keys_knows_none_and_makes_none():
    gate = Gate(own_uid=1000)
    caller = gate.admit(Peer(pid=1, uid=1000, gid=1000), "http")
    with pytest.raises(PermanentError, match="key_unknown"):
        gate.with_key(caller, text_of(bytes(32)))
    with pytest.raises(PermanentError, match="no_key_store"):
        gate.create_key(lambda created, digest: Key("ci", digest, created))
    caller.close()


def test_the_rules_that_hold_tell_of_the_keys_and_why(bench):
    bench.make(models=("gpt-*",))
    bench.make("plain")
    assert [(rule.where, rule.who, rule.what) for rule in bench.gate.rules] == [
        ("key ci", {"key": "ci"}, {"scope": "complete", "models": ["gpt-*"]}),
        ("key plain", {"key": "plain"}, {"scope": "complete"}),
    ]
    again = Bench(bench.store)
    assert again.gate.rules == bench.gate.rules, "nobody has shown a key yet"
    decision = again.gate.explain(Peer(pid=1, uid=1000, gid=1000, key="ci"), "http-tcp")
    assert decision.steps[-2].where == "key ci"
