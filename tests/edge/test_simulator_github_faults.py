"""The simulated GitHub refuses in all the ways that the real one, and what stands before it, can."""

from __future__ import annotations

import json

import pytest

from brokerd.simulator import github_refusals, refusals
from brokerd.simulator.faults import Fault
from brokerd.simulator.naming import named
from brokerd.simulator.notifications import NOTIFICATIONS
from fakes.clock import FakeClock
from fakes.simulated_chat import CHAT, ask, copilot
from fakes.simulated_github import EXCHANGE, POLL, control, signed, simulator


NO_ACCESS = {f"403_{each}" for each in NOTIFICATIONS}
# Name: (status, text of the body, headers).
EXPECTED = {
    "403_rate_limit": (
        403,
        "API rate limit exceeded",
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000060"},
    ),
    "403_secondary": (403, "secondary rate limit", {"retry-after": "60"}),
    "429": (429, "secondary rate limit", {"retry-after": "60"}),
    "429_rate_limit": (429, "API rate limit exceeded", {"x-ratelimit-remaining": "0"}),
    "429_no_header": (429, "secondary rate limit", {"retry-after": None}),
    "403_sso": (
        403,
        "SAML",
        {
            "x-github-sso": "required; url=https://github.com/orgs/octo-org/sso"
            "?authorization_request=SIMULATED"
        },
    ),
    "403_sso_foreign_url": (
        403,
        "SAML",
        {
            "x-github-sso": "required; url=https://github.com.example.net/orgs/octo-org/sso"
            "?authorization_request=SIMULATED"
        },
    ),
    "403_plain": (403, "Forbidden", {}),
    "404_saml": (404, "SAML", {"x-github-sso": None}),
    "403_lockout": (403, "Maximum number of login attempts exceeded", {}),
    "401": (401, "Bad credentials", {}),
    "404": (404, "Not Found", {}),
    "466": (466, "version", {}),
    "500": (500, "Server Error", {}),
    "503": (503, "Unavailable", {}),
    "404_proxy": (404, "<html>", {"x-github-request-id": None, "content-type": "text/html"}),
    "401_portal": (401, "<html>", {"x-github-request-id": None, "content-type": "text/html"}),
    "403_proxy_html": (403, "<html>", {"x-github-request-id": None, "content-type": "text/html"}),
    "502_html": (502, "<html>", {"content-type": "text/html"}),
    "200_html": (200, "<html>", {"content-type": "text/html"}),
    "200_empty": (200, "", {"content-length": "0"}),
    "200_list": (200, "[]", {}),
    "400_device_flow_disabled": (400, '"device_flow_disabled"', {}),
    "400_unauthorized_client": (400, '"unauthorized_client"', {}),
    "404_client": (404, '{"error": "Not Found"}', {}),
}
DEVICE_ERRORS = {
    "authorization_pending", "expired_token", "token_expired", "access_denied", "slow_down",
    "incorrect_device_code", "incorrect_client_credentials", "unsupported_grant_type",
    "bad_refresh_token", "device_flow_disabled", "slow_down_no_interval", "an_error_of_tomorrow",
}  # fmt: skip


def test_each_named_fault_has_a_test():
    assert set(github_refusals.NAMES) == EXPECTED.keys() | NO_ACCESS | DEVICE_ERRORS
    assert len(NO_ACCESS) == 17


async def test_named_refusals_have_the_known_statuses_texts_and_headers():
    async with simulator(clock=FakeClock()) as (_, http):
        await control(http, "faults", path="/user", named=list(EXPECTED))
        for name, (status, text, headers) in EXPECTED.items():
            answer = await http.get("/user")
            assert (answer.status_code, text in answer.text) == (status, True), name
            assert {each: answer.headers.get(each) for each in headers} == headers, name
            if "x-github-request-id" not in headers:
                assert answer.headers["x-github-request-id"], name


