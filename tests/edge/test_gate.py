"""The gate refuses by raising and writes every decision down, always with the same fields."""

from __future__ import annotations

import gc
import logging
import os
import weakref

import pytest

from brokerd.core import audit
from brokerd.core.access import Rule, Scope
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, PermanentError, TransientError
from brokerd.gate import Gate


PEER_FIELDS = {"MESSAGE_ID", *audit.PEER_FIELDS}


class FakeProcess:
    """A hold on a process that ends when the test says so."""

    def __init__(self) -> None:
        self.alive = True
        self.closed = False

    def fileno(self) -> int:
        return -1

    def is_alive(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def process():
    return FakeProcess()


@pytest.fixture
def peer(process):
    return Peer(
        pid=42,
        uid=1000,
        gid=1000,
        pidfd=process,
        weak=False,
        unit="editor.scope",
        label="snap.editor",
        sandbox="snap",
        comm="editor",
        exe="/snap/editor/1/bin/editor",
    )


@pytest.fixture
def gate(caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    return Gate(own_uid=1000)


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name.isupper()}


def test_only_the_own_uid_comes_in_unless_told(peer):
    with pytest.raises(PermanentError, match="uid_not_allowed"):
        Gate(own_uid=2000).admit(peer, "rpc")
    told = Rule(uid=1000, scope=Scope.STATUS)
    assert Gate([told], own_uid=2000).admit(peer, "rpc").scope.label == "status"


def test_the_own_uid_is_that_of_the_process(peer):
    own = Peer(pid=1, uid=os.getuid(), gid=0)
    assert Gate().admit(own, "rpc").scope.label == "admin"


def test_a_denied_peer_is_one_record(peer, caplog):
    with pytest.raises(PermanentError):
        Gate(own_uid=2000).admit(peer, "http")
    (record,) = caplog.records
    assert record.message == "peer denied"
    assert set(fields(record)) == PEER_FIELDS | {"REASON", "COUNT"}
    assert record.COUNT == 1
    assert (record.PEER_UID, record.PEER_PID, record.LISTENER) == (1000, 42, "http")
    assert (record.PEER_UNIT, record.PEER_LABEL) == ("editor.scope", "snap.editor")
    assert (record.PEER_SANDBOX, record.PEER_COMM) == ("snap", "editor")
    assert (record.PEER_EXE, record.PEER_WEAK) == ("/snap/editor/1/bin/editor", 0)
    assert record.SCOPE == "none"


def test_a_peer_that_is_gone_already_does_not_come_in(gate):
    with pytest.raises(PermanentError, match="peer_gone"):
        gate.admit(Peer(pid=42, uid=1000, gid=1000, gone=True), "rpc")


def test_a_denied_operation_is_one_record(gate, peer, caplog):
    caller = gate.admit(peer, "http")
    with pytest.raises(PermanentError) as caught:
        caller.check("token.get")
    assert caught.value.failure.error_class is ErrorClass.DENIED
    assert [(r.message, r.OPERATION, r.REASON, r.COUNT) for r in caplog.records] == [
        ("operation denied", "token.get", "scope_too_low", 1)
    ]
    assert set(fields(caplog.records[0])) == PEER_FIELDS | {"OPERATION", "REASON", "COUNT"}


def test_a_peers_own_words_stay_out_of_the_log(gate, peer, caplog):
    with pytest.raises(PermanentError):
        gate.admit(peer, "rpc").check("token.get\nfake record gho_canary")
    assert "canary" not in str([vars(record) for record in caplog.records])


def test_admin_operations_are_written_down_and_looking_is_not(gate, peer, caplog):
    caller = gate.admit(peer, "rpc")
    caller.check("broker.hello")
    caller.check("broker.status")
    caller.check("account.logout")
    assert [(r.message, r.OPERATION) for r in caplog.records] == [
        ("operation granted", "account.logout")
    ]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (None, "(default)"),
        ("work", "work"),
        ("work\nfake record", "(invalid)"),
        ("gho canary", "(invalid)"),
        (7, "(invalid)"),
    ],
)
def test_an_admin_operation_names_the_account_it_is_for(gate, peer, caplog, word, told):
    gate.admit(peer, "rpc").check("account.logout", word)
    assert [record.ACCOUNT for record in caplog.records] == [told]
    assert "canary" not in str([vars(record) for record in caplog.records])


