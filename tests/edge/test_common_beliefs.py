"""What write-ups say of Copilot's sign-in, and what is so: each belief tried over real HTTP.

Each test is named after the belief. It shows what a simulated GitHub makes of it, where it makes
anything of it, and that the whole broker does the right thing.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from pathlib import Path

import httpx
import pytest

import brokerd
from brokerd.core.quota import Quota, Report, Told, compose, tiers
from brokerd.core.settings import AccountSettings, IdentitySettings
from brokerd.errors import Failure
from brokerd.simulator.world import Fault
from brokerd.upstream import UpstreamSettings
from brokerd.upstream.presets import PRESETS
from fakes.real_names import RealNames
from fakes.whole import (
    DIRECT_APP,
    EXCHANGE,
    PATIENCE,
    POLL,
    VSCODE,
    Whole,
    outcome,
    simulated_world,
    whole_broker,
)


DEVICE_CODE = "/login/device/code"
SEAT = "/copilot_internal/user"
CHAT_PATH = "/chat/completions"
CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "count"}]}
PREMIUM = "x-quota-snapshot-premium_interactions"
PLUG_IN = "Iv1.b507a08c87ecfe98"


@contextlib.asynccontextmanager
async def by_hand(whole, host=None):
    """Ask the simulator as anybody might; `host`: under one of GitHub's real names."""
    headers = {"Accept": "application/json"} | ({} if host is None else {"Host": host})
    async with httpx.AsyncClient(
        base_url=whole.simulator.url, headers=headers, trust_env=False, verify=False
    ) as http:
        yield http


@contextlib.asynccontextmanager
async def under_real_names(folder, **settings):
    """A whole broker with the addresses that it is shipped with."""
    async with (
        simulated_world(**settings) as simulator,
        RealNames(simulator.url, folder) as names,
    ):
        way = UpstreamSettings(proxy=names.url, ca_file=names.ca_file)
        whole = Whole(folder, simulator, way)
        whole.login_kept = await whole.keep()
        async with whole.running():
            await whole.broker.lease(timeout=PATIENCE)
            yield whole


def signed(token, scheme="token"):
    return {"Authorization": f"{scheme} {token}"}


def fingerprint(secret):
    """As the simulator keeps it."""
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()[:8]}"


def hosts_of(whole, path):
    return [each.headers["host"] for each in whole.asked(path)]


async def chat(whole):
    async with whole.client() as client:
        return await client.complete(CHAT)


async def test_belief_the_exchange_is_a_post(tmp_path):
    """`POST /copilot_internal/v2/token`: wrong. It is GET, no body."""
    async with whole_broker(tmp_path) as whole, by_hand(whole) as http:
        (asked,) = whole.asked(EXCHANGE)
        assert (asked.method, asked.status) == ("GET", 200)
        token = whole.world.mint("gho_", client_id=VSCODE)
        assert (await http.post(EXCHANGE, headers=signed(token))).status_code == 404
        assert (await http.get(EXCHANGE, headers=signed(token))).status_code == 200


async def test_belief_the_exchange_is_a_get_is_right(tmp_path):
    """`GET`: right. VS Code passes no method and no body."""
    async with whole_broker(tmp_path, keep_bodies=True) as whole:
        (asked,) = whole.asked(EXCHANGE)
        assert asked.method == "GET"
        assert asked.kept.request_body == ""
        assert not {"content-length", "content-type", "transfer-encoding"} & asked.headers.keys()


@pytest.mark.parametrize("scheme", ["token", "Bearer"])
async def test_belief_only_one_scheme_is_accepted(tmp_path, scheme):
    """`Bearer` against `token`: both are accepted; the official client sends `token`."""
    async with simulated_world() as simulator:
        whole = Whole(tmp_path, simulator)
        await whole.keep(client_id=DIRECT_APP, is_direct=True)
        async with whole.running(), by_hand(whole) as http:
            await whole.broker.lease(timeout=PATIENCE)
            await whole.login("other")
            good = whole.world.mint("gho_", client_id=VSCODE)
            for path in (EXCHANGE, "/user", SEAT):
                first = whole.asked(path)[0].headers["authorization"]
                assert first.startswith("token sha256:"), path
                answer = await http.get(path, headers=signed(good, scheme))
                assert answer.status_code == 200, path
                wrong = await http.get(path, headers=signed(good, "Basic"))
                assert wrong.status_code == 401, path


