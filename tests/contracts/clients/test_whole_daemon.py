"""All clients against the whole daemon, with the simulated GitHub and Copilot behind it."""

from __future__ import annotations

from concurrent.futures import wait

import pytest

from brokerd.simulator.faults import Fault
from contracts.clients.daemon import Daemon
from contracts.clients.driving import PATIENCE, the_bytes


CHAT = "/chat/completions"
ASK = {"model": "sim-chat", "messages": [{"role": "user", "content": "why is the sky blue"}]}
ANSWER = "This is sim-chat, simulated. You said: why is the sky blue"
STREAMED = ASK | {"stream": True}
AS_IT_WAS = {
    "chat_chunks": None,
    "chat_chunk_bytes": None,
    "chat_interval": 0,
    "chat_head_delay": 0,
    "chat_split": None,
}


@pytest.fixture(scope="module")
def running():
    with Daemon() as daemon:
        yield daemon


@pytest.fixture
def daemon(running):
    running.world.requests.clear()
    yield running
    running.change(**AS_IT_WAS)


@pytest.fixture
def client(client, daemon):
    client.open(daemon.path, name="contract")
    return client


def test_a_token_is_one_that_copilot_takes(client, daemon):
    token = client.call("token", min_valid=120)
    assert token["token"].startswith("tid=")
    assert token["expires_in"] > 120
    assert (token["account"], token["clamped"]) == ("default", False)
    assert token["headers"]["Editor-Version"]
    assert client.call("token")["token_id"] == token["token_id"]


def test_a_token_that_cannot_live_so_long_is_clamped(client):
    assert client.call("token", min_valid=80_000)["clamped"]


def test_a_rejected_token_is_replaced_once(client):
    old = client.call("token")
    new = client.call("token", reject=old["token"])
    assert new["token_id"] != old["token_id"]
    for name in ("token", "token_id"):
        assert client.call("token", reject=old[name])["token_id"] == new["token_id"]


def test_the_status_tells_the_accounts(client):
    status = client.call("status")
    [account] = status["accounts"]
    assert (account["name"], account["state"]) == ("default", "ready")
    assert client.call("accounts")["accounts"][0]["login"] == "octocat"
    hello = client.call("hello")
    assert (hello["protocol"], hello["scope"]) == (1, "admin")
    assert client.call("explain_grant")["scope"] == "admin"
    assert client.call("doctor")["checks"]


def test_an_account_of_another_name_can_be_signed_in_used_and_forgotten(client):
    told = client.begin("login", account="work", store="memory").items()
    assert told["error"] is None, told
    assert [chunk["event"] for chunk in told["items"]][-1] == "done"
    assert client.call("token", account="work")["account"] == "work"
    names = {account["name"] for account in client.call("accounts")["accounts"]}
    assert names == {"default", "work"}
    client.call("use", "work")
    assert client.call("token")["account"] == "work"
    client.call("use", "default")
    assert client.call("logout", account="work") is False
    error = client.refused("token", account="work")
    assert error["class"] in {2, 4}


def test_models_and_quota_are_githubs(client):
    models = client.call("models")
    assert "sim-chat" in {model["id"] for model in models}
    found = client.call("model_list")
    assert (found["models"], found["account"]) == (models, "default")
    quota = client.call("quota")
    assert (quota["source"], quota["account"]) == ("seat", "default")
    assert quota["kinds"]["premium_interactions"]["unit"] == "requests"


def test_a_completion_as_a_whole(client, daemon):
    told = client.call("complete", ASK, headers={"x-initiator": "agent"})
    assert (told["status"], told["ok"], told["account"]) == (200, True, "default")
    assert ANSWER.encode() in the_bytes(told["body"])
    [request] = daemon.completions()
    assert request.headers["x-initiator"] == "agent"


def test_a_completion_in_pieces(client, daemon):
    told = client.begin("stream", STREAMED).items("text")
    assert ("".join(told["items"]), told["error"]) == (ANSWER, None)
    assert len(told["items"]) > 3
    [request] = daemon.completions()
    daemon.until(lambda: request.finished)