def test_one_record_per_token_and_connection_and_a_total_at_rotation_and_close(gate, peer, caplog):
    caller, other = gate.admit(peer, "rpc"), gate.admit(peer, "rpc")
    for _ in range(3):
        caller.grant("token.get", "default", "aaaaaaaa")
    other.grant("token.get", "default", "aaaaaaaa")
    caller.grant("token.get", "work", "cccccccc")
    caller.grant("token.get", "default", "bbbbbbbb")
    caller.close()
    caller.close()
    told = [(r.message, r.ACCOUNT, r.TOKEN_FP, getattr(r, "COUNT", 0)) for r in caplog.records]
    assert told == [
        ("token granted", "default", "aaaaaaaa", 0),
        ("token granted", "default", "aaaaaaaa", 0),
        ("token granted", "work", "cccccccc", 0),
        ("token lent", "default", "aaaaaaaa", 3),
        ("token granted", "default", "bbbbbbbb", 0),
        ("token lent", "default", "bbbbbbbb", 1),
        ("token lent", "work", "cccccccc", 1),
    ]
    granted = next(r for r in caplog.records if r.message == "token granted")
    assert set(fields(granted)) == PEER_FIELDS | {"OPERATION", "ACCOUNT", "TOKEN_FP"}
    lent = next(r for r in caplog.records if r.message == "token lent")
    assert set(fields(lent)) == PEER_FIELDS | {"ACCOUNT", "TOKEN_FP", "COUNT"}


def test_completions_are_one_record_per_account_and_a_count_at_close(gate, peer, caplog):
    caller = gate.admit(peer, "rpc")
    for account in ("default", "work", "default"):
        caller.complete(account)
    caller.close()
    caller.close()
    told = [(r.message, r.ACCOUNT, getattr(r, "COUNT", 0)) for r in caplog.records]
    assert told == [
        ("completion granted", "default", 0),
        ("completion granted", "work", 0),
        ("completions made", "default", 2),
        ("completions made", "work", 1),
    ]
    assert set(fields(caplog.records[0])) == PEER_FIELDS | {"OPERATION", "ACCOUNT"}
    assert set(fields(caplog.records[2])) == PEER_FIELDS | {"ACCOUNT", "COUNT"}


def test_a_silent_grant_counts_like_a_loud_one_and_refuses_in_silence(gate, peer, process, caplog):
    caller = gate.admit(peer, "rpc")
    assert caller.grant_at_once("token.get", "default", "aaaaaaaa")
    caller.grant("token.get", "default", "aaaaaaaa")
    process.alive = False
    assert not caller.grant_at_once("token.get", "default", "aaaaaaaa")
    caller.close()
    assert [r.message for r in caplog.records] == ["token granted", "token lent"]
    assert caplog.records[1].COUNT == 2


def test_no_secret_leaves_for_a_process_that_has_ended(gate, peer, process, caplog):
    caller = gate.admit(peer, "rpc")
    caller.check("token.get")
    process.alive = False  # between the question and the answer
    with pytest.raises(PermanentError, match="peer_gone"):
        caller.grant("token.get", "default", "aaaaaaaa")
    assert [(r.message, r.REASON) for r in caplog.records] == [("operation denied", "peer_gone")]


def test_closing_lets_go_of_the_process(gate, peer, process):
    gate.admit(peer, "rpc").close()
    assert process.closed


def test_each_record_is_an_event_of_the_audit_log_with_all_its_fields(gate, peer, caplog):
    caller = gate.admit(peer, "rpc")
    caller.check("account.list")
    caller.grant("token.get", "default", "aaaaaaaa")
    caller.complete("default")
    caller.close()
    for attempt in (lambda: caller.check("nothing"), lambda: gate.admit(Peer(1, 1, 1), "rpc")):
        with pytest.raises(PermanentError):
            attempt()
    gate.regrant([Rule(scope=Scope.STATUS)])
    known = {event.message: event for event in audit.EVENTS}
    told = {record.message: record for record in caplog.records}
    assert len(told) == 8
    for message, record in told.items():
        event = known[message]
        of_peer = audit.PEER_FIELDS if event.is_of_peer else ()
        assert set(fields(record)) == {"MESSAGE_ID", *of_peer, *event.fields}
        assert event.message_id == record.MESSAGE_ID


# -- what rules take away ----------------------------------------------------------------------


class Now:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def code_of(attempt) -> str:
    with pytest.raises(PermanentError) as caught:
        attempt()
    return caught.value.failure.code


def gate_of(*rules: Rule, **more) -> Gate:
    return Gate(rules, own_uid=1000, **more)


