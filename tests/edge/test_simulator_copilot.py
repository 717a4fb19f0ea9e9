"""The simulated Copilot beyond chat: its other routes, whom it takes, and how it is treated."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate

import httpx
import pytest

from brokerd.simulator import Simulator
from fakes.clock import FakeClock
from fakes.simulated_chat import (
    CHAT,
    EDITOR,
    IMAGE,
    SECONDS,
    ask,
    control,
    copilot,
    events,
    question,
    signed_in,
    until,
)
from fakes.simulated_github import CLIENT, sign_in


RESPONSES, MESSAGES, EMBEDDINGS = "/responses", "/v1/messages", "/embeddings"
HELLO = [{"role": "user", "content": "hello"}]


async def asked(running, path=CHAT):
    return [each for each in running.world.requests if each.path == path]


def named(text):
    """Events by their names, which must be their types: [(name, data)]."""
    told = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        told.append((body["type"], body))
    return told


# Responses.


async def test_responses_answers_in_one_object():
    async with copilot() as (_, http):
        answer = await http.post(
            RESPONSES, json={"model": "sim-responses", "input": "hello", "store": False}
        )
        body = answer.json()
        assert (body["object"], body["status"], body["store"]) == ("response", "completed", False)
        [item] = body["output"]
        assert item["content"][0]["text"].endswith("You said: hello")
        usage = body["usage"]
        assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]
        assert "x-quota-snapshot-chat" in answer.headers
        assert answer.headers["x-request-id"]


async def test_responses_streams_the_same_with_usage_and_quota():
    async with copilot(premium_remaining=29.5) as (_, http):
        parts = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
        body = {"model": "sim-responses", "input": parts}
        whole = (await http.post(RESPONSES, json=body)).json()
        streamed = await http.post(RESPONSES, json={**body, "stream": True})
        assert streamed.headers["content-type"] == "text/event-stream"
        told = named(streamed.text)
        assert [name for name, _ in told[:2]] == ["response.created", "response.in_progress"]
        assert [each["sequence_number"] for _, each in told] == list(range(len(told)))
        text = "".join(
            each["delta"] for name, each in told if name == "response.output_text.delta"
        )
        assert text == whole["output"][0]["content"][0]["text"]
        name, last = told[-1]
        assert name == "response.completed"
        assert last["response"]["usage"] == whole["usage"]
        premium = last["copilot_quota_snapshots"]["premium_models"]
        assert (premium["entitlement"], premium["percent_remaining"]) == ("300", 29.5)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"store": True}, "store_not_supported"),
        ({"previous_response_id": "resp_1"}, "previous_response_not_found"),
        ({"input": ""}, "invalid_request_body"),
        ({"input": 5}, "invalid_request_body"),
        ({"model": "sim-chat"}, "unsupported_api_for_model"),
        ({"model": "sim-premium"}, "model_not_supported"),
        ({"model": "sim-embedding"}, "model_not_supported"),
        ({"model": "sim-quirk-comments", "input": "x" * 600_000}, "invalid_request_body"),
    ],
)
async def test_responses_refuses(more, code):
    async with copilot() as (_, http):
        body = {"model": "sim-responses", "input": "hello", **more}
        answer = await http.post(RESPONSES, json=body)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.json()["error"]["code"] == code


# Messages.


async def test_messages_answers_as_anthropic_does():
    async with copilot() as (_, http):
        body = {"model": "sim-claude", "max_tokens": 100, "messages": HELLO}
        whole = (await http.post(MESSAGES, json=body)).json()
        assert (whole["type"], whole["role"], whole["stop_reason"]) == (
            "message",
            "assistant",
            "end_turn",
        )
        text = whole["content"][0]["text"]
        assert text.endswith("You said: hello")
        told = named((await http.post(MESSAGES, json={**body, "stream": True})).text)
        assert told[0][0] == "message_start"
        assert told[0][1]["message"]["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
        assert told[-1][0] == "message_stop"
        deltas = [each["delta"]["text"] for name, each in told if name == "content_block_delta"]
        assert "".join(deltas) == text


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"messages": []}, "invalid_request_body"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "I"}]}, "invalid_request_body"),
        ({"model": "sim-chat"}, "unsupported_api_for_model"),
        ({"model": "sim-responses"}, "unsupported_api_for_model"),
        ({"model": "gpt-x"}, "model_not_supported"),
    ],
)
async def test_messages_refuses(more, code):
    async with copilot() as (_, http):
        body = {"model": "sim-claude", "messages": HELLO, **more}
        answer = await http.post(MESSAGES, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("path", "key"), [(CHAT, "messages"), (RESPONSES, "input"), (MESSAGES, "messages")]
)
async def test_images_need_their_header_everywhere(path, key):
    async with copilot() as (_, http):
        said = [{"role": "user", "content": [IMAGE]}]
        body = {"model": "sim-quirk-comments", key: said}
        answer = await http.post(path, json=body)
        assert (answer.status_code, "Copilot-Vision-Request" in answer.text) == (400, True)
        headers = {"Copilot-Vision-Request": "true"}
        assert (await http.post(path, json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("path", "key", "error"),
    [
        (CHAT, "messages", {"error": {"code": "internal_error"}}),
        (RESPONSES, "input", {"type": "error", "code": "server_error"}),
        (MESSAGES, "messages", {"type": "error", "error": {"type": "api_error"}}),
    ],
)
async def test_every_stream_can_end_in_an_error_event(path, key, error):
    """Under 200, half-way, in the words of the API it is."""
    async with copilot() as (_, http):
        body = {"model": "sim-quirk-error_midstream", key: HELLO, "stream": True}
        answer = await http.post(path, json=body)
        assert answer.status_code == 200
        last = events(answer.text)[-1]
        inner = last.get("error", {})
        assert "stopped" in (inner.get("message") or last.get("message"))
        for name, value in error.items():
            if isinstance(value, dict):
                assert last[name].items() >= value.items()
            else:
                assert last[name] == value


async def test_every_path_keeps_pace_and_breaks_off_as_chat_does():
    async with copilot(chat_events_per_write=0) as (_, http):
        for path, model, key in (
            (RESPONSES, "sim-responses", "input"),
            (MESSAGES, "sim-claude", "messages"),
        ):
            await control(http, "faults", path=path, named=["429_rate_limited", "503"])
            body = {"model": model, key: HELLO, "stream": True}
            statuses = [(await http.post(path, json=body)).status_code for _ in range(3)]
            assert statuses == [429, 503, 200]


# Embeddings.


async def test_embeddings_come_in_order_and_depend_on_the_text():
    async with copilot() as (_, http):
        body = {"model": "sim-embedding", "input": ["a", "b", "a"], "dimensions": 8}
        answer = (await http.post(EMBEDDINGS, json=body)).json()
        assert (answer["object"], answer["model"]) == ("list", "sim-embedding")
        assert [each["index"] for each in answer["data"]] == [0, 1, 2]
        first, second, third = (each["embedding"] for each in answer["data"])
        assert (len(first), first == third, first == second) == (8, True, False)
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]
        one = await http.post(EMBEDDINGS, json={"model": "sim-embedding", "input": "a"})
        assert len(one.json()["data"][0]["embedding"]) == 1536


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"input": []}, "invalid_request_body"),
        ({"input": ["a", 5]}, "invalid_request_body"),
        ({"input": ["a"] * 513}, "invalid_request_body"),
        ({"dimensions": 0}, "invalid_request_body"),
        ({"model": "sim-chat"}, "model_not_supported"),
    ],
)
async def test_embeddings_refuses(more, code):
    async with copilot() as (_, http):
        body = {"model": "sim-embedding", "input": "a", **more}
        answer = await http.post(EMBEDDINGS, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


# Policies and sessions.


async def enable(http, model, state="enabled", **more):
    return await http.post(f"/models/{model}/policy", json={"state": state}, **more)


async def state_of(http, model):
    listed = (await http.get("/models")).json()["data"]
    return next(each["policy"]["state"] for each in listed if each.get("id") == model)


async def test_a_model_works_once_its_terms_are_accepted_for_that_person_only():
    async with copilot() as (running, http):
        assert (await ask(http, "sim-premium")).json()["error"]["code"] == "model_not_supported"
        accepted = await enable(http, "sim-premium")
        assert (accepted.status_code, accepted.json()["state"]) == (200, "enabled")
        assert (await ask(http, "sim-premium")).status_code == 200
        assert await state_of(http, "sim-premium") == "enabled"
        http.headers.update(signed_in(running))  # another token of the same person
        assert (await ask(http, "sim-premium")).status_code == 200
        other, _ = running.world.issue_copilot_token(person=running.world.person("hubot"))
        http.headers["Authorization"] = f"Bearer {other}"
        assert (await ask(http, "sim-premium")).status_code == 400
        assert await state_of(http, "sim-premium") == "unconfigured"


async def test_an_organizations_word_stands():
    async with copilot() as (_, http):
        answer = await enable(http, "sim-disabled")
        assert (answer.status_code, "organization" in answer.text) == (403, True)
        assert await state_of(http, "sim-disabled") == "disabled"
        assert (await ask(http, "sim-disabled")).status_code == 400


async def test_policies_are_asked_for_properly():
    async with copilot() as (_, http):
        assert (await enable(http, "sim-chat")).json() == {"state": "enabled", "terms": ""}
        assert (await enable(http, "gpt-x")).status_code == 404
        assert (await enable(http, "sim-premium", "off")).status_code == 400
        refused = await enable(http, "sim-premium", headers={"Authorization": "Bearer x"})
        assert (refused.status_code, refused.text) == (401, "unauthorized: token expired\n")
        assert await state_of(http, "sim-premium") == "unconfigured"


async def test_a_session_names_models_and_ends():
    async with copilot(session_lifetime=600) as (running, http):
        body = {"auto_mode": {"model_hints": ["auto"]}}
        session = (await http.post("/models/session", json=body)).json()
        assert session["selected_model"] == "sim-chat"
        assert "sim-premium" not in session["available_models"]
        assert session["expires_at"] == pytest.approx(running.world.wall() + 600, abs=5)
        assert session["discounted_costs"].keys() == set(session["available_models"])
        again = (await http.post("/models/session", json=body)).json()
        assert again["session_token"] != session["session_token"]
        assert (await http.post("/models/session", json={})).status_code == 400


# Whom it takes.


async def bearing(running, http, kind="gho_", **more):
    http.headers["Authorization"] = f"Bearer {running.world.mint(kind, **more)}"
    del http.headers["Editor-Version"]  # direct clients send none
    answer = await ask(http)
    http.headers.update(EDITOR)
    return answer


@pytest.mark.parametrize(
    ("kind", "client", "status"),
    [
        ("gho_", CLIENT, 200),
        ("github_pat_", "", 200),
        ("ghs_", "", 200),
        ("ghp_", "", 401),
        ("ghu_", "Iv1.b507a08c87ecfe98", 401),
        ("gho_", "01ab8ac9400c4e429b23", 401),
    ],
)
async def test_github_tokens_are_bearers_if_kind_and_app_may(kind, client, status):
    async with copilot() as (running, http):
        answer = await bearing(running, http, kind, client_id=client)
        assert answer.status_code == status


async def test_direct_for_all_takes_editors_tokens_too():
    async with copilot(direct_for_all=True) as (running, http):
        answer = await bearing(running, http, "ghu_", client_id="Iv1.b507a08c87ecfe98")
        assert answer.status_code == 200


async def test_a_personal_token_without_the_permission_is_told_so():
    async with copilot(pat_has_permission=False) as (running, http):
        for answer in (await bearing(running, http, "github_pat_"), await http.get("/models")):
            assert answer.status_code == 401
            assert answer.text == (
                "unauthorized: Personal Access Token does not have Copilot Requests permission\n"
            )


# Manners.


@pytest.fixture
async def timed():
    """A simulator whose time passes only when a test says so: (simulator, client, clock)."""
    clock = FakeClock()
    async with (
        Simulator(clock=clock) as running,
        httpx.AsyncClient(
            base_url=running.url, headers=signed_in(running), trust_env=False, verify=False
        ) as http,
    ):
        yield running, http, clock


async def test_who_asks_before_retry_after_is_on_record(timed):
    running, http, clock = timed
    await control(http, "faults", named=["429_rate_limited"])
    assert (await ask(http)).headers["retry-after"] == "60"
    await clock.advance(59)
    await ask(http, "sim-claude")
    await clock.advance(1)
    await ask(http)
    assert [each.early for each in await asked(running)] == [False, True, False]


async def test_what_was_under_way_is_not_early(timed):
    running, http, clock = timed
    running.world.settings.early_grace = 0.5
    await control(http, "faults", named=["429_rate_limited", "429_rate_limited"])
    for passing in (0, 0.5, 0.1):
        await clock.advance(passing)
        await ask(http)
    assert [each.early for each in await asked(running)] == [False, False, True]


OVERLOADED = {"error": {"code": "model_overloaded:premium", "message": "x"}}


@pytest.mark.parametrize(
    ("status", "body"), [(429, OVERLOADED), (429, OVERLOADED["error"]), (503, "x")]
)
async def test_a_limit_of_a_model_binds_that_model_only(timed, status, body):
    running, http, clock = timed
    fault = {"status": status, "headers": {"Retry-After": "60"}, "body": body}
    await control(http, "faults", path=CHAT, responses=[fault])
    await ask(http)
    await clock.advance(1)
    await ask(http, "sim-claude")
    await ask(http, "sim-chat")
    records = await asked(running)
    assert [each.early for each in records] == [False, False, True]
    assert [each.model for each in records] == ["sim-chat", "sim-claude", "sim-chat"]


async def test_a_person_is_the_same_with_every_token(timed):
    running, http, clock = timed
    await control(http, "faults", named=["429_rate_limited"])
    await ask(http)
    await clock.advance(1)
    await ask(http, headers=signed_in(running))
    await bearing(running, http)
    other, _ = running.world.issue_copilot_token(person=running.world.person("hubot"))
    await ask(http, headers={"Authorization": f"Bearer {other}"})
    assert [each.early for each in await asked(running)] == [False, True, True, False]


async def test_a_date_and_a_longer_time_are_kept_to(timed):
    running, http, clock = timed
    date = formatdate(clock.wall() + 500, usegmt=True)
    for value in (date, "5"):
        fault = {"status": 429, "headers": {"retry-after": value}}
        await control(http, "faults", path=CHAT, responses=[fault])
        await ask(http)
        await clock.advance(1)
    await clock.advance(497)
    await ask(http)
    await clock.advance(1)
    await ask(http)
    assert [each.early for each in await asked(running)] == [False, True, True, False]


async def test_a_spent_budget_is_no_order_to_wait(timed):
    running, http, _ = timed
    await control(http, "faults", named=["402_seconds"])
    await ask(http)
    await ask(http)
    assert [each.early for each in await asked(running)] == [False, False]


async def test_a_rate_is_limited_with_the_true_rest(timed):
    running, http, clock = timed
    running.world.settings.requests_per_minute = 2
    await ask(http)
    await clock.advance(20)
    assert (await ask(http)).status_code == 200
    limited = await ask(http)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "40")
    assert limited.json()["error"]["code"] == "rate_limited"
    other, _ = running.world.issue_copilot_token(person=running.world.person("hubot"))
    theirs = await ask(http, headers={"Authorization": f"Bearer {other}"})
    assert theirs.status_code == 200
    await clock.advance(39)
    assert (await ask(http)).headers["retry-after"] == "1"
    await clock.advance(1)
    assert (await ask(http)).status_code == 200
    assert [each.early for each in await asked(running)] == [False] * 4 + [True, False]


async def test_too_many_at_a_time_are_refused():
    async with copilot(max_concurrent=2, chat_head_delay=SECONDS) as (running, http):
        tasks = [asyncio.create_task(ask(http)) for _ in range(2)]
        await until(lambda: sum(running.world.copilot.in_flight.values()) == 2)
        running.world.settings.chat_head_delay = 0
        third = await ask(http)
        assert (third.status_code, third.headers["retry-after"]) == (429, "1")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not sum(running.world.copilot.in_flight.values()))
        assert (await ask(http)).status_code == 200


@pytest.mark.parametrize("name", ["max_concurrent", "requests_per_minute"])
async def test_a_limit_is_at_least_one(name):
    async with copilot() as (_, http):
        answer = await http.post("/_control/settings", json={name: 0})
        assert answer.status_code == 400


# What is kept for the documentation.


async def test_nothing_is_kept_unless_asked_for():
    async with copilot() as (running, http):
        await ask(http)
        assert all(each.kept is None for each in running.world.requests)


async def test_whole_exchanges_are_kept_without_a_secret():
    async with copilot(keep_bodies=True, auto_approve=True) as (running, http):
        http.headers["Accept"] = "application/json"
        github = await sign_in(http, "01ab8ac9400c4e429b23", scope="read:user")
        exchange = await http.get("/copilot_internal/v2/token", headers=github)
        bearer = {"Authorization": f"Bearer {exchange.json()['token']}", **EDITOR}
        await ask(http, text="PROMPT", stream=True, headers=bearer)
        body = {"auto_mode": {"model_hints": ["auto"]}}
        session = await http.post("/models/session", json=body, headers=bearer)
        text = (await http.get("/_control/requests")).text
        secrets = [
            github["Authorization"].split()[1],
            exchange.json()["token"],
            session.json()["session_token"],
            *(each.device_code for each in running.world.grants.values()),
        ]
        for secret in secrets:
            assert secret not in text
        kept = {each.path: each.kept for each in running.world.requests}
        asked = kept[CHAT]
        assert asked.target == CHAT
        assert ("Authorization", "Bearer <Copilot token>") in asked.request_headers
        assert "PROMPT" in asked.request_body
        assert "[DONE]" in asked.response_body
        assert ("content-type", "text/event-stream") in asked.response_headers
        told = kept["/copilot_internal/v2/token"]
        assert ("Authorization", "token <GitHub token>") in told.request_headers
        assert json.loads(told.response_body)["token"] == "<Copilot token>"
        poll = kept["/login/oauth/access_token"]
        assert "<device code>" in poll.request_body
        assert json.loads(poll.response_body)["access_token"] == "<GitHub token>"
        assert json.loads(kept["/login/device/code"].response_body)["device_code"] == (
            "<device code>"
        )


async def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("brokerd.simulator.memory.MAX_KEPT", 2)
    async with copilot(keep_bodies=True) as (running, http):
        await http.post(CHAT, json=question("sim-large", "x" * 100_000))
        await ask(http)
        await ask(http)
        first, second, third = (each.kept for each in running.world.requests)
        assert len(first.request_body) == 16 * 1024
        assert second is not None
        assert third is None


# Fill-in-the-middle.

ENGINE = "/v1/engines/sim-completion/completions"


async def test_the_middle_is_filled_in_a_stream():
    async with copilot() as (running, http):
        body = {"prompt": "a = 1\nb =", "suffix": "\nc", "stream": True, "n": 2}
        answer = await http.post(ENGINE, json=body)
        assert answer.headers["content-type"] == "text/event-stream"
        *chunks, done = events(answer.text)
        assert done == "[DONE]"
        for index in range(2):
            told = [each["choices"][0] for each in chunks if each["choices"][0]["index"] == index]
            text = "".join(each["text"] for each in told)
            assert text == "# sim-completion, simulated, after: b ="
            assert [each["finish_reason"] for each in told][-2:] == [None, "stop"]
        usage = chunks[-1]["usage"]
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
        token = running.world.requests[-1]
        assert (token.account, token.body_complete) != ("", None)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (ENGINE, {"prompt": "x"}, 400, "invalid_request_body"),
        (ENGINE, {"prompt": "x", "stream": False}, 400, "invalid_request_body"),
        (ENGINE, {"stream": True}, 400, "invalid_request_body"),
        ("/v1/engines/sim-chat/completions", {"prompt": "x", "stream": True}, 400,
         "model_not_supported"),
        ("/v1/engines/a%2Fb/completions", {"prompt": "x", "stream": True}, 400,
         "model_not_supported"),
    ],
)  # fmt: skip
async def test_what_the_host_for_completions_refuses(path, body, status, code):
    async with copilot() as (_, http):
        answer = await http.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
