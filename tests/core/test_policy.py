"""The decision: every scope against every operation, and that identity only ever lowers rights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.peer import Peer
from brokerd.core.policy import (
    LISTENER_SCOPES,
    OPERATIONS,
    Policy,
    Scope,
    direct_mode,
    peer_gone,
)
from brokerd.errors import ErrorClass


OWN = 1000


def a_peer(uid: int = OWN, **changes) -> Peer:
    return Peer(pid=4242, uid=uid, gid=uid, **changes)


def test_the_scopes_are_nested():
    assert Scope.STATUS < Scope.COMPLETE < Scope.TOKEN < Scope.ADMIN


@pytest.mark.parametrize(
    ("listener", "scope"),
    [
        ("rpc", Scope.ADMIN),
        ("http", Scope.COMPLETE),
        ("sandbox", Scope.STATUS),
        ("", Scope.STATUS),
    ],
)
def test_rights_come_from_the_listener(listener, scope):
    assert Policy(OWN).scope_of(a_peer(), listener) is scope


def test_a_further_uid_may_connect_but_gets_the_least():
    policy = Policy(OWN, frozenset({2000}))
    assert policy.refuse_peer(a_peer(2000)) is None
    assert policy.scope_of(a_peer(2000), "rpc") is Scope.STATUS


@pytest.mark.parametrize("uid", [0, 1, 999, 1001, 65534, 4294967294])
def test_every_other_uid_is_refused_root_too(uid):
    failure = Policy(OWN).refuse_peer(a_peer(uid))
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "uid_not_allowed")
    assert failure.hint


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("scope", Scope)
def test_an_operation_needs_its_scope(scope, operation):
    needed = OPERATIONS[operation]
    failure = Policy(OWN).refuse_operation(scope, operation)
    if needed is None or scope >= needed:
        assert failure is None
    else:
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "scope_too_low")
        assert needed.label in failure.message


def test_a_token_is_never_lent_below_its_scope_and_logins_need_admin():
    for operation, needed in OPERATIONS.items():
        if operation.startswith("token."):
            assert needed is Scope.TOKEN
        if operation.startswith("account."):
            assert needed is Scope.ADMIN


@given(st.text())
def test_what_is_not_written_is_refused_whoever_asks(operation):
    if operation in OPERATIONS:
        return
    failure = Policy(OWN).refuse_operation(Scope.ADMIN, operation)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "unknown_method")
    assert len(failure.message) < 1000


@given(
    uid=st.integers(0, 2**32 - 1),
    listener=st.sampled_from([*LISTENER_SCOPES, "further"]),
    unit=st.text(),
    weak=st.booleans(),
    pid=st.integers(0, 2**22),
)
def test_labels_never_raise_rights(uid, listener, unit, weak, pid):
    policy = Policy(OWN, frozenset({2000}))
    labelled = Peer(pid=pid, uid=uid, gid=0, weak=weak, unit=unit)
    assert policy.scope_of(labelled, listener) <= policy.scope_of(a_peer(), listener)


def test_a_dead_peer_is_denied_for_good():
    assert peer_gone().error_class is ErrorClass.DENIED


def test_direct_mode_by_choice_and_by_the_kind_of_login_are_both_mended_by_its_hint():
    by_choice, by_kind = direct_mode("work").hint.split("; else ")
    assert by_choice == 'Where config.toml sets mode = "direct", set "auto" and reload'
    assert by_kind.endswith(": copilot-cred login --account work --client-id vscode")