def test_bytes_come_as_copilot_sent_them_a_byte_at_a_time(client, daemon):
    body = 'data: {"choices":[{"delta":{"content":"grüße 😀"}}]}\r\n\r\ndata: [DONE]\n\n'
    fault = Fault(
        status=200, headers={"content-type": "text/event-stream"}, body=body, drip=0.0005
    )
    daemon.world.queue_faults(CHAT, [fault, fault])
    stream = client.begin("stream", STREAMED)
    told = stream.items()
    assert b"".join(the_bytes(item) for item in told["items"]) == body.encode()
    assert len(told["items"]) > 10
    assert client.begin("stream", STREAMED).items("text")["items"] == ["grüße 😀"]


def test_a_long_answer_waits_for_who_reads_it_and_delays_no_call(client, daemon):
    daemon.change(chat_chunks=400, chat_chunk_bytes=5000)
    stream = client.begin("stream", STREAMED)
    assert stream.items(count=1)["items"]
    assert client.call("status")["pid"]
    [request] = daemon.completions()
    assert len(stream.read()) > 400 * 5000
    daemon.until(lambda: request.finished)


def test_leaving_early_cuts_copilot(client, daemon):
    daemon.change(chat_interval=0.2, chat_chunks=300)
    assert client.begin("stream", STREAMED).items(count=1, leave=True)["items"]
    [request] = daemon.completions()
    daemon.until(lambda: request.cancelled)


def test_a_deadline_cuts_copilot(client, daemon):
    daemon.change(chat_head_delay=PATIENCE)
    error = client.refused("complete", ASK, timeout=0.5)
    assert (error["class"], error["code"]) == (7, "timeout")
    assert "GitHub Copilot" in error["message"]
    [request] = daemon.completions()
    daemon.until(lambda: request.cancelled)


def test_the_death_of_copilot_is_typed(client, daemon):
    daemon.world.queue_faults(CHAT, [Fault(cut_after_writes=4)])
    told = client.begin("stream", STREAMED).items()
    assert told["items"]
    assert told["error"]["kinds"] == ["CopilotBrokerError", "Temporary"]
    assert told["error"]["code"] == "upstream_cut"
    assert "copilot-cred" in told["error"]["hint"]


def test_an_error_of_copilot_in_mid_stream_is_typed(client, daemon):
    told = client.begin("stream", STREAMED | {"model": "sim-quirk-error_midstream"}).items("text")
    assert told["items"]
    assert "UpstreamRefused" in told["error"]["kinds"]
    assert told["error"]["status"] == 200
    assert told["error"] == told["refusal"]


def test_refusals_of_copilot_are_typed(client, daemon):
    error = {"error": {"code": "invalid_request_body", "message": "too odd"}}
    daemon.world.queue_faults(CHAT, [Fault(status=400, body=error)] * 2)
    told = client.call("complete", ASK)
    assert (told["status"], told["ok"]) == (400, False)
    refusal = told["refusal"]
    assert refusal["kinds"] == ["CopilotBrokerError", "UpstreamRefused", "UsageError"]
    assert (refusal["code"], refusal["status"]) == ("invalid_request_body", 400)
    assert "too odd" in refusal["message"]
    assert "copilot-cred" in refusal["hint"]
    assert client.begin("stream", STREAMED).items("text")["error"] == refusal


@pytest.mark.parametrize(
    ("error_class", "code", "ask"),
    [
        (2, "unknown_account", ("use", ["nobody"], {})),
        (4, "login_required", ("token", [], {"account": "nobody"})),
        (2, "path_not_allowed", ("complete", [{}], {"path": "/etc"})),
        (2, "header_not_allowed", ("complete", [{}], {"headers": {"cookie": "a=b"}})),
        (2, "key_not_found", ("revoke_key", ["no-such"], {})),
    ],
)
def test_what_the_broker_refuses_is_typed(client, error_class, code, ask):
    method, needed, options = ask
    error = client.refused(method, *needed, **options)
    assert (error["class"], error["code"]) == (error_class, code), error
    assert error["hint"]


