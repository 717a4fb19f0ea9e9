"""The gate refuses by raising and writes every decision down, always with the same fields."""

from __future__ import annotations

import logging
import os

import pytest

from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, PermanentError
from brokerd.gate import Gate


PEER_FIELDS = {"MESSAGE_ID", "LISTENER", "SCOPE", "PEER_PID", "PEER_UID", "PEER_UNIT", "PEER_WEAK"}


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
    return Peer(pid=42, uid=1000, gid=1000, pidfd=process, weak=False, unit="editor.scope")


@pytest.fixture
def gate(caplog):
    caplog.set_level(logging.INFO, "brokerd.gate")
    return Gate(own_uid=1000)


def fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name.isupper()}


def test_only_the_own_uid_comes_in_unless_told(peer):
    with pytest.raises(PermanentError, match="uid_not_allowed"):
        Gate(own_uid=2000).admit(peer, "rpc")
    assert Gate([1000], own_uid=2000).admit(peer, "rpc").scope.label == "status"


def test_the_own_uid_is_that_of_the_process(peer):
    own = Peer(pid=1, uid=os.getuid(), gid=0)
    assert Gate().admit(own, "rpc").scope.label == "admin"


def test_a_denied_peer_is_one_record(peer, caplog):
    with pytest.raises(PermanentError):
        Gate(own_uid=2000).admit(peer, "http")
    (record,) = caplog.records
    assert record.message == "peer denied"
    assert set(fields(record)) == PEER_FIELDS | {"REASON"}
    assert (record.PEER_UID, record.PEER_PID, record.LISTENER) == (1000, 42, "http")


def test_a_peer_that_is_gone_already_does_not_come_in(gate):
    with pytest.raises(PermanentError, match="peer_gone"):
        gate.admit(Peer(pid=42, uid=1000, gid=1000, gone=True), "rpc")


def test_a_denied_operation_is_one_record_each_time(gate, peer, caplog):
    caller = gate.admit(peer, "http")
    for _ in range(2):
        with pytest.raises(PermanentError) as caught:
            caller.check("token.get")
        assert caught.value.failure.error_class is ErrorClass.DENIED
    assert [(r.message, r.OPERATION, r.REASON) for r in caplog.records] == [
        ("operation denied", "token.get", "scope_too_low")
    ] * 2
    assert set(fields(caplog.records[0])) == PEER_FIELDS | {"OPERATION", "REASON"}


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


def test_what_may_be_done_is_what_is_not_refused(gate, peer, caplog):
    caller = gate.admit(peer, "http")
    assert caller.may("completion.create")
    assert not caller.may("token.get")
    assert not caller.may("token.steal")
    assert not caplog.records


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


def test_each_kind_of_record_has_an_id_of_its_own(gate, peer, process, caplog):
    caller = gate.admit(peer, "rpc")
    caller.check("account.list")
    caller.grant("token.get", "default", "aaaaaaaa")
    caller.complete("default")
    caller.close()
    for attempt in (lambda: caller.check("nothing"), lambda: gate.admit(Peer(1, 1, 1), "rpc")):
        with pytest.raises(PermanentError):
            attempt()
    ids = {record.message: record.MESSAGE_ID for record in caplog.records}
    assert len(ids) == 7
    assert len(set(ids.values())) == 7
    assert all(len(bytes.fromhex(value)) == 16 for value in ids.values())