async def test_belief_the_answer_has_a_user_and_expires_at_is_a_string(tmp_path):
    """Wrong: no `user`; `expires_at` is an integer, Unix seconds (a numeric string is borne)."""
    async with whole_broker(tmp_path) as whole, by_hand(whole) as http:
        token = whole.world.mint("gho_", client_id=VSCODE)
        told = (await http.get(EXCHANGE, headers=signed(token))).json()
        assert "user" not in told
        assert type(told["expires_at"]) is int
        # Who somebody is comes from GET /user, and it is asked for no other reason.
        assert not whole.asked("/user")
        assert whole.view().login == "octocat"
        text = {"expires_at": str(told["expires_at"]), "user": {"login": "mallory", "id": 1}}
        whole.world.queue_faults(EXCHANGE, [Fault(json_patch=text)])
        lease = await whole.refresh()
        assert lease.expires_in == pytest.approx(1800, abs=5)
        assert whole.view().login == "octocat"
        whole.world.queue_faults(EXCHANGE, [Fault(json_patch={"expires_at": "soon"})])
        assert (await outcome(whole.refresh())).code == "bad_answer"


async def test_belief_the_device_flow_always_tells_expires_in(tmp_path):
    """Not for `gho_` tokens: only GitHub Apps with expiry switched on tell it."""
    async with whole_broker(tmp_path, keep_bodies=True) as whole:
        world = whole.world
        world.settings.change({"login": "hubot", "user_id": 7})
        await whole.login("other")
        told = json.loads(whole.asked(POLL)[-1].kept.response_body)
        assert told["access_token"] == "<GitHub token>"
        assert not {"expires_in", "refresh_token"} & told.keys()
        assert whole.view("other").login_expires_in is None
        polls = len(whole.asked(POLL))
        for _ in range(3):
            await whole.skip(90 * 86_400)
            assert isinstance((await whole.refresh("other")).token, str)
        assert len(whole.asked(POLL)) == polls  # nothing was renewed
        world.settings.change({"github_token_expires_in": 28_800})
        await whole.login("other", client_id=PLUG_IN)
        told = json.loads(whole.asked(POLL)[-1].kept.response_body)
        assert told["expires_in"] == 28_800
        assert whole.view("other").login_expires_in == pytest.approx(28_800, abs=5)


@pytest.mark.parametrize("clock_offset", [0, 7200, -7200])
async def test_belief_a_token_lives_an_hour_or_until_refresh_in(tmp_path, clock_offset):
    """Neither: it lives about 1800 s; `refresh_in` says when to renew, not when it dies."""
    async with whole_broker(tmp_path, clock_offset=clock_offset) as whole:
        first = await whole.broker.lease()
        assert first.expires_in == pytest.approx(1800, abs=5)  # whatever both clocks say
        assert whole.view().refresh_in <= 1500
        whole.world.queue_faults(EXCHANGE, [Fault(status=502, body="<html>")] * 20)
        await whole.skip(1510)
        assert len(whole.asked(EXCHANGE)) > 1  # renewal was due, and fails
        later = await whole.broker.lease(min_valid=0)
        assert later.token == first.token  # it did not die with that
        assert (await chat(whole)).status == 200
        whole.clock.skip(300)
        assert (await outcome(whole.broker.lease(min_valid=0))).code == "upstream_error"


async def test_belief_inference_goes_to_copilot_proxy(tmp_path):
    """Only fill-in-the-middle completions do. Chat goes to `endpoints.api`."""
    async with under_real_names(tmp_path) as whole:
        answer = await chat(whole)
        assert answer.status == 200
        assert hosts_of(whole, CHAT_PATH) == ["api.individual.githubcopilot.com"]
        async with whole.client() as client:
            token = await client.token()
        assert token.api_base == "https://api.individual.githubcopilot.com"
        assert token.completions_base == "https://proxy.individual.githubcopilot.com"
        for host in ("copilot-proxy.githubusercontent.com", "proxy.individual.githubcopilot.com"):
            async with by_hand(whole, host) as http:
                headers = signed(token.token, "Bearer") | dict(token.headers)
                refused = await http.post(CHAT_PATH, json=CHAT, headers=headers)
                assert refused.status_code == 404


