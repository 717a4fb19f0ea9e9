"""Under GitHub's real names the simulator is each host by itself, and tells the real addresses."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import pytest

from brokerd.core.tokens import GitHubToken
from brokerd.simulator.places import NOWHERE, Place, place_of
from fakes.real_names import RealNames, RealNamesThread
from fakes.simulated import simulated_by_name
from fakes.simulated_chat import EDITOR, question
from fakes.simulated_github import EXCHANGE, control, poll, signed, simulator, start


TENANT = "octo.ghe.com"
CHAT = "/chat/completions"


def at(host, token=None, scheme="token"):
    return {"Host": host} | ({} if token is None else signed(token, scheme))


async def ask_models(http, host, token):
    return await http.get("/models", headers=at(host, token, "Bearer") | EDITOR)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("github.com", Place("github.com", "github.com", "login")),
        ("API.github.com:443", Place("api.github.com", "github.com", "api")),
        ("api.githubcopilot.com", Place("api.githubcopilot.com", "github.com", "copilot")),
        (
            "api.business.githubcopilot.com",
            Place("api.business.githubcopilot.com", "github.com", "copilot"),
        ),
        (
            "proxy.business.githubcopilot.com",
            Place("proxy.business.githubcopilot.com", "github.com", "proxy"),
        ),
        (
            "copilot-proxy.githubusercontent.com",
            Place("copilot-proxy.githubusercontent.com", "github.com", "proxy"),
        ),
        (TENANT, Place(TENANT, TENANT, "login")),
        (f"api.{TENANT}", Place(f"api.{TENANT}", TENANT, "api")),
        (f"copilot-api.{TENANT}", Place(f"copilot-api.{TENANT}", TENANT, "copilot")),
        (f"copilot-proxy.{TENANT}", Place(f"copilot-proxy.{TENANT}", TENANT, "proxy")),
        ("127.0.0.1:4141", NOWHERE),
        ("", NOWHERE),
        ("ghe.com", NOWHERE),
        ("github.com:8443", NOWHERE),
        ("github.com.example.net", NOWHERE),
        (f"other.api.{TENANT}", NOWHERE),
    ],
)
def test_places(name, place):
    assert place_of(name) == place


# Addresses that are told.


@pytest.mark.parametrize(
    ("login", "api", "plan", "base", "proxy"),
    [
        (
            "github.com",
            "api.github.com",
            "individual",
            "https://api.individual.githubcopilot.com",
            "https://proxy.individual.githubcopilot.com",
        ),
        (
            "github.com",
            "api.github.com",
            "business",
            "https://api.business.githubcopilot.com",
            "https://proxy.business.githubcopilot.com",
        ),
        (
            TENANT,
            f"api.{TENANT}",
            "enterprise",
            f"https://copilot-api.{TENANT}",
            f"https://copilot-proxy.{TENANT}",
        ),
    ],
)
async def test_a_whole_sign_in_stays_at_one_site(login, api, plan, base, proxy):
    async with simulator(auto_approve=True, plan=plan) as (_, http):
        code = await start(http, headers=at(login))
        assert code["verification_uri"] == f"https://{login}/login/device"
        assert (await poll(http, code))["error"] == "incorrect_device_code"
        granted = await poll(http, code, headers=at(login))
        headers = at(api, granted["access_token"])
        answer = (await http.get(EXCHANGE, headers=headers)).json()
        seat = (await http.get("/copilot_internal/user", headers=headers)).json()
        for told in (answer, seat):
            assert (told["endpoints"]["api"], told["endpoints"]["proxy"]) == (base, proxy)
        assert f"proxy-ep={proxy.removeprefix('https://')};" in answer["token"]
        host = base.removeprefix("https://")
        for token in (answer["token"], granted["access_token"]):
            assert (await ask_models(http, host, token)).status_code == 200
            chat = await http.post(
                CHAT, json=question(), headers=at(host, token, "Bearer") | EDITOR
            )
            assert chat.status_code == 200


async def test_another_base_is_told_under_real_names_too():
    settings = {"api_base": "https://api.elsewhere.example"}
    async with simulator("api.github.com", **settings) as (running, http):
        told = (await http.get(EXCHANGE, headers=signed(running.world.mint()))).json()
        assert told["endpoints"]["api"] == settings["api_base"]
        assert told["endpoints"]["proxy"] == "https://proxy.individual.githubcopilot.com"


# Who is served where.


async def test_each_host_serves_its_own_paths_only():
    async with simulator() as (running, http):
        token = running.world.mint()
        served = {
            "github.com": ("GET", "/login/device"),
            "api.github.com": ("GET", "/user"),
            "api.individual.githubcopilot.com": ("POST", CHAT),
        }
        for host in [*served, "proxy.individual.githubcopilot.com"]:
            for home, (method, path) in served.items():
                answer = await http.request(
                    method, path, headers=at(host, token, "Bearer") | EDITOR, json=question()
                )
                assert (answer.status_code == 200) == (host == home), (host, path)
                assert answer.status_code in (200, 404)


async def test_the_host_of_another_plan_is_misdirected():
    async with simulator(plan="business") as (running, http):
        exchanged, _ = running.world.issue_copilot_token("github.com")
        direct = running.world.mint("gho_")
        expected = {
            "api.business.githubcopilot.com": 200,
            "api.githubcopilot.com": 200,
            "api.individual.githubcopilot.com": 421,
        }
        for token in (exchanged, direct):
            for host, status in expected.items():
                answer = await ask_models(http, host, token)
                assert answer.status_code == status
                assert (answer.text == "Misdirected Request\n") == (status == 421)
        await control(http, "settings", plan="individual")
        assert (await ask_models(http, "api.individual.githubcopilot.com", direct)).is_success
        answer = await ask_models(http, "api.individual.githubcopilot.com", exchanged)
        assert answer.status_code == 421, "a token knows the plan it was minted for"


@pytest.mark.parametrize(
    ("home", "away"), [("github.com", TENANT), (TENANT, "github.com"), (TENANT, "other.ghe.com")]
)
async def test_a_token_is_good_at_its_own_site_only(home, away):
    copilots = {
        "github.com": "api.githubcopilot.com",
        TENANT: f"copilot-api.{TENANT}",
        "other.ghe.com": "copilot-api.other.ghe.com",
    }
    async with simulator() as (running, http):
        token = (await control(http, "token", kind="gho_", host=home))["token"]
        exchanged, _ = running.world.issue_copilot_token(home)
        for site, status in ((home, 200), (away, 401)):
            asked = await http.get("/user", headers=at(f"api.{site}", token))
            assert asked.status_code == status
            for each in (token, exchanged):
                assert (await ask_models(http, copilots[site], each)).status_code == status


# The way there.


async def test_the_daemons_edge_goes_there_by_name(tmp_path):
    async with simulated_by_name(tmp_path, auto_approve=True, plan="business") as (it, names):
        value = it.simulator.world.mint("ghu_", client_id="Iv1.0", host="github.com")
        token = await it.github.exchange(GitHubToken(value))
        assert token.api_base == "https://api.business.githubcopilot.com"
        assert set(names.asked) == {"api.github.com:443"}
        [request] = it.simulator.world.requests
        assert request.headers["host"] == "api.github.com"


def trusting(names):
    return httpx.AsyncClient(
        proxy=names.url, verify=ssl.create_default_context(cafile=names.ca_file), trust_env=False
    )


async def test_tunnels_carry_streams_and_breaks(tmp_path):
    async with (
        simulator() as (running, plain),
        RealNames(running.url, tmp_path) as names,
        trusting(names) as http,
    ):
        url = f"https://api.githubcopilot.com{CHAT}"
        headers = signed(running.world.mint(), "Bearer") | EDITOR
        answer = await http.post(url, json=question(stream=True), headers=headers)
        assert answer.text.endswith("data: [DONE]\n\n")
        for fault in ("reset_in_body", "close_in_body", "close_before_head"):
            await control(plain, "faults", named=[fault])
            with pytest.raises(httpx.TransportError):
                await http.post(url, json=question(stream=True), headers=headers)


@pytest.mark.parametrize("host", ["example.net", "github.com.example.net", "api.octo.ghe.com."])
async def test_names_that_are_not_githubs_lead_nowhere(tmp_path, host):
    async with (
        simulator() as (running, _),
        RealNames(running.url, tmp_path) as names,
        trusting(names) as http,
    ):
        with pytest.raises(httpx.ProxyError, match="502"):
            await http.get(f"https://{host}/")
        assert names.asked == [f"{host}:443"]
        assert not running.world.requests


async def test_the_proxy_refuses_on_demand(tmp_path):
    async with (
        simulator() as (running, _),
        RealNames(running.url, tmp_path, refuse=407) as names,
        trusting(names) as http,
    ):
        with pytest.raises(httpx.ProxyError, match="407"):
            await http.get("https://github.com/login/device")
        names.refuse = None
        assert (await http.get("https://github.com/login/device")).status_code == 200


async def test_strangers_do_not_trust_it(tmp_path):
    async with (
        simulator() as (running, _),
        RealNames(running.url, tmp_path) as names,
        httpx.AsyncClient(proxy=names.url, trust_env=False) as http,
    ):
        with pytest.raises(httpx.ConnectError, match="certificate"):
            await http.get("https://github.com/login/device")


async def test_a_thread_does_the_same(tmp_path):
    async with simulator() as (running, _):
        with RealNamesThread(running.url, tmp_path) as names:
            async with trusting(names) as http, asyncio.timeout(10):
                answer = await http.get("https://github.com/login/device")
        assert answer.status_code == 200
        assert names.asked == ["github.com:443"]