def test_a_label_takes_rights_away(peer):
    gate = gate_of(Rule(sandbox="any", scope=Scope.COMPLETE))
    caller = gate.admit(peer, "rpc")
    assert caller.scope is Scope.COMPLETE
    assert code_of(lambda: caller.check("token.get")) == "scope_too_low"
    assert gate.admit(Peer(1, 1000, 1000, sandbox="none"), "rpc").scope is Scope.ADMIN


def test_an_account_that_is_not_granted_is_refused_and_written_down(peer, caplog):
    caller = gate_of(Rule(accounts=("work",))).admit(peer, "rpc")
    caller.check("token.get", "work")
    for account in ("default", None, 7):
        assert code_of(lambda account=account: caller.check("token.get", account)) == (
            "account_not_granted"
        )
    caller.close()
    assert [(r.OPERATION, r.REASON, r.COUNT) for r in caplog.records] == [
        ("token.get", "account_not_granted", 1),
        ("token.get", "account_not_granted", 2),
    ]


def test_the_default_account_is_asked_for_each_time(peer):
    default = ["work"]
    rules = [Rule(accounts=("work",))]
    gate = Gate(rules, own_uid=1000, default_account=lambda: default[0])
    caller = gate.admit(peer, "rpc")
    caller.check("token.get")
    default[0] = "play"
    assert code_of(lambda: caller.check("token.get")) == "account_not_granted"
    default[0] = "work"
    caller.check("token.get")


def test_a_token_of_another_account_does_not_leave_by_either_way(peer):
    caller = gate_of(Rule(accounts=("work",))).admit(peer, "rpc")
    caller.check("token.get", "work")
    assert code_of(lambda: caller.grant("token.get", "play", "aaaaaaaa")) == "account_not_granted"
    assert not caller.grant_at_once("token.get", "play", "aaaaaaaa")
    assert caller.grant_at_once("token.get", "work", "bbbbbbbb")
    caller.grant("token.get", "work", "bbbbbbbb")


def test_a_model_that_is_not_granted_is_refused(peer):
    caller = gate_of(Rule(models=("gpt-*",))).admit(peer, "rpc")
    assert caller.models_matter
    caller.check("completion.create", None, "gpt-5")
    for model in ("o4", None, ""):
        assert code_of(lambda model=model: caller.check("completion.create", None, model)) == (
            "model_not_granted"
        )
    caller.check("models.list")
    assert not gate_of().admit(peer, "rpc").models_matter


def test_a_rate_is_shared_and_refuses_for_now(peer, caplog):
    now = Now()
    gate = gate_of(Rule("config.toml:3", requests_per_minute=2), clock=now)
    one, other = gate.admit(peer, "rpc"), gate.admit(peer, "http")
    one.check("token.get")
    other.check("completion.create")
    for _ in range(3):
        with pytest.raises(TransientError, match="request_rate") as caught:
            one.check("token.watch")
        assert caught.value.failure.retry_after == pytest.approx(30.0, abs=0.01)
    one.check("broker.status")  # is not counted
    now.seconds += caught.value.failure.retry_after
    one.check("token.watch")
    one.close()
    assert [(r.message, r.REASON, r.COUNT) for r in caplog.records] == [
        ("operation denied", "request_rate", 1),
        ("operation denied", "request_rate", 2),
    ]


