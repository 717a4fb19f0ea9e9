"""The simulator gives the answers that the real services are known to give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import fields
from urllib.parse import parse_qs

import httpx
import pytest
from aiohttp import web

from brokerd.simulator import Simulator, SimulatorThread, github_refusals, minting
from brokerd.simulator.control import ControlRoutes
from brokerd.simulator.minting import Person
from brokerd.simulator.settings import Settings
from brokerd.simulator.world import World
from fakes.simulated_github import (
    CLIENT,
    EXCHANGE,
    control,
    poll,
    sign_in,
    simulator,
    start,
)


# The device authorization grant.


async def test_person_approves_on_the_page():
    async with simulator(device_interval=0) as (_, http):
        code = await start(http)
        assert (await poll(http, code))["error"] == "authorization_pending"
        page = await http.get(code["verification_uri"], params={"user_code": code["user_code"]})
        assert page.headers["content-type"].startswith("text/html")
        assert code["user_code"] in page.text
        form = {"user_code": code["user_code"].lower(), "login": "mona", "decision": "approve"}
        assert "All set" in (await http.post("/login/device", data=form)).text
        granted = await poll(http, code)
        assert granted["token_type"] == "bearer"
        headers = {"Authorization": f"Bearer {granted['access_token']}"}
        assert (await http.get("/user", headers=headers)).json()["login"] == "mona"
        assert (await poll(http, code))["error"] == "incorrect_device_code"


async def test_person_cancels_on_the_page():
    async with simulator(device_interval=0) as (_, http):
        code = await start(http)
        form = {"user_code": code["user_code"], "decision": "deny"}
        assert "Cancelled" in (await http.post("/login/device", data=form)).text
        assert (await poll(http, code))["error"] == "access_denied"


async def test_page_refuses_unknown_codes_and_escapes_what_it_shows():
    async with simulator() as (_, http):
        form = {"user_code": "AAAA-AAAA", "login": "<script>", "decision": "approve"}
        answer = await http.post("/login/device", data=form)
        assert answer.status_code == 422
        assert "<script>" not in answer.text
        page = await http.get("/login/device", params={"user_code": '"><script>'})
        assert "<script>" not in page.text


async def test_polling_too_fast_is_slowed_down_each_time():
    async with simulator(device_interval=5) as (_, http):
        code = await start(http)
        assert (await poll(http, code))["error"] == "authorization_pending"
        for interval in (10, 15):
            answer = await poll(http, code)
            assert (answer["error"], answer["interval"]) == ("slow_down", interval)


async def test_code_expires():
    async with simulator(device_expires_in=0) as (_, http):
        assert (await poll(http, await start(http)))["error"] == "expired_token"


async def test_wrong_questions_get_githubs_answers():
    async with simulator(auto_approve=True, known_clients=[CLIENT]) as (_, http):
        code = await start(http)
        assert (await poll(http, {"device_code": "x"}))["error"] == "incorrect_device_code"
        assert (await poll(http, code, "other"))["error"] == "incorrect_client_credentials"
        wrong = await poll(http, code, grant_type="password")
        assert wrong["error"] == "unsupported_grant_type"
        unknown = await http.post("/login/device/code", data={"client_id": "other"})
        assert (unknown.status_code, unknown.json()) == (404, {"error": "Not Found"})
        await control(http, "settings", device_flow_disabled=True)
        disabled = await http.post("/login/device/code", data={"client_id": CLIENT})
        assert (disabled.status_code, disabled.json()["error"]) == (400, "device_flow_disabled")


async def test_forms_json_and_queries_are_read_and_forms_are_the_default_answer():
    async with simulator() as (_, http):
        plain = {"Accept": "*/*"}
        for how in ({"data": {"client_id": CLIENT}}, {"json": {"client_id": CLIENT}},
                    {"params": {"client_id": CLIENT}}):  # fmt: skip
            answer = await http.post("/login/device/code", headers=plain, **how)
            assert "user_code" in parse_qs(answer.text)


async def test_refresh_token_works_once():
    async with simulator(auto_approve=True, github_token_expires_in=28800) as (_, http):
        granted = await poll(http, await start(http))
        assert granted["expires_in"] == 28800
        form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
        first = (await http.post("/login/oauth/access_token", data=form)).json()
        again = (await http.post("/login/oauth/access_token", data=form)).json()
        assert first["access_token"] != granted["access_token"]
        assert again["error"] == "bad_refresh_token"


async def test_a_github_app_has_no_scopes_and_tokens_of_its_own_kind():
    async with simulator(auto_approve=True) as (_, http):
        app = await poll(http, await start(http, scope="read:user repo"))
        assert (app["access_token"][:4], app["scope"]) == ("ghu_", "")
        oauth = await poll(http, await start(http, "0123", scope="read:user repo"), "0123")
        assert (oauth["access_token"][:4], oauth["scope"]) == ("gho_", "read:user,repo")


# The API.


async def test_exchange_is_a_get_and_takes_both_schemes():
    async with simulator(auto_approve=True) as (running, http):
        headers = await sign_in(http)
        assert (await http.post(EXCHANGE, headers=headers)).status_code == 404
        bearer = {"Authorization": headers["Authorization"].replace("token", "Bearer")}
        for each in (headers, bearer):
            answer = await http.get(EXCHANGE, headers=each)
            assert answer.status_code == 200
            assert answer.json()["endpoints"]["api"] == running.url
            assert answer.headers["x-github-request-id"]


@pytest.mark.parametrize("path", ["/user", EXCHANGE])
@pytest.mark.parametrize("value", ["token", "token x", "Basic x", "token ghu_e30", "token é"])
async def test_bad_credentials(path, value):
    async with simulator() as (_, http):
        answer = await http.get(path, headers={"Authorization": value.encode()})
        assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")
        without = await http.get(path)
        assert (without.status_code, without.json()["message"]) == (401, "Requires authentication")


async def test_refresh_tokens_are_no_access_tokens():
    async with simulator() as (running, http):
        _, refresh = running.world.issue_github_token(Person(1, "a"), CLIENT)
        answer = await http.get("/user", headers={"Authorization": f"token {refresh}"})
        assert answer.status_code == 401


async def test_a_client_without_a_name_is_refused():
    async with simulator(auto_approve=True) as (_, http):
        headers = await sign_in(http) | {"User-Agent": ""}
        assert (await http.get("/user", headers=headers)).status_code == 403


async def test_copilot_tokens_expire():
    async with simulator(auto_approve=True) as (running, http):
        bearer = (await http.get(EXCHANGE, headers=await sign_in(http))).json()["token"]
        headers = {"Authorization": f"Bearer {bearer}"}
        assert (await http.get("/models", headers=headers)).json()["object"] == "list"
        running.world.settings.clock_offset = 1801
        answer = await http.get("/models", headers=headers)
        assert (answer.status_code, answer.text) == (401, "unauthorized: token expired\n")
        forged = {"Authorization": f"Bearer {bearer}0"}
        running.world.settings.clock_offset = 0
        assert (await http.get("/models", headers=forged)).status_code == 401


async def test_a_login_survives_a_restart_and_not_a_revocation():
    async with simulator(auto_approve=True) as (_, http):
        headers = await sign_in(http)
    async with simulator() as (_, http):
        assert (await http.get("/user", headers=headers)).status_code == 200
        await control(http, "revoke")
        assert (await http.get("/user", headers=headers)).status_code == 401


@pytest.mark.parametrize("value", ["", "x", "ghu_", "ghu_" + "A" * 40, "é" * 40])
def test_only_minted_tokens_are_read(value):
    assert minting.read_github_token(value) is None
    assert minting.read_copilot_token(value) is None


# Control.


async def test_faults_come_in_order_and_then_the_truth():
    async with simulator(auto_approve=True) as (_, http):
        headers = await sign_in(http)
        responses = [
            {"status": 502, "body": "<html>", "headers": {"Content-Type": "text/html"}},
            {"status": 200, "body": {"id": 5}, "headers": {"X-GitHub-Request-Id": None}},
            {"delay": 0.01},
        ]
        queued = await control(http, "faults", path="/user", responses=responses)
        assert queued == {"queued": 3}
        first, second, third = [await http.get("/user", headers=headers) for _ in range(3)]
        assert (first.status_code, first.headers["content-type"]) == (502, "text/html")
        assert second.json() == {"id": 5}
        assert "x-github-request-id" not in second.headers
        assert third.json()["login"] == "octocat"


async def test_reset_drops_the_connection():
    async with simulator() as (_, http):
        await control(http, "faults", path="/user", responses=[{"reset": True}])
        with pytest.raises(httpx.TransportError):
            await http.get("/user")


async def test_requests_are_shown_without_secrets():
    async with simulator(auto_approve=True) as (_, http):
        headers = await sign_in(http)
        await http.get("/user", headers=headers | {"X-Secret": "hidden"})
        text = (await http.get("/_control/requests")).text
        shown = (await http.get("/_control/requests", params={"path": "/user"})).json()
        assert headers["Authorization"].split()[1] not in text
        assert "hidden" not in text
        [request] = shown["requests"]
        assert (request["method"], request["path"], request["status"]) == ("GET", "/user", 200)
        assert request["headers"]["authorization"].startswith("token sha256:")
        await control(http, "reset")
        assert (await http.get("/_control/requests")).json() == {"requests": []}


async def test_approve_and_deny_without_a_page():
    async with simulator(device_interval=0) as (_, http):
        code = await start(http)
        await control(http, "approve", user_code=code["user_code"], login="hubot")
        headers = {"Authorization": f"token {(await poll(http, code))['access_token']}"}
        assert (await http.get("/user", headers=headers)).json()["login"] == "hubot"
        code = await start(http)
        await control(http, "deny")
        assert (await poll(http, code))["error"] == "access_denied"
        assert (await http.post("/_control/approve", json={})).status_code == 404


@pytest.mark.parametrize(
    ("verb", "body"),
    [("settings", {"no_such": 1}), ("faults", {}), ("faults", {"path": "/", "responses": [{"x": 1}]}),
     ("settings", [])],
)  # fmt: skip
async def test_wrong_control_is_refused(verb, body):
    async with simulator() as (_, http):
        assert (await http.post(f"/_control/{verb}", json=body)).status_code == 400


# Where it runs.


async def test_restart_takes_the_same_port():
    running = Simulator()
    await running.start()
    url = running.url
    await running.close()
    await running.start()
    assert running.url == url
    await running.close()


async def test_end_does_not_wait_for_slow_answers():
    running = Simulator()
    async with running, httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        await control(http, "faults", path="/user", responses=[{"delay": 60}])
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/user", timeout=0.2)


def test_thread_serves_and_ends():
    with SimulatorThread(auto_approve=True) as running:
        assert running.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{running.url}/login/device", trust_env=False).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url, trust_env=False)
    running.stop()


def test_thread_says_that_its_port_is_taken():
    with SimulatorThread() as running:
        port = int(running.url.rpartition(":")[2])
        second = SimulatorThread(port=port)
        with pytest.raises(OSError):
            second.start()
        second.stop()


def test_command_prints_its_url_and_ends_on_a_signal():
    command = [sys.executable, "-m", "brokerd.simulator", "--auto-approve", "--print-url"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            settings = httpx.get(f"{url}/_control/settings", trust_env=False).json()
            assert settings["auto_approve"] is True
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""


def test_command_tells_all_that_can_be_asked_of_it():
    command = [sys.executable, "-m", "brokerd.simulator", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = [f"{each.name}=" for each in fields(Settings)]
    routes = web.Application()
    ControlRoutes(World(Settings())).add_to(routes)
    verbs = [each.resource.canonical for each in routes.router.routes()]
    assert len(verbs) > 10
    for name in [*github_refusals.NAMES, *settings, *verbs]:
        assert name in told


def test_command_takes_any_setting():
    command = [sys.executable, "-m", "brokerd.simulator", "--print-url"]
    options = ["--set", "user_form=free", "--set", "lockout_after=7", "--set", 'plan="business"']
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            settings = httpx.get(f"{url}/_control/settings", trust_env=False).json()
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait(10) == 0
    chosen = {"user_form": "free", "lockout_after": 7, "plan": "business"}
    assert settings.items() >= chosen.items()
    for wrong in ("plan=other", "no_such=1", "plan"):
        done = subprocess.run(
            [*command, "--set", wrong], capture_output=True, text=True, check=False
        )
        assert (done.returncode, wrong.partition("=")[0] in done.stderr) == (2, True)
