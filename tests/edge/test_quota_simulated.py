"""The quota from the wire to a simulated GitHub and back: every plan, every source, every mistake."""

from __future__ import annotations

import asyncio
import json

import pytest

from brokerd.broker.leases import REFRESHES_PER_MINUTE
from brokerd.broker.quotas.readings import FRESH_FOR, MIN_AGE
from brokerd.core.completions import DEFAULT_PATH, CompletionRequest
from brokerd.simulator.world import Fault
from copilot_broker import CopilotBrokerError
from fakes.whole import EXCHANGE, a_secret_in, whole_broker


SEAT = "/copilot_internal/user"
BILL = "/users/octocat/settings/billing/premium_request/usage"
CHAT = "/chat/completions"
PREMIUM = "premium_interactions"


@pytest.fixture
async def whole(tmp_path):
    async with whole_broker(tmp_path) as whole:
        yield whole


async def asked(whole, **wanted):
    async with whole.client() as client:
        return await client.quota(**wanted)


def pat(whole, kind="github_pat_"):
    return whole.world.mint(kind)


def outcomes(answer):
    return [each["outcome"] for each in answer["tried"]]


def why(answer, source):
    return next(each for each in answer["tried"] if each["source"] == source)


async def complete(whole):
    body = json.dumps({"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]})
    answer = await whole.proxy.open(CompletionRequest(body.encode(), path=DEFAULT_PATH))
    try:
        await answer.read(1 << 20)
    finally:
        answer.close()
    return answer.status


@pytest.mark.parametrize(
    ("form", "kind", "told"),
    [
        ("paid", PREMIUM, {"remaining": -2.33, "overage": 2.33, "overage_permitted": True}),
        ("fractional", PREMIUM, {"remaining": 204.67, "used": 95.33, "entitlement": 300}),
        ("unlimited", PREMIUM, {"unlimited": True, "remaining": None, "entitlement": None}),
        ("exhausted", PREMIUM, {"remaining": 0, "percent_remaining": 0, "blocked": True}),
        (
            "free",
            "chat",
            {"remaining": 37, "entitlement": 50, "used": 13, "percent_remaining": 74},
        ),
        ("ai_credits", PREMIUM, {"remaining": 1204.25, "used": 295.75, "unit": "credits"}),
        ("odd", PREMIUM, {"remaining": 29.7, "entitlement": 300, "resets_at": None}),
        ("nulls", "chat", {"remaining": None, "used": None, "unlimited": False}),
    ],
)
async def test_every_plan_is_shown_as_it_is(whole, form, kind, told):
    whole.world.settings.user_form = form
    answer = await asked(whole)
    assert answer["source"] == "seat"
    assert answer["kinds"][kind].items() >= told.items()
    assert not a_secret_in(answer)


async def test_no_access_is_told(whole):
    whole.world.settings.user_form = "no_access"
    answer = await asked(whole)
    assert (answer["source"], answer["sku"], answer["kinds"]) == ("seat", "no_access", {})


async def test_the_four_sources_one_after_the_other(tmp_path):
    async with whole_broker(tmp_path, exchange_form="free") as whole, whole.client() as client:
        answer = await client.set_pat(pat(whole))
        assert (answer["source"], answer["has_pat"]) == ("billing", True)
        assert outcomes(answer) == ["used", "added", "not_needed", "not_needed"]
        assert answer["kinds"][PREMIUM]["used"] == 53.58
        assert answer["kinds"][PREMIUM]["entitlement"] == 300

        assert (await client.forget_pat())["forgotten"] is True
        answer = await client.quota()
        assert (answer["source"], answer["has_pat"]) == ("seat", False)
        assert outcomes(answer) == ["not_configured", "used", "not_needed", "not_needed"]

        whole.world.queue_faults(SEAT, [Fault(404, {}, {"message": "Not Found"})] * 2)
        assert await complete(whole) == 200
        await whole.skip(MIN_AGE)
        answer = await client.quota(None, True)
        assert answer["source"] == "headers"
        assert outcomes(answer) == ["not_configured", "failed", "used", "not_needed"]
        assert why(answer, "seat")["code"] == "seat_hidden"
        assert answer["kinds"][PREMIUM]["percent_remaining"] == 87.5

        whole.proxy._seen.forget("default")
        await whole.skip(MIN_AGE)
        answer = await client.quota(None, True)
        assert answer["source"] == "token"
        assert outcomes(answer) == ["not_configured", "failed", "nothing", "used"]
        assert answer["kinds"]["chat"]["remaining"] == 37


async def test_nobody_tells(whole):
    whole.world.queue_faults(SEAT, [Fault(404, {}, {"message": "Not Found"})])
    with pytest.raises(CopilotBrokerError) as caught:
        await asked(whole)
    assert caught.value.code == "seat_hidden"
    assert "copilot-cred quota set-pat" in caught.value.hint


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("expired", "pat_refused"),
        ("no_permission", "pat_permission"),
        ("unknown_user", "pat_user_unknown"),
    ],
)
async def test_each_mistake_of_the_token(whole, form, code):
    whole.world.settings.billing_form = form
    brought = pat(whole)
    answer = await asked(whole, pat=brought)
    assert answer["source"] == "seat"
    told = why(answer, "billing")
    assert (told["outcome"], told["code"]) == ("failed", code)
    assert "copilot-cred quota set-pat" in told["hint"]
    async with whole.client() as client:
        with pytest.raises(CopilotBrokerError) as caught:
            await client.set_pat(brought)
    assert caught.value.code == code
    assert not a_secret_in(caught.value, answer)