@pytest.mark.parametrize(("client_id", "prefix"), [(VSCODE, "gho_"), (PLUG_IN, "ghu_")])
async def test_belief_there_is_one_client_id(tmp_path, client_id, prefix):
    """VS Code's is valid (`gho_`), and so is the Copilot GitHub App's (`ghu_`)."""
    assert client_id in {each.client_id for each in PRESETS.values()}
    async with whole_broker(tmp_path, known_clients=[VSCODE, PLUG_IN]) as whole:
        await whole.login("default", client_id=client_id)
        (record,) = (json.loads(each) for each in whole.kept().values())
        assert record["client_id"] == client_id
        assert record["token"].startswith(prefix)
        assert (await chat(whole)).status == 200
        assert whole.view().mode == "exchange"
        refused = await outcome(whole.login("other", client_id="Iv1.0123456789abcdef"))
        assert refused.code == "client_id_unknown"


async def test_belief_device_flow_bodies_must_be_json(tmp_path):
    """JSON and form both work; form is the documented, safest form."""
    async with whole_broker(tmp_path, keep_bodies=True) as whole, by_hand(whole) as http:
        await whole.login("other")
        for path in (DEVICE_CODE, POLL):
            asked = whole.asked(path)[-1]
            assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
            assert asked.headers["accept"] == "application/json"
            assert asked.kept.request_body.startswith(f"client_id={VSCODE}")
        answer = await http.post(DEVICE_CODE, json={"client_id": VSCODE})
        assert answer.status_code == 200
        assert {"device_code", "user_code"} <= answer.json().keys()


async def test_belief_the_name_in_the_billing_url_is_case_sensitive(tmp_path):
    """Unsupported. Send the `login` of GET /user verbatim and the question disappears."""
    async with (
        whole_broker(tmp_path, login="OctoCat-7", user_id=7) as whole,
        by_hand(whole) as http,
    ):
        await whole.login("default")
        login = whole.view().login
        assert login == "OctoCat-7"
        assert json.loads(*whole.kept().values())["user_login"] == login
        assert whole.index.entries()["default"].login == login
        headers = signed(whole.world.mint("github_pat_"), "Bearer")
        for name in (login, login.lower(), login.upper()):
            path = f"/users/{name}/settings/billing/premium_request/usage"
            answer = await http.get(path, headers=headers)
            assert (answer.status_code, answer.json()["user"]) == (200, login)


async def test_belief_a_plan_has_fixed_numbers(tmp_path):
    """Legacy since AI credits came: what a plan entitles to is what upstream says."""
    async with whole_broker(tmp_path, sku="plan_of_tomorrow") as whole:
        for entitlement, percent in ((777, 50.5), (-1, 100.0), (12, 0.0)):
            told = f"ent={entitlement}&ov=0.0&ovPerm=false&rem={percent}"
            whole.world.queue_faults(CHAT_PATH, [Fault(headers={PREMIUM: told})])
            await chat(whole)
            quota = whole.proxy.quota("default")["premium_interactions"]
            assert (quota.entitlement, quota.percent_remaining) == (entitlement, percent)
        assert whole.view().sku == "plan_of_tomorrow"
    stated = Told("seat", Report((Quota("premium_interactions", entitlement=777.0, used=7.0),)))
    assert compose([stated], "pro").kinds == stated.report.kinds
    # The one table is for who says which plan it is, where nobody states a number.
    tables = {Path(tiers.__file__)}
    plans = {"free", "pro", "pro_plus", "pro+", "individual", "business", "enterprise", "max"}
    efforts = {"low", "medium", "high"}  # a model may think `max`, which is no plan then
    root = Path(brokerd.__file__).parent
    for path in root.rglob("*.py"):
        if "simulator" in path.parts or path in tables:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                named = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                numbers = [each for each in node.values if _is_number(each)]
                is_plans = plans & set(named) and not efforts & set(named)
                assert not (is_plans and numbers), f"a plan table: {path}:{node.lineno}"


def _is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


@pytest.mark.parametrize(("refresh_in", "due"), [(1500, 1500), (1790, 1500), (600, 600)], ids=str)
async def test_belief_refresh_sixty_seconds_before_refresh_in(tmp_path, refresh_in, due):
    """Workable; the official client leaves more. Ours: up to 5 % early, and 300 s before death."""
    async with whole_broker(tmp_path, refresh_in=refresh_in) as whole:
        assert due * 0.95 - 5 <= whole.view().refresh_in <= due
        await whole.skip(due * 0.95 - 5)
        assert len(whole.asked(EXCHANGE)) == 1
        await whole.skip(due * 0.05 + 5)
        assert len(whole.asked(EXCHANGE)) == 2
        assert whole.view().expires_in == pytest.approx(1800, abs=due * 0.05 + 10)