def test_a_locked_broker_says_so_and_how_it_is_unlocked(client):
    assert client.call("lock", passphrase="correct") is True
    try:
        error = client.refused("token")
        assert error["kinds"] == ["CopilotBrokerError", "Locked"]
        assert "copilot-cred unlock" in error["hint"]
        assert client.refused("unlock")["code"] == "passphrase_required"
        assert client.refused("unlock", passphrase="wrong")["kinds"] == [
            "CopilotBrokerError",
            "Denied",
        ]
    finally:
        assert client.call("unlock", passphrase="correct") is True
    assert client.call("token")["token"]


def test_a_key_is_made_listed_and_revoked(client):
    made = client.call("create_key", "ci", models=["sim-*"], expires_in=60, budget=500)
    assert made["key"].startswith("cpb_")
    [listed] = client.call("keys")
    assert (listed["name"], listed["models"], listed["budget"]) == ("ci", ["sim-*"], 500)
    assert client.call("revoke_key", "ci")["name"] == "ci"
    assert client.call("keys") == []


def test_many_at_once_are_all_answered(client, daemon):
    asked = [client.later("token") for _ in range(40)]
    asked += [client.later("complete", ASK) for _ in range(6)]
    done, left = wait([future for _, future in asked], PATIENCE)
    assert not left
    assert len([future for future in done if future.result()]) == 46
    assert len(daemon.completions()) == 6


def test_a_watch_tells_each_change(client):
    """The state at once, a rotation, a sign-out, a sign-in."""
    watch = client.begin("watch")

    def following() -> dict:
        [event] = watch.items(count=1)["items"]
        return event

    first = following()
    assert (first["event"], first["token_id"]) == ("token", client.call("token")["token_id"])
    client.call("refresh")
    while (second := following())["event"] != "token" or second["token_id"] == first["token_id"]:
        pass
    assert client.call("token")["token_id"] == second["token_id"]
    assert client.call("logout") is False
    while (third := following())["event"] != "login_required":
        pass
    assert third["error"]["class"] == 4
    error = client.refused("token")
    assert error["kinds"] == ["CopilotBrokerError", "LoginRequired"]
    assert error["hint"].endswith("copilot-cred login")
    assert client.begin("login", store="file").items()["error"] is None
    while following()["event"] != "token":
        pass
    watch.leave()


def test_a_client_lives_through_a_restart_of_the_daemon(client, daemon):
    before = client.call("status")["pid"]
    stream = client.begin("watch")
    stream.items(count=1)
    daemon.stop()
    ended = stream.items()
    assert ended["error"]["class"] in {3, 7}
    assert client.refused("token")["kinds"] == ["BrokerUnreachable", "CopilotBrokerError"]
    daemon.start()
    assert client.call("token")["token"].startswith("tid=")
    assert client.call("status")["pid"] != before


def test_a_cool_down_is_told_with_its_time(client, daemon):
    slow = Fault(status=429, headers={"retry-after": "40"}, body="slow down")
    daemon.world.queue_faults(CHAT, [slow])
    try:
        refusal = client.call("complete", ASK)["refusal"]
        assert refusal["kinds"] == ["CopilotBrokerError", "Temporary", "UpstreamRefused"]
        assert (refusal["status"], refusal["retry_after"]) == (429, 40)
        token = client.call("token")
        assert token["cooldown_until"] > token["expires_at"] - token["expires_in"]
        error = client.refused("complete", ASK)
        assert error["kinds"] == ["CopilotBrokerError", "Temporary"]
        assert error["code"] == "cooling_down"
        assert 20 < error["retry_after"] <= 40
        assert len(daemon.completions()) == 1
    finally:
        daemon.stop()  # what is shorter than a minute is not kept
        daemon.start()
