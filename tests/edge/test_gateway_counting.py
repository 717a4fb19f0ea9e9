"""Counting tokens: an estimate that says so."""

import json

import pytest

from brokerd.core.access import Rule
from brokerd.core.peer import Peer
from brokerd.errors import PermanentError
from brokerd.gate import Gate
from brokerd.gateway.counting import count_tokens
from brokerd.gateway.messages import Head, Request


def counted(body, *rules):
    caller = Gate(rules, own_uid=1000).admit(Peer(pid=1, uid=1000, gid=1000), "http")
    try:
        return count_tokens(
            Request(Head("POST", "/v1/messages/count_tokens", "", {}), body), caller
        )
    finally:
        caller.close()


BODY = json.dumps(
    {"model": "claude", "messages": [{"role": "user", "content": "hi " * 50}]}
).encode()


def test_the_answer_is_a_number_and_marked():
    reply = counted(BODY)
    assert reply.status == 200
    assert reply.headers["x-copilot-broker-estimate"] == "true"
    assert 20 < json.loads(reply.body)["input_tokens"] < 100


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"\xff", b"[" * 9999, b"[" + b"{}," * 500_000])
def test_what_cannot_be_read_is_refused(body):
    with pytest.raises(PermanentError) as caught:
        counted(body)
    assert caught.value.failure.code == "bad_body"


def test_a_model_that_is_not_the_callers_is_not_counted_for():
    rule = Rule(where="test", listener="http", models=("gpt-*",))
    with pytest.raises(PermanentError) as caught:
        counted(BODY, rule)
    assert caught.value.failure.code == "model_not_granted"