@pytest.mark.parametrize(
    "identity",
    [
        IdentitySettings(),
        IdentitySettings(
            user_agent="own/0", editor_version="emacs/29", editor_plugin_version="gptel/*"
        ),
        IdentitySettings(user_agent="own/0", editor_version="", editor_plugin_version=""),
    ],
    ids=["ours", "other", "none"],
)
async def test_belief_header_values_are_fixed(tmp_path, identity):
    """Not required values: own names work on the exchange, where they are free-form."""
    async with simulated_world() as simulator:
        url = simulator.url
        way = UpstreamSettings(login=url, api=url, copilot=url, identity=identity)
        whole = Whole(tmp_path, simulator, way)
        await whole.keep()
        async with whole.running(), by_hand(whole) as http:
            await whole.broker.lease(timeout=PATIENCE)
            (asked,) = whole.asked(EXCHANGE)
            sent = [
                asked.headers.get(name, "")
                for name in ("user-agent", "editor-version", "editor-plugin-version")
            ]
            assert not any("vscode" in value or "Chat/" in value for value in sent)
            if identity == IdentitySettings():
                assert all(value.startswith("copilot-broker") for value in sent), sent
            else:
                wanted = [
                    identity.user_agent,
                    identity.editor_version,
                    identity.editor_plugin_version,
                ]
                assert sent == wanted
            assert (await chat(whole)).status == 200
            # A name there must be: api.github.com refuses requests without one.
            token = whole.world.mint("gho_", client_id=VSCODE)
            nameless = await http.get(EXCHANGE, headers=signed(token) | {"User-Agent": ""})
            assert nameless.status_code == 403


@pytest.mark.parametrize("plan", ["individual", "business", "enterprise"])
async def test_belief_inference_is_always_at_the_generic_host(tmp_path, plan):
    """Only a fallback. Use `endpoints.api`; the wrong host gives 421."""
    async with under_real_names(tmp_path, plan=plan) as whole:
        assert (await chat(whole)).status == 200
        own = f"api.{plan}.githubcopilot.com"
        assert hosts_of(whole, CHAT_PATH) == [own]
        token = (await whole.broker.lease()).token
        elsewhere = "individual" if plan == "business" else "business"
        async with by_hand(whole, f"api.{elsewhere}.githubcopilot.com") as http:
            headers = signed(token, "Bearer") | whole.upstream.headers_for_client()
            wrong = await http.post(CHAT_PATH, json=CHAT, headers=headers)
            assert wrong.status_code == 421
        # Somebody moves to another plan: one 421, a new token, and the host that it names.
        whole.world.settings.change({"plan": elsewhere})
        whole.world.queue_faults(CHAT_PATH, [Fault(status=421, body="Misdirected Request\n")])
        assert (await chat(whole)).status == 200
        moved = f"api.{elsewhere}.githubcopilot.com"
        assert hosts_of(whole, CHAT_PATH)[-2:] == [own, moved]
        assert len(whole.asked(EXCHANGE)) == 2
        # What the answer names counts for more than what the token says of itself.
        named = {"endpoints.api": f"https://api.{plan}.githubcopilot.com/"}
        whole.world.queue_faults(EXCHANGE, [Fault(json_patch=named)])
        assert (await whole.refresh()).api_base == f"https://{own}"
        # Where no endpoints are named, the token itself tells, or the plan in the settings.
        whole.world.settings.change({"endpoints": False, "plan": plan})
        assert (await whole.refresh()).api_base == f"https://{own}"
        whole.settings["default"] = AccountSettings(plan=elsewhere)
        assert (await whole.refresh()).api_base == f"https://{moved}"


async def test_belief_the_exchanged_token_opens_copilot_internal_user(tmp_path):
    """Doubtful: official clients call it with the GitHub token."""
    async with simulated_world() as simulator:
        whole = Whole(tmp_path, simulator)
        login = await whole.keep("direct", "hubot", DIRECT_APP, is_direct=True)
        await whole.keep("default")
        async with whole.running(), by_hand(whole) as http:
            await whole.broker.lease("direct", timeout=PATIENCE)
            exchanged = await whole.broker.lease("default", timeout=PATIENCE)
            (asked,) = whole.asked(SEAT)
            assert asked.headers["authorization"] == f"token {fingerprint(login.token.value)}"
            for scheme in ("token", "Bearer"):
                refused = await http.get(SEAT, headers=signed(exchanged.token, scheme))
                assert refused.status_code == 401
            assert not isinstance(await outcome(whole.refresh("direct")), Failure)
            assert {
                each.headers["authorization"] for each in whole.asked(SEAT) if each.status == 200
            } == {f"token {fingerprint(login.token.value)}"}
