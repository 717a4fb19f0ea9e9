"""What is asked and answered in one call: the same parameters, results and errors in all clients."""

from __future__ import annotations

import threading

import pytest

from contracts.clients.driving import PATIENCE, Cancelled
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.limits import REQUESTS_IN_FLIGHT
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import HANG_UP, HELLO, SILENCE, WireServer


TOKEN = {
    "token": "tid=canary;exp=1800000000",
    "token_type": "bearer",
    "expires_at": 1_800_000_000,
    "expires_in": 1440.5,
    "api_base": "https://api.example",
    "completions_base": "https://proxy.example",
    "account": "default",
    "token_id": "0123abcd",
    "clamped": False,
    "cooldown_until": None,
    "headers": {"Editor-Version": "x/1"},
}
KINDS = {
    ErrorClass.INTERNAL: "InternalError",
    ErrorClass.USAGE: "UsageError",
    ErrorClass.UNREACHABLE: "BrokerUnreachable",
    ErrorClass.LOGIN_REQUIRED: "LoginRequired",
    ErrorClass.DENIED: "Denied",
    ErrorClass.LOCKED: "Locked",
    ErrorClass.TEMPORARY: "Temporary",
    ErrorClass.MIN_VALID: "MinValidUnsatisfiable",
    ErrorClass.STORE_UNAVAILABLE: "StoreUnavailable",
}


@pytest.fixture
def server():
    with WireServer({"token.get": TOKEN, "broker.status": {"pid": 1}}) as server:
        yield server


def test_a_token_has_all_its_fields(client, server):
    client.open(server.path)
    token = client.call("token", min_valid=120, account="work", reject="89abcdef")
    assert token == {name: value for name, value in TOKEN.items() if name != "token_type"}
    asked = {"min_valid": 120, "account": "work", "reject": "89abcdef"}
    assert server.calls("token.get") == [asked]


def test_a_token_lives_a_minute_unless_told_otherwise(client, server):
    client.open(server.path)
    client.call("token")
    assert server.calls("token.get") == [{"min_valid": 60}]


def test_a_token_says_until_when_copilot_wants_nothing(client, server):
    server.answers["token.get"] = {**TOKEN, "cooldown_until": 1_800_000_030, "clamped": True}
    client.open(server.path)
    token = client.call("token")
    assert (token["cooldown_until"], token["clamped"]) == (1_800_000_030, True)


def test_a_token_is_shown_without_its_secret(client, server):
    client.open(server.path)
    told = client.do("shown", method="token", needed=[], options={})
    assert told["kept"]["token"] == TOKEN["token"]
    for form in told["shown"]:
        assert "canary" not in form
    assert any("0123abcd" in form for form in told["shown"])


def test_a_completion_is_shown_without_its_text(client, server):
    body = b'{"choices":[{"message":{"content":"a private word"}}]}'
    server.answers["completion.create"] = {"status": 200, "headers": {}, "body": body}
    client.open(server.path)
    told = client.do("shown", method="complete", needed=[{}], options={})
    assert told["kept"]["status"] == 200
    for form in told["shown"]:
        assert "private" not in form


def test_unknown_keys_and_notifications_are_ignored(client, server):
    server.answers["token.get"] = {**TOKEN, "of_tomorrow": {"a": [1, 2, {"b": None}]}}
    server.answers["broker.status"] = {"pid": 1, "of_tomorrow": [{}]}
    client.open(server.path)
    assert client.call("token")["token"] == TOKEN["token"]
    assert client.call("status")["pid"] == 1


@pytest.mark.parametrize("lacking", ["token", "expires_at", "expires_in", "api_base", "token_id"])
def test_an_answer_that_is_no_token_is_the_brokers_fault(client, server, lacking):
    server.answers["token.get"] = {key: TOKEN[key] for key in TOKEN if key != lacking}
    client.open(server.path)
    error = client.refused("token")
    assert (error["class"], error["code"]) == (1, "bad_answer")


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_each_class_of_errors_has_its_kind(client, server, error_class):
    server.answers["token.get"] = ErrorInfo(
        error_class, "some_code", "a sentence", "Run: this", "https://github.com/x", 12.5
    )
    client.open(server.path)
    assert client.refused("token") == {
        "kinds": sorted(["CopilotBrokerError", KINDS[error_class]]),
        "class": error_class,
        "code": "some_code",
        "message": "a sentence",
        "hint": "Run: this",
        "url": "https://github.com/x",
        "retry_after": 12.5,
        "status": None,
        "text": "some_code: a sentence. Run: this",
    }
    assert server.connections == 1
    server.answers["token.get"] = TOKEN
    assert client.call("token")
    assert server.connections == 1  # a refusal spoils nothing


def test_what_an_error_does_not_tell_is_empty(client, server):
    server.answers["token.get"] = ErrorInfo(ErrorClass.DENIED, "bare", "a sentence")
    client.open(server.path)
    error = client.refused("token")
    assert (error["hint"], error["url"], error["retry_after"]) == ("", None, None)
    assert error["text"] == "bare: a sentence."


