"""`copilot-cred get --model`: a key instead of a token, in the forms that make sense for one."""

from __future__ import annotations

import json
import time

import pytest

from client.cli.running import run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


TEXT = "cpb_canary-canary-canary-canary-canary-canary_k"
ANSWER = {"key": TEXT, "name": "get:key", "models": ["gpt-*"], "account": None}


@pytest.fixture
def server():
    answer = {**ANSWER, "expires_at": int(time.time()) + 3600}
    with WireServer({"key.mint": answer}) as server:
        yield server


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ((), f"{TEXT}\n"),
        (("-n",), TEXT),
        (("--format", "raw"), f"{TEXT}\n"),
        (("--format", "header"), f"Authorization: Bearer {TEXT}\n"),
        (("--format", "curl-config"), f'header = "Authorization: Bearer {TEXT}"\n'),
    ],
)
def test_the_key_is_printed(server, options, printed):
    done = run("get", "--model", "gpt-*", *options, env=server.env)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
    assert server.calls("key.mint") == [
        {"label": "key", "models": ["gpt-*"], "expires_in": 3600.0}
    ]


def test_as_json_with_its_end(server):
    done = run("get", "--model", "gpt-*", "--format", "json", env=server.env)
    told = json.loads(done.stdout)
    left = told.pop("expires_in")
    assert 3500 < left <= 3600
    assert told.pop("expires_at") == pytest.approx(time.time() + left, abs=5)
    assert told == {"version": 1, **ANSWER}


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (("--model", "a,b", "--model", "c"), {"models": ["a", "b", "c"]}),
        (("--model", "a", "--ttl", "15min"), {"models": ["a"], "expires_in": 900.0}),
        (("--model=a", "--label", "claude"), {"models": ["a"], "label": "claude"}),
        (("--model", "a", "--account", "work"), {"models": ["a"], "account": "work"}),
    ],
)
def test_options_are_asked_for(server, options, asked):
    assert run("get", *options, env=server.env).returncode == 0
    plain = {"label": "key", "expires_in": 3600.0}
    assert server.calls("key.mint") == [plain | asked]


@pytest.mark.parametrize(
    "options",
    [
        ("--ttl", "1h"),
        ("--label", "x"),
        ("--model", "a", "--ttl", "soon"),
        ("--model", "a", "--ttl", "0"),
        ("--model", "a", "--min-valid", "5"),
        ("--model", "a", "--min-valid-strict"),
        ("--model", "a", "--reject", "0" * 8),
        ("--model", "a", "--format", "env"),
        ("--model", "a", "--format", "k8s"),
        ("--model",),
    ],
)
def test_what_makes_no_sense_asks_nobody(server, options):
    done = run("get", *options, env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("copilot-cred get --help\n")
    assert server.calls("key.mint") == []


def test_a_refusal_has_its_status():
    error = ErrorInfo(ErrorClass.LOGIN_REQUIRED, "login_required", "nobody", "copilot-cred login")
    with WireServer({"key.mint": error}) as server:
        done = run("get", "--model", "a", env=server.env)
    assert (done.returncode, done.stdout) == (4, "")
    assert "copilot-cred login" in done.stderr


@pytest.mark.parametrize("key", [None, 7, "a\nb", "a\x1bb"])
def test_what_is_no_key_is_not_printed(key):
    with WireServer({"key.mint": {**ANSWER, "key": key, "expires_at": None}}) as server:
        done = run("get", "--model", "a", env=server.env)
    assert (done.returncode, done.stdout) == (1, "")