async def test_a_dead_token_locks_nobody_out(tmp_path):
    async with whole_broker(tmp_path, lockout_after=5, billing_form="expired") as whole:
        brought = pat(whole)
        for _ in range(10):
            await asked(whole, pat=brought, fresh=True)
        assert len(whole.asked(BILL)) == 1


async def test_a_tier_says_of_how_many_where_nobody_does(whole):
    whole.world.queue_faults(SEAT, [Fault(404, {}, {"message": "Not Found"})])
    answer = await asked(whole, pat=pat(whole), tier="pro+")
    assert (answer["source"], answer["tier"]) == ("billing", "pro+")
    assert answer["kinds"][PREMIUM]["remaining"] == pytest.approx(1500 - 53.58)


async def test_credits_are_counted_against_the_seats(whole):
    whole.world.settings.billing_form = whole.world.settings.user_form = "ai_credits"
    answer = await asked(whole, pat=pat(whole))
    kind = answer["kinds"]["ai_credits"]
    assert (kind["used"], kind["entitlement"], kind["unit"]) == (53.58, 1500, "credits")
    assert PREMIUM not in answer["kinds"]


async def test_an_empty_bill_leaves_the_word_to_the_seat(whole):
    whole.world.settings.billing_form = "empty"
    answer = await asked(whole, pat=pat(whole))
    assert (answer["source"], why(answer, "billing")["code"]) == ("seat", "nothing_billed")


async def test_github_is_asked_every_five_minutes_at_most(whole):
    for _ in range(3):
        await asked(whole)
    assert len(whole.asked(SEAT)) == 1
    await whole.skip(FRESH_FOR)
    await asked(whole)
    assert len(whole.asked(SEAT)) == 2


async def test_a_greedy_client_is_one_request_in_ten_seconds_of_each_kind(whole):
    async with whole.client() as client:
        for period in (1, 2):
            for at_once in (1, 100):
                for _ in range(100 // at_once):
                    calls = [client.quota(fresh=True) for _ in range(at_once)]
                    calls += [client.model_list(fresh=True) for _ in range(at_once)]
                    await asyncio.gather(*calls)
            assert (len(whole.asked(SEAT)), len(whole.asked("/models"))) == (period, period)
            await whole.skip(MIN_AGE)
        exchanged = len(whole.asked(EXCHANGE))
        for _ in range(50):
            await client.refresh()
        assert len(whole.asked(EXCHANGE)) == exchanged + REFRESHES_PER_MINUTE


async def test_a_limit_is_kept_to(whole):
    whole.world.queue_faults(SEAT, [Fault(429, {"retry-after": "60"}, {"message": "slow"})])
    for _ in range(3):
        with pytest.raises(CopilotBrokerError) as caught:
            await asked(whole, fresh=True)
        assert caught.value.code == "rate_limited"
        assert 50 < caught.value.retry_after <= 60
    assert len(whole.asked(SEAT)) == 1
    await whole.skip(61)
    assert (await asked(whole))["source"] == "seat"


async def test_a_402_has_it_read_anew(whole):
    assert (await asked(whole))["kinds"][PREMIUM]["remaining"] == -2.33
    whole.world.settings.user_form = "exhausted"
    whole.world.queue_faults(CHAT, [Fault(402, {}, {"message": "quota exceeded"})] * 2)
    assert [await complete(whole) for _ in range(2)] == [402, 402]
    await whole.until(lambda: len(whole.asked(SEAT)) == 2)
    assert (await asked(whole))["kinds"][PREMIUM]["blocked"] is True
    assert len(whole.asked(SEAT)) == 2


async def test_a_dead_login_is_shown_once(whole):
    login = await whole.store.load(next(iter(whole.index.entries().values())).key)
    whole.world.revoke(login.token.value)
    with pytest.raises(CopilotBrokerError) as caught:
        await asked(whole)
    assert caught.value.code == "bad_credentials"
    assert whole.view().state == "signed_out"
    with pytest.raises(CopilotBrokerError):
        await asked(whole, fresh=True)
    refused = [each for each in whole.world.requests if each.status == 401]
    assert len(refused) == 1


async def test_direct_mode(tmp_path):
    async with whole_broker(tmp_path) as whole:
        await whole.login("direct", token=whole.world.mint("github_pat_"))
        answer = await asked(whole, account="direct")
        assert (answer["account"], answer["source"]) == ("direct", "seat")