def test_a_named_client_introduces_itself_and_others_do_not(client, server):
    client.open(server.path, name="editor")
    client.call("status")
    client.open(server.path)
    client.call("status")
    hello = ("broker.hello", {"protocol": 1, "client": "editor"})
    assert server.requests == [hello, ("broker.status", {}), ("broker.status", {})]


def test_the_connection_is_kept(client, server):
    client.open(server.path)
    for _ in range(3):
        client.call("status")
    assert client.call("hello") == HELLO
    assert server.connections == 1


def test_after_close_it_may_be_used_again(client, server):
    client.open(server.path)
    client.call("status")
    client.close()
    assert server.departures.acquire(timeout=PATIENCE)
    client.call("status")
    assert server.connections == 2


def test_many_at_once_are_all_answered(client, server):
    client.open(server.path)
    pending = [client.later("token") for _ in range(60)]
    for _, future in pending:
        assert future.result(PATIENCE)["token"] == TOKEN["token"]
    assert len(server.calls("token.get")) == 60
    assert server.connections == 1


@pytest.mark.parametrize("leave", ["hang_up", "shutting_down"])
def test_a_restarted_broker_is_asked_again(client, server, leave):
    left = []
    leaving = {
        "hang_up": HANG_UP,
        "shutting_down": ErrorInfo(ErrorClass.TEMPORARY, "shutting_down", "it is going"),
    }[leave]

    def leave_twice(_):
        left.append(1)
        return leaving if len(left) < 3 else TOKEN

    server.answers["token.get"] = leave_twice
    client.open(server.path)
    assert client.call("token")["token"] == TOKEN["token"]
    assert len(left) == 3
    assert server.connections == 3


def test_a_broker_that_went_meanwhile_is_found_again(client, server):
    client.open(server.path)
    client.call("status")
    server.hang_up()
    assert server.departures.acquire(timeout=PATIENCE)
    assert client.call("status") == {"pid": 1}


@pytest.mark.parametrize(
    ("method", "wire", "needed"),
    [
        ("use", "account.use", ["work"]),
        ("logout", "account.logout", []),
        ("enable_model", "models.enable", ["m"]),
        ("complete", "completion.create", [{}]),
        ("stream", "completion.create", [{}]),
        ("refresh", "broker.refresh", []),
    ],
)
def test_what_changes_something_is_never_sent_twice(client, server, method, wire, needed):
    server.answers[wire] = HANG_UP
    client.open(server.path)
    do = client.do if method != "stream" else None
    if do is None:
        told = client.start("begin", method=method, needed=needed, options={})[1]
        error = told.exception(PATIENCE).told
    else:
        error = client.refused(method, *needed)
    assert (error["class"], error["code"]) == (3, "connection_lost")
    assert "systemctl --user start" in error["hint"]
    assert len(server.calls(wire)) == 1


def test_a_deadline_bounds_a_call(client, server):
    server.answers["broker.status"] = SILENCE
    client.open(server.path, timeout=0.15)
    error = client.refused("status")
    assert error["kinds"] == ["CopilotBrokerError", "Temporary"]
    assert (error["code"], error["retry_after"]) == ("timeout", 1)
    assert "0.15 s" in error["message"]
    assert client.call("token")  # and spoils nothing


@pytest.mark.parametrize("wire", ["completion.create", "token.watch"])
def test_a_deadline_bounds_the_beginning_of_a_stream(client, server, wire):
    server.answers[wire] = SILENCE
    client.open(server.path, timeout=0.15)
    method, needed = ("stream", [{}]) if wire == "completion.create" else ("watch", [])
    told = client.start("begin", method=method, needed=needed, options={})[1]
    assert told.exception(PATIENCE).told["code"] == "timeout"
    assert server.departures.acquire(timeout=PATIENCE)  # so the broker cuts it


def test_a_deadline_of_a_completion_is_its_own(client, server):
    server.answers["completion.create"] = SILENCE
    client.open(server.path)
    error = client.refused("complete", {}, timeout=0.15)
    assert error["code"] == "timeout"
    assert error["kinds"] == ["CopilotBrokerError", "Temporary"]
    assert server.departures.acquire(timeout=PATIENCE)


def test_a_frozen_broker_is_noticed_before_a_model_is_given_up(client, server):
    server.answers = {"broker.hello": SILENCE, "completion.create": SILENCE}
    client.open(server.path, timeout=0.15)
    assert "the broker did not answer" in client.refused("complete", {})["message"]


