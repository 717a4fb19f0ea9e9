"""Whether a completion could be had, in one status."""

import json
from dataclasses import replace

import pytest

from brokerd.core.access import Rule
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure
from brokerd.gate import Gate
from brokerd.gateway.health import healthz, root
from brokerd.gateway.messages import Head, Request
from fakes.broker import a_lease, a_view
from fakes.proxy import calm


REQUEST = Request(Head("GET", "/healthz", "", {}), b"")
NETWORK = Failure(
    ErrorClass.TEMPORARY, "network", "GitHub cannot be reached", "Check it: copilot-cred status"
)


def asked(*views, lease=None, gate=None, locked=False, rule=None):
    rules = [] if rule is None else [rule]
    caller = Gate(rules, own_uid=1000).admit(Peer(pid=1, uid=1000, gid=1000), "http")
    found = None if lease is None else (lease, 0, 0.0)
    reply = healthz(
        REQUEST,
        caller,
        lambda: list(views),
        lambda _account, _min_valid: found,
        lambda _account: gate or calm(),
        is_locked=locked,
    )
    caller.close()
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"
    return reply.status, json.loads(reply.body)


def test_a_token_at_hand_is_good_health_whatever_failed_last():
    for error in (None, NETWORK):
        status, page = asked(a_view(error=error), lease=a_lease())
        assert (status, page) == (200, {"status": "ok", "account": "default", "state": "ready"})


@pytest.mark.parametrize("state", ["exchanging", "ready"])
def test_so_is_one_that_can_be_had(state):
    assert asked(a_view(state=state, token_id=None))[0] == 200


@pytest.mark.parametrize("state", ["signed_out", "awaiting_user"])
def test_nobody_signed_in_is_not(state):
    status, page = asked(a_view(state=state))
    assert (status, page["code"]) == (503, "login_required")
    assert page["hint"].endswith("copilot-cred login")


def test_nor_is_a_token_that_cannot_be_had():
    status, page = asked(a_view(state="exchanging", error=NETWORK))
    assert (status, page["code"], page["message"]) == (503, "network", NETWORK.message)


def test_nor_is_a_locked_broker():
    status, page = asked(a_view(), lease=a_lease(), locked=True)
    assert (status, page["code"]) == (503, "locked")


def test_a_limit_of_upstreams_is_told_beside_it():
    limit = replace(NETWORK, code="rate_limited")
    gate = replace(calm(), cooldown_in=12.34, reason=limit)
    status, page = asked(a_view(), lease=a_lease(), gate=gate)
    assert (status, page["cooldown_in"], page["limited_by"]) == (200, 12.3, "rate_limited")


def test_the_default_account_is_meant_or_the_one_that_may_be_known():
    other, default = a_view(name="work", default=False, state="signed_out"), a_view()
    assert asked(other, default, lease=a_lease())[1]["account"] == "default"
    rule = Rule(where="test", listener="http", accounts=("work",))
    assert asked(other, default, rule=rule) == (
        503,
        {"account": "work", "state": "signed_out", "status": "unavailable", "code": "login_required",
         "message": "nobody is signed in", "hint": "Run: copilot-cred login"},
    )  # fmt: skip
    assert asked() == (503, {"status": "unavailable", "code": "no_account"})


def test_the_root_says_what_listens_here():
    reply = root(REQUEST, None, "1.2.3")
    page = json.loads(reply.body)
    assert (reply.status, page["name"], page["version"]) == (200, "copilot-broker", "1.2.3")