async def test_each_notification_has_an_envelope_by_name_and_by_setting():
    async with simulator() as (running, http):
        for each in NOTIFICATIONS:
            await control(http, "faults", path=EXCHANGE, named=[f"403_{each}"])
            await control(http, "settings", no_access=each)
            headers = signed(running.world.mint())
            for answer in (await http.get(EXCHANGE), await http.get(EXCHANGE, headers=headers)):
                assert answer.status_code == 403
                details = answer.json()["error_details"]
                assert details.keys() == {"message", "notification_id", "title", "url"}
                assert details["notification_id"] == each
                assert details["message"].endswith("You are currently logged in as octocat.")


async def test_device_errors_come_with_status_200():
    async with simulator() as (_, http):
        for name in DEVICE_ERRORS:
            await control(http, "faults", path=POLL, named=[name])
            answer = await http.post(POLL)
            assert answer.status_code == 200
            assert answer.json()["error"] == name.removesuffix("_no_interval")
            assert answer.json().get("interval") == (10 if name == "slow_down" else None)


async def test_a_name_means_what_its_path_makes_of_it():
    shared = set(github_refusals.NAMES) & set(refusals.NAMES)
    assert {"466", "502_html"} <= shared
    for each in shared:
        assert named(each, 0, "/user") == github_refusals.table(0)[each]
        assert named(each, 0, CHAT) == refusals.named(each, 0)
    assert named("403_sso", 0, CHAT).status == 403
    async with simulator() as (_, http):
        for wrong in ({"named": ["403_sso"]}, {"named": ["no_such"], "path": "/user"}):
            assert (await http.post("/_control/faults", json=wrong)).status_code == 400
        listed = (await http.get("/_control/names")).json()
        assert tuple(listed["github"]) == github_refusals.NAMES


# True answers with one thing wrong.


async def test_a_true_answer_is_cut_at_every_tenth_byte():
    async with simulator() as (running, http):
        headers = signed(running.world.mint())
        whole = (await http.get(EXCHANGE, headers=headers)).content
        sizes = range(0, len(whole), 10)
        for size in sizes:
            await control(http, "faults", path=EXCHANGE, responses=[{"truncate": size}])
        for size in sizes:
            answer = await http.get(EXCHANGE, headers=headers)
            assert (answer.status_code, len(answer.content)) == (200, size)
            assert answer.headers["content-length"] == str(size)
            with pytest.raises(ValueError):
                answer.json()
        assert len((await http.get(EXCHANGE, headers=headers)).content) == len(whole)


async def test_a_true_answer_has_another_body_or_one_other_field():
    async with simulator() as (running, http):
        headers = signed(running.world.mint())
        whole = (await http.get(EXCHANGE, headers=headers)).json()
        running.world.queue_faults(
            EXCHANGE,
            [
                Fault(replace_body="<html>"),
                Fault(replace_body=[1]),
                Fault(json_patch={"expires_at": "soon", "endpoints.api": 7}),
                Fault(json_patch={"no.such": 1}),
            ],
        )
        html, other, patched, wrong = [await http.get(EXCHANGE, headers=headers) for _ in range(4)]
        assert (html.status_code, html.text) == (200, "<html>")
        assert other.json() == [1]
        told = patched.json()
        assert (told["expires_at"], told["endpoints"]["api"]) == ("soon", 7)
        assert told["endpoints"]["proxy"] == whole["endpoints"]["proxy"]
        assert told.keys() == whole.keys()
        assert wrong.status_code == 500


async def test_chat_answers_are_changed_too():
    async with copilot() as (running, http):
        running.world.queue_faults(CHAT, [Fault(json_patch={"model": 7}), Fault(truncate=100)])
        assert (await ask(http)).json()["model"] == 7
        streamed = await ask(http, stream=True)
        assert len(streamed.content) == 100
        running.world.queue_faults(CHAT, [Fault(status=500, body={"a": 1}, truncate=2)])
        assert (await ask(http)).text == json.dumps({"a": 1})[:2]