def test_a_silent_grant_counts_as_a_request_and_is_refused_in_silence(peer, process, caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    now = Now()
    gate = gate_of(Rule(requests_per_minute=2), clock=now)
    caller = gate.admit(peer, "rpc")
    assert caller.grant_at_once("token.get", "default", "aaaaaaaa")
    process.alive = False
    assert not caller.grant_at_once("token.get", "default", "aaaaaaaa")
    process.alive = True
    assert caller.grant_at_once("token.get", "default", "aaaaaaaa")
    assert not caller.grant_at_once("token.get", "default", "aaaaaaaa")
    assert [r.message for r in caplog.records] == ["token granted"]
    with pytest.raises(TransientError, match="request_rate"):
        caller.check("token.get")  # the long way tells it
    assert [r.message for r in caplog.records] == ["token granted", "operation denied"]


def test_a_token_that_was_asked_for_counts_once(peer):
    caller = gate_of(Rule(requests_per_minute=1), clock=Now()).admit(peer, "rpc")
    caller.check("token.get")
    caller.grant("token.get", "default", "aaaaaaaa")
    with pytest.raises(TransientError, match="request_rate"):
        caller.check("token.get")


# -- new rules ---------------------------------------------------------------------------------


def test_new_rules_hold_from_the_next_request_on(gate, peer, caplog):
    caller = gate.admit(peer, "rpc")
    caller.check("token.get")
    assert caller.grant_at_once("token.get", "default", "aaaaaaaa")
    gate.regrant([Rule(unit="editor*", scope=Scope.COMPLETE)])
    assert not caller.grant_at_once("token.get", "default", "aaaaaaaa")
    assert code_of(lambda: caller.check("token.get")) == "scope_too_low"
    # It was asked for under the old rules, as by a watch; it does not leave under the new.
    assert code_of(lambda: caller.grant("token.watch", "default", "bbbbbbbb")) == "scope_too_low"
    assert [r.SCOPE for r in caplog.records if r.message == "operation denied"] == ["complete"] * 2
    gate.regrant([])
    caller.grant("token.watch", "default", "bbbbbbbb")


def test_new_rules_may_make_the_model_matter(gate, peer):
    caller = gate.admit(peer, "rpc")
    gate.regrant([Rule(models=("gpt-*",))])
    assert caller.models_matter
    assert code_of(lambda: caller.check("completion.create", None, "o4")) == "model_not_granted"


def test_new_rules_are_one_record_and_the_same_ones_are_none(gate, peer, caplog):
    for _ in range(3):
        gate.admit(peer, "rpc")
    gate.regrant([Rule("config.toml:3", scope=Scope.TOKEN)])
    gate.regrant([Rule("config.toml:4", scope=Scope.TOKEN)])
    assert [(r.message, r.COUNT) for r in caplog.records] == [("grants changed", 1)]
    assert [rule.where for rule in gate.rules] == ["config.toml:4"]


def test_a_rate_that_stays_is_not_filled_up_by_a_reload(peer):
    gate = gate_of(Rule(requests_per_minute=1), clock=Now())
    caller = gate.admit(peer, "rpc")
    caller.check("token.get")
    gate.regrant([Rule("config.toml:9", requests_per_minute=1), Rule(scope=Scope.TOKEN)])
    with pytest.raises(TransientError, match=r"config.toml:9 allows 1"):
        caller.check("token.get")


def test_a_rate_that_went_is_forgotten(peer):
    gate = gate_of(Rule(requests_per_minute=1), clock=Now())
    caller = gate.admit(peer, "rpc")
    caller.check("token.get")
    gate.regrant([])
    gate.regrant([Rule(requests_per_minute=1)])
    caller.check("token.get")


def test_who_is_not_let_in_any_more_is_put_out(peer, process, caplog):
    gate = Gate([Rule(uid=1000, scope=Scope.TOKEN)], own_uid=2000)
    caller, stays = gate.admit(peer, "rpc"), gate.admit(Peer(1, 2000, 2000), "rpc")
    caller.on_revoked = caller.close
    gate.regrant([])
    assert process.closed
    assert gate.connections == 1
    assert [(r.message, r.REASON) for r in caplog.records if r.message == "peer denied"] == [
        ("peer denied", "uid_not_allowed")
    ]
    stays.check("token.get")


def test_who_is_not_let_in_any_more_does_nothing_though_its_door_sleeps(peer):
    gate = Gate([Rule(uid=1000, scope=Scope.TOKEN)], own_uid=2000)
    caller = gate.admit(peer, "rpc")
    caller.check("token.get")
    gate.regrant([])
    assert not caller.grant_at_once("token.get", "default", "aaaaaaaa")
    for attempt in (
        lambda: caller.check("broker.hello"),
        lambda: caller.grant("token.watch", "default", "aaaaaaaa"),
    ):
        assert code_of(attempt) == "uid_not_allowed"


def test_what_is_explained_is_what_is_decided_and_nothing_is_written(peer, caplog):
    gate = gate_of(Rule("config.toml:3", unit="editor*", scope=Scope.COMPLETE))
    decision = gate.explain(peer, "rpc")
    assert decision.rights == gate.admit(peer, "rpc").rights
    assert decision.steps[-1].where == "config.toml:3"
    assert gate.explain(Peer(1, 1, 1), "rpc").failure.code == "uid_not_allowed"
    assert not caplog.records


def test_a_closed_caller_is_forgotten(gate, peer):
    callers = [gate.admit(peer, "rpc") for _ in range(3)]
    assert gate.connections == 3
    for caller in callers:
        caller.check("token.get")
        caller.close()
        caller.close()
    assert gate.connections == 0
    left = [weakref.ref(caller) for caller in callers]
    del callers, caller
    gc.collect()
    assert [ref() for ref in left] == [None] * 3


def test_a_peer_that_was_refused_is_not_counted(gate):
    with pytest.raises(PermanentError):
        gate.admit(Peer(1, 1, 1), "rpc")
    assert gate.connections == 0