@pytest.mark.parametrize("method", ["status", "complete"])
def test_a_call_can_be_taken_back(client, server, lacks, method):
    if "cancel" in lacks:
        return
    wire = {"status": "broker.status", "complete": "completion.create"}[method]
    heard = threading.Event()
    server.answers[wire] = lambda _: heard.set() or SILENCE
    client.open(server.path, timeout=PATIENCE)
    number, future = client.later(method, *([{}] if method == "complete" else []))
    assert heard.wait(PATIENCE)
    client.cancel(number)
    with pytest.raises(Cancelled):
        future.result(PATIENCE)
    if method == "complete":
        assert server.departures.acquire(timeout=PATIENCE)  # upstream is cut
    else:
        server.answers[wire] = {"pid": 2}
        assert client.call("status") == {"pid": 2}  # the connection is whole


def test_calls_that_are_taken_back_leave_room_for_others(client, server, lacks):
    """As many as are let out at once, and two that wait in line."""
    if "cancel" in lacks:
        return
    heard = threading.Semaphore(0)
    server.answers["broker.status"] = lambda _: heard.release() or SILENCE
    client.open(server.path, timeout=PATIENCE)
    calls = [client.later("status") for _ in range(REQUESTS_IN_FLIGHT + 1)]
    for _ in range(REQUESTS_IN_FLIGHT - 1):
        assert heard.acquire(timeout=PATIENCE)
    for number, future in reversed(calls):
        client.cancel(number)
        with pytest.raises(Cancelled):
            future.result(PATIENCE)
    server.answers["broker.status"] = {"pid": 2}
    assert client.call("status") == {"pid": 2}


def test_an_option_that_is_not_there_is_refused(client, server):
    client.open(server.path)
    error = client.refused("token", minValid=3)
    assert "minValid" in error["text"]
    assert server.requests == []


@pytest.mark.parametrize("body", [{"$bytes": ""}, {"$bytes": "AP8="}, "grüß", {"a": ["ü", 1]}])
def test_a_body_travels_as_given(client, server, body):
    answer = {"status": 200, "headers": {}, "body": b"{}"}
    server.answers["completion.create"] = answer
    client.open(server.path)
    client.call("complete", body, headers={"x-initiator": "agent"}, path="/responses", account="w")
    [asked] = server.calls("completion.create")
    sent = asked.pop("body")
    wanted = {"": b"", "AP8=": b"\x00\xff"}
    if isinstance(body, str):
        assert sent == body.encode()
    elif "$bytes" in body:
        assert sent == wanted[body["$bytes"]]
    else:
        assert sent == '{"a":["ü",1]}'.encode()
    assert asked == {"path": "/responses", "account": "w", "headers": {"x-initiator": "agent"}}


def test_a_body_too_large_is_not_sent(client, server):
    client.open(server.path)
    error = client.refused("complete", "x" * (32 * 1024 * 1024 - 64 * 1024 + 1))
    assert (error["class"], error["code"]) == (2, "body_too_large")
    assert server.requests == []


def test_models_are_githubs_own_entries(client, server):
    entries = [{"id": "m", "billing": {"multiplier": 0.25}, "of_tomorrow": [1]}, {"id": "n"}]
    server.answers["models.list"] = {"models": entries, "account": "work", "age": 2.5}
    client.open(server.path)
    assert client.call("models", account="work") == entries
    assert client.call("model_list", fresh=True) == {
        "models": entries,
        "account": "work",
        "age": 2.5,
        "failure": None,
    }
    assert server.calls("models.list") == [{"account": "work"}, {"fresh": True}]


def test_an_old_list_of_models_says_why(client, server):
    error = {"class": 7, "code": "rate", "message": "slow", "hint": "Wait", "retry_after": 3}
    server.answers["models.list"] = {"models": [], "account": "w", "age": 900, "error": error}
    client.open(server.path)
    failure = client.call("model_list")["failure"]
    assert (failure["class"], failure["code"], failure["retry_after"]) == (7, "rate", 3)


def test_flags_and_texts_are_taken_out_of_their_answers(client, server):
    server.answers |= {
        "account.logout": {"revoked": True},
        "broker.lock": {"locked": True, "changed": False},
        "broker.unlock": {"locked": False, "changed": True},
        "models.enable": {"state": "enabled"},
        "key.list": {"keys": [{"name": "ci"}]},
    }
    client.open(server.path)
    assert client.call("logout", revoke=True) is True
    assert client.call("lock", passphrase="p") is False
    assert client.call("unlock", passphrase="p") is True
    assert client.call("enable_model", "m") == "enabled"
    assert client.call("keys") == [{"name": "ci"}]
    assert server.calls("account.logout") == [{"revoke": True}]


@pytest.mark.parametrize(
    ("method", "wire", "needed"),
    [
        ("models", "models.list", []),
        ("enable_model", "models.enable", ["m"]),
        ("keys", "key.list", []),
        ("complete", "completion.create", [{}]),
        ("status", "broker.status", []),
    ],
)
def test_an_answer_of_another_shape_is_the_brokers_fault(client, server, method, wire, needed):
    server.answers[wire] = ["odd"]
    client.open(server.path)
    error = client.refused(method, *needed)
    assert (error["class"], error["code"]) == (1, "bad_answer")
