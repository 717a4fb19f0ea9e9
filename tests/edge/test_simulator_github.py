"""The simulated api.github.com knows every kind of token, and what each is good for."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from brokerd.simulator.settings import USER_FORMS
from fakes.clock import FakeClock
from fakes.simulated_chat import EDITOR
from fakes.simulated_github import (
    CLIENT,
    EXCHANGE,
    POLL,
    control,
    poll,
    sign_in,
    signed,
    simulator,
    start,
)


SEAT = "/copilot_internal/user"
USAGE = "/users/octocat/settings/billing/premium_request/usage"
OTHER_APP = "Ov23liOtherOtherOther"
VS_CODE = "01ab8ac9400c4e429b23"
KINDS = ["gho_", "ghu_", "github_pat_", "ghs_", "ghp_", "ghr_"]


async def mint(http, kind, **more):
    return (await control(http, "token", kind=kind, **more))["token"]


async def models(http, token):
    return await http.get("/models", headers=signed(token, "Bearer") | EDITOR)


# Time.


async def test_a_day_passes_at_a_word():
    clock = FakeClock()
    async with simulator(clock=clock, auto_approve=True, rate_limit=2) as (running, http):
        code = await start(http)
        await clock.advance(901)
        assert (await poll(http, code))["error"] == "expired_token"
        headers = await sign_in(http)
        token = (await http.get(EXCHANGE, headers=headers)).json()
        assert token["expires_at"] == int(clock.wall()) + 1800
        assert (await http.get(EXCHANGE, headers=headers)).status_code == 200
        assert (await http.get(EXCHANGE, headers=headers)).status_code == 403
        assert (await models(http, token["token"])).status_code == 200
        await clock.advance(86_400)
        answer = await models(http, token["token"])
        assert answer.status_code == 401
        assert parsedate_to_datetime(answer.headers["date"]).timestamp() == int(clock.wall())
        assert (await http.get(EXCHANGE, headers=headers)).status_code == 200
        recorded = running.world.requests[-1]
        assert (recorded.time, recorded.monotonic) == (clock.wall(), clock.monotonic())


async def test_polls_are_paced_by_the_same_clock():
    clock = FakeClock()
    async with simulator(clock=clock) as (_, http):
        code = await start(http)
        for expected in ("authorization_pending", "slow_down"):
            assert (await poll(http, code))["error"] == expected
        await clock.advance(10)
        assert (await poll(http, code))["error"] == "authorization_pending"


async def test_tokens_minted_at_one_moment_are_told_apart():
    clock = FakeClock()
    async with simulator(clock=clock) as (running, http):
        before = running.world.mint("gho_")
        running.world.revoke_all()
        after = running.world.mint("gho_")
        assert (await http.get("/user", headers=signed(before))).status_code == 401
        assert (await http.get("/user", headers=signed(after))).status_code == 200


# Kinds of tokens.


@pytest.mark.parametrize(
    ("kind", "client_id", "user", "exchange", "direct"),
    [
        ("gho_", OTHER_APP, 200, 200, 200),
        ("gho_", VS_CODE, 200, 200, 401),
        ("ghu_", "Iv1.b507a08c87ecfe98", 200, 200, 401),
        ("ghu_", CLIENT, 200, 200, 200),
        ("github_pat_", "", 200, 404, 200),
        ("ghs_", "", 403, 404, 200),
        ("ghp_", "", 200, 404, 401),
        ("ghr_", CLIENT, 401, 401, 401),
    ],
)
async def test_each_kind_is_good_for_its_own(kind, client_id, user, exchange, direct):
    async with simulator() as (running, http):
        token = await mint(http, kind, client_id=client_id, login="mona")
        assert token.startswith(kind)
        for path, status in (("/user", user), (EXCHANGE, exchange)):
            assert (await http.get(path, headers=signed(token))).status_code == status
        assert (await models(http, token)).status_code == direct
        assert running.world.accepts_bearer(token) == (direct == 200)


async def test_all_kinds_can_be_minted_and_no_others():
    async with simulator() as (_, http):
        assert len({await mint(http, kind) for kind in KINDS}) == len(KINDS)
        for wrong in ({"kind": "ghx_"}, {"no_such": 1}):
            assert (await http.post("/_control/token", json=wrong)).status_code == 400


async def test_direct_use_can_be_opened_and_closed():
    async with simulator(direct_for_all=True, pat_has_permission=False) as (running, http):
        assert (await models(http, await mint(http, "gho_", client_id=VS_CODE))).status_code == 200
        pat = await mint(http, "github_pat_")
        refused = await models(http, pat)
        assert (refused.status_code, "Copilot Requests permission" in refused.text) == (401, True)
        assert not running.world.accepts_bearer(pat)
        token, _ = running.world.issue_copilot_token()
        assert running.world.accepts_bearer(token)


async def test_refused_apps_are_hidden_from_the_exchange():
    async with simulator(refused_clients=[OTHER_APP]) as (_, http):
        token = await mint(http, "gho_", client_id=OTHER_APP)
        answer = await http.get(EXCHANGE, headers=signed(token))
        assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")
        assert (await models(http, token)).status_code == 200


async def test_installation_tokens_are_nobodys_and_live_an_hour():
    clock = FakeClock()
    async with simulator(clock=clock) as (_, http):
        token = await mint(http, "ghs_")
        answer = await http.get("/user", headers=signed(token))
        assert answer.json()["message"] == "Resource not accessible by integration"
        await clock.advance(3601)
        assert (await models(http, token)).status_code == 401


# Who somebody is.


async def test_scopes_are_told_as_granted():
    async with simulator(auto_approve=True) as (_, http):
        oauth = await sign_in(http, OTHER_APP, scope="read:user repo")
        app = await sign_in(http, CLIENT, scope="read:user repo")
        pat = signed(await mint(http, "github_pat_"))
        told = [(await http.get("/user", headers=each)).headers for each in (oauth, app, pat)]
        assert [each.get("x-oauth-scopes") for each in told] == ["read:user, repo", "", None]


# The seat.


async def seat(form, **settings):
    async with simulator(user_form=form, **settings) as (running, http):
        answer = await http.get(SEAT, headers=signed(running.world.mint("gho_")))
        assert answer.status_code == 200
        return answer.json() | {"url": running.url}


async def test_paid_seat_has_all_sorts_of_numbers():
    told = await seat("paid", plan="business", clock=FakeClock())
    assert (told["copilot_plan"], told["organization_login_list"]) == ("business", ["octo-org"])
    assert told["endpoints"]["api"] == told["url"]
    assert told["quota_reset_date"] == "2027-02-01"
    quotas = told["quota_snapshots"]
    assert (quotas["chat"]["unlimited"], quotas["chat"]["entitlement"]) == (True, -1)
    assert quotas["completions"]["quota_remaining"] == 3999.5
    assert quotas["premium_interactions"]["quota_remaining"] < 0
    assert quotas["premium_interactions"]["overage_count"] == 2.33


async def test_other_seats():
    free = await seat("free")
    assert "quota_snapshots" not in free
    assert free["limited_user_quotas"]["chat"] < free["monthly_quotas"]["chat"]
    assert (await seat("no_access"))["access_type_sku"] == "no_access"
    nulls = await seat("nulls")
    assert nulls["quota_snapshots"] == {"chat": None, "completions": None}
    odd = (await seat("odd"))["quota_snapshots"]["premium_interactions"]
    assert odd["entitlement"] == "300"
    credit = (await seat("ai_credits"))["quota_snapshots"]["premium_interactions"]
    assert (credit["token_based_billing"], credit["credits_used"]) == (True, 295.75)


@pytest.mark.parametrize("form", USER_FORMS)
async def test_endpoints_can_be_left_out(form):
    assert "endpoints" not in await seat(form, endpoints=False)


async def test_exchange_and_graphql_leave_endpoints_out_too():
    query = {"query": "{viewer{copilotEndpoints{api} login}}"}
    async with simulator() as (running, http):
        headers = signed(running.world.mint("gho_"), "Bearer")
        asked = (await http.post("/graphql", json=query, headers=headers)).json()
        viewer = asked["data"]["viewer"]
        assert (viewer["copilotEndpoints"]["api"], viewer["login"]) == (running.url, "octocat")
        assert viewer["copilotEndpoints"].keys() == {"api", "proxy", "telemetry", "originTracker"}
        await control(http, "settings", endpoints=False)
        asked = (await http.post("/graphql", json=query, headers=headers)).json()
        assert asked["data"]["viewer"]["copilotEndpoints"] is None
        assert "endpoints" not in (await http.get(EXCHANGE, headers=headers)).json()
        assert "errors" in (await http.post("/graphql", content=b"[", headers=headers)).json()
        assert (await http.post("/graphql", json=query)).status_code == 401


# Billing.


async def test_billing_is_for_personal_tokens_of_the_same_person():
    async with simulator() as (_, http):
        pat = signed(await mint(http, "github_pat_"), "Bearer")
        told = (await http.get(USAGE, headers=pat)).json()
        assert (told["user"], len(told["usageItems"])) == ("octocat", 3)
        quantities = [each["grossQuantity"] for each in told["usageItems"]]
        assert any(each != int(each) for each in quantities)
        now = time.gmtime()
        assert told["timePeriod"] in (
            {"year": now.tm_year, "month": now.tm_mon},
            {"year": now.tm_year, "month": now.tm_mon % 12 + 1},  # at the turn of a month
        )
        asked = await http.get(USAGE, headers=pat, params={"year": "2026", "day": "3"})
        assert asked.json()["timePeriod"].items() >= {"year": 2026, "day": 3}.items()
        assert (await http.get(USAGE, headers=pat, params={"month": "13"})).status_code == 400
        stranger = USAGE.replace("octocat", "mona")
        assert (await http.get(stranger, headers=pat)).status_code == 404
        app = signed(await mint(http, "gho_"), "Bearer")
        assert (await http.get(USAGE, headers=app)).status_code == 403
        assert (await http.get(USAGE)).status_code == 401
        await control(http, "settings", billing_form="empty")
        assert (await http.get(USAGE, headers=pat)).json()["usageItems"] == []
        await control(http, "settings", billing_form="no_permission")
        assert (await http.get(USAGE, headers=pat)).status_code == 403


async def test_billing_counts_requests_on_one_page_and_credits_on_the_other():
    credit = USAGE.replace("premium_request", "ai_credit")
    async with simulator() as (_, http):
        pat = signed(await mint(http, "github_pat_"), "Bearer")
        for form, counts in (("several", (3, 0)), ("ai_credits", (0, 3)), ("empty", (0, 0))):
            await control(http, "settings", billing_form=form)
            told = [(await http.get(page, headers=pat)).json() for page in (USAGE, credit)]
            assert tuple(len(each["usageItems"]) for each in told) == counts
        assert (
            await http.get(USAGE.replace("premium_request", "x"), headers=pat)
        ).status_code == 404


async def test_billing_may_not_know_the_user_nor_the_token():
    async with simulator(lockout_after=1) as (_, http):
        pat = signed(await mint(http, "github_pat_"), "Bearer")
        await control(http, "settings", billing_form="unknown_user")
        assert (await http.get(USAGE, headers=pat)).status_code == 404
        await control(http, "settings", billing_form="expired")
        assert (await http.get(USAGE, headers=pat)).status_code == 401
        assert (await http.get(USAGE, headers=pat)).status_code == 401
        assert (await http.get("/user", headers=pat)).status_code == 403  # locked out


@pytest.mark.parametrize(
    ("form", "left", "told"),
    [
        ("fractional", 204.67, {"unlimited": False}),
        ("exhausted", 0, {"has_quota": False}),
        ("unlimited", 0, {"unlimited": True, "entitlement": -1}),
        ("paid", -2.33, {"overage_count": 2.33}),
    ],
)
async def test_seats_that_are_paid_for(form, left, told):
    premium = (await seat(form))["quota_snapshots"]["premium_interactions"]
    assert premium["quota_remaining"] == left
    assert premium.items() >= told.items()


async def test_the_exchange_of_a_free_plan():
    async with simulator(exchange_form="free") as (running, http):
        told = (await http.get(EXCHANGE, headers=signed(running.world.mint("gho_")))).json()
        assert told["limited_user_quotas"] == {"chat": 37, "completions": 1985}
        assert told["limited_user_reset_date"] > told["expires_at"]


# The end of tokens.


async def test_expiring_tokens_expire_and_a_renewal_kills_the_old_pair():
    clock = FakeClock()
    settings = {"auto_approve": True, "github_token_expires_in": 28_800}
    async with simulator(clock=clock, **settings) as (_, http):
        granted = await poll(http, await start(http))
        headers = signed(granted["access_token"])
        assert (await http.get("/user", headers=headers)).status_code == 200
        form = {
            "grant_type": "refresh_token",
            "client_id": CLIENT,
            "refresh_token": granted["refresh_token"],
        }
        other = await http.post(POLL, data=form | {"client_id": "other"})
        assert other.json()["error"] == "incorrect_client_credentials"
        renewed = (await http.post(POLL, data=form)).json()
        assert (await http.get("/user", headers=headers)).status_code == 401
        headers = signed(renewed["access_token"])
        assert (await http.get("/user", headers=headers)).status_code == 200
        await clock.advance(28_801)
        assert (await http.get("/user", headers=headers)).status_code == 401
        form["refresh_token"] = renewed["refresh_token"]
        assert "access_token" in (await http.post(POLL, data=form)).json()
        assert (await http.post(POLL, data=form)).json()["error"] == "bad_refresh_token"


async def test_refresh_tokens_expire_too():
    clock = FakeClock()
    settings = {"auto_approve": True, "github_token_expires_in": 28_800}
    async with simulator(clock=clock, **settings) as (_, http):
        granted = await poll(http, await start(http))
        await clock.advance(granted["refresh_token_expires_in"])
        form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
        assert (await http.post(POLL, data=form)).json()["error"] == "bad_refresh_token"


async def test_anybody_may_revoke_what_they_hold_unless_signed_in():
    async with simulator() as (_, http):
        dead, alive = await mint(http, "gho_"), await mint(http, "gho_")
        body = {"credentials": [dead, "ghp_of_somebody_else"]}
        signed_in = await http.post("/credentials/revoke", json=body, headers=signed(alive))
        assert signed_in.status_code == 403
        assert (await http.get("/user", headers=signed(dead))).status_code == 200
        assert (await http.post("/credentials/revoke", json=body)).status_code == 202
        assert (await http.get("/user", headers=signed(dead))).status_code == 401
        assert (await http.get("/user", headers=signed(alive))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"credentials": []}', b'{"credentials": "x"}', b'{"credentials": [1]}',
     b'{"credentials": [""]}'],
)  # fmt: skip
async def test_garbage_is_no_revocation(body):
    async with simulator() as (_, http):
        assert (await http.post("/credentials/revoke", content=body)).status_code == 422


# Lock-out and limit.


async def test_too_many_wrong_credentials_lock_the_person_out():
    clock = FakeClock()
    async with simulator(clock=clock) as (running, http):
        dead, good = running.world.mint("gho_"), running.world.mint("gho_")
        other = running.world.mint("gho_", "mona")
        running.world.revoke(dead)
        bad = [await http.get("/user", headers=signed(dead)) for _ in range(6)]
        assert [each.status_code for each in bad] == [401] * 5 + [403]
        locked = await http.get(EXCHANGE, headers=signed(good))
        assert (locked.status_code, locked.json()["message"]) == (
            403,
            "Maximum number of login attempts exceeded. Please try again later.",
        )
        assert (await http.get("/user", headers=signed(other))).status_code == 200
        await clock.advance(901)
        assert (await http.get("/user", headers=signed(good))).status_code == 200


async def test_wrong_credentials_that_come_slowly_lock_nobody_out():
    clock = FakeClock()
    async with simulator(clock=clock) as (running, http):
        dead = running.world.mint("gho_")
        running.world.revoke(dead)
        for _ in range(12):
            assert (await http.get("/user", headers=signed(dead))).status_code == 401
            await clock.advance(13)


async def test_unknown_tokens_count_for_their_address():
    async with simulator(lockout_after=2, lockout_for=900) as (running, http):
        statuses = [
            (await http.get("/user", headers=signed("gho_unknown"))).status_code for _ in range(3)
        ]
        assert statuses == [401, 401, 403]
        good = signed(running.world.mint("gho_"))
        assert (await http.get("/user", headers=good)).status_code == 403
        await control(http, "reset")
        assert (await http.get("/user", headers=good)).status_code == 200


async def test_requests_are_limited_by_the_hour():
    clock = FakeClock()
    async with simulator(clock=clock, rate_limit=2) as (running, http):
        headers = signed(running.world.mint("gho_"))
        await clock.advance(1000)
        first, second, third = [await http.get("/user", headers=headers) for _ in range(3)]
        assert [each.status_code for each in (first, second, third)] == [200, 200, 403]
        assert third.json()["message"].startswith("API rate limit exceeded")
        assert (
            first.headers["x-ratelimit-remaining"],
            third.headers["x-ratelimit-remaining"],
        ) == (
            "1",
            "0",
        )
        assert int(third.headers["x-ratelimit-reset"]) == int(clock.wall()) + 3600
        await clock.advance(3600)
        assert (await http.get("/user", headers=headers)).status_code == 200
