"""Seat and bill over real HTTP, as the simulated GitHub has them; and each way of being refused."""

from __future__ import annotations

import time

import pytest

from brokerd.core.tokens import Pat
from brokerd.errors import ErrorClass, PermanentError, TransientError
from brokerd.host.logs.learning import LearningGitHub
from brokerd.host.logs.redaction import redact
from fakes.canned_github import CANARY, TOKEN, canned, failure_of, said
from fakes.simulated import CLIENT_ID, simulated


SEAT = "/copilot_internal/user"
BILL = "/users/octocat/settings/billing/premium_request/usage"
CREDIT = "/users/octocat/settings/billing/ai_credit/usage"
PAT = Pat(f"github_pat_{CANARY}")
NOW = 1767614400.0  # 2026-01-05T12:00:00Z
FEBRUARY = 1769904000


def pat_of(it, kind="github_pat_"):
    return Pat(it.simulator.world.mint(kind, client_id=CLIENT_ID))


def kinds(report):
    return {each.name: each for each in report.kinds}


@pytest.fixture
async def it():
    async with simulated() as pair:
        yield pair


# The seat.


@pytest.mark.parametrize(
    ("form", "name", "numbers"),
    [
        ("paid", "premium_interactions", (-2.33, 300, "requests")),
        ("fractional", "premium_interactions", (204.67, 300, "requests")),
        ("unlimited", "premium_interactions", (None, None, "requests")),
        ("exhausted", "premium_interactions", (0, 300, "requests")),
        ("free", "chat", (37, 50, "requests")),
        ("odd", "premium_interactions", (29.7, 300, "requests")),
        ("ai_credits", "premium_interactions", (1204.25, 1500, "credits")),
    ],
)
async def test_each_seat(it, form, name, numbers):
    it.simulator.world.settings.user_form = form
    report = await it.github.seat(it.token())
    told = kinds(report)[name]
    assert (told.remaining, told.entitlement, told.unit) == numbers
    assert told.unlimited == (form == "unlimited")
    assert told.blocked == (form == "exhausted")
    assert (told.resets_at is None) == (form == "odd")
    assert report.tells


@pytest.mark.parametrize("form", ["nulls", "no_access"])
async def test_a_seat_without_numbers(it, form):
    it.simulator.world.settings.user_form = form
    report = await it.github.seat(it.token())
    assert not report.tells
    assert report.sku == ("no_access" if form == "no_access" else "")


async def test_the_seat_is_asked_once_with_the_token_as_the_editor_does(it):
    await it.github.seat(it.token())
    (asked,) = it.simulator.world.requests
    assert asked.path == SEAT
    assert asked.headers["x-github-api-version"] == "2025-04-01"


@pytest.mark.parametrize(
    ("answer", "error_class", "code", "hint"),
    [
        (
            (401, {"message": "Bad credentials"}),
            ErrorClass.LOGIN_REQUIRED,
            "bad_credentials",
            "copilot-cred login",
        ),
        ((403, {"message": "Forbidden"}), ErrorClass.DENIED, "seat_hidden", "quota set-pat"),
        ((404, {"message": "Not Found"}), ErrorClass.DENIED, "seat_hidden", "quota set-pat"),
        (
            (500, {"message": "Server Error"}),
            ErrorClass.TEMPORARY,
            "upstream_error",
            "copilot-cred quota --fresh",
        ),
        ((200, b"<html>"), ErrorClass.TEMPORARY, "bad_answer", "copilot-cred quota --fresh"),
        ((200, []), ErrorClass.TEMPORARY, "bad_answer", "copilot-cred quota --fresh"),
    ],
)
async def test_a_seat_refused(answer, error_class, code, hint):
    github, http = canned(said(*answer))
    failure = await failure_of(github.seat(TOKEN))
    assert (failure.error_class, failure.code) == (error_class, code)
    assert hint in failure.hint
    assert len(http.asked) == 1


async def test_a_limit_of_the_seat_has_its_time():
    github, _ = canned(said(429, {"message": "slow down"}, retry_after="90"))
    failure = await failure_of(github.seat(TOKEN), TransientError)
    assert (failure.code, failure.retry_after) == ("rate_limited", 90)
    assert failure.hint.endswith("copilot-cred quota --fresh")


async def test_an_answer_that_cannot_be_read_is_asked_for_anew(it):
    it.fault(SEAT, 200, "x", headers={"Content-Encoding": "gzip"})
    failure = await failure_of(it.github.seat(it.token()), TransientError)
    assert failure.code == "bad_answer"
    assert failure.hint.endswith("copilot-cred quota --fresh")


async def test_a_portal_before_the_seat_costs_no_login():
    github, _ = canned(said(401, b"<html>", x_github_request_id=None))
    assert (await failure_of(github.seat(TOKEN), TransientError)).code == "intercepted"


# The bill.


async def test_a_bill_of_several_models(it):
    report = await it.github.billing(pat_of(it), "octocat", time.time())
    told = kinds(report)["premium_interactions"]
    assert (told.used, told.entitlement, told.unit) == (53.58, None, "requests")
    assert report.models[0] == ("Simulated 4.5", 41.0)
    asked = it.simulator.world.requests
    assert [each.path for each in asked] == [BILL, CREDIT]
    versions = [each.headers["x-github-api-version"] for each in asked]
    assert versions == ["2022-11-28", "2026-03-10"]


async def test_a_bill_in_credits(it):
    it.simulator.world.settings.billing_form = "ai_credits"
    (told,) = (await it.github.billing(pat_of(it), "octocat", time.time())).kinds
    assert (told.name, told.unit, told.used) == ("ai_credits", "credits", 53.58)


async def test_an_empty_bill_is_bare(it):
    it.simulator.world.settings.billing_form = "empty"
    report = await it.github.billing(pat_of(it, "ghp_"), "octocat", time.time())
    assert report.is_bare
    assert report.kinds[0].used == 0.0


async def test_the_pages_of_this_month_are_asked_with_the_pat_alone():
    github, http = canned(said(200, {"usageItems": []}))
    report = await github.billing(PAT, "mona", NOW)
    assert report.kinds[0].resets_at == FEBRUARY
    base = "https://api.github.com/users/mona/settings/billing"
    assert http.urls == [
        f"{base}/premium_request/usage?year=2026&month=1",
        f"{base}/ai_credit/usage?year=2026&month=1",
    ]
    for each in http.asked:
        assert each.headers["Authorization"] == f"Bearer {PAT.value}"
        assert each.headers["Accept"] == "application/vnd.github+json"


async def test_a_tenants_bill_is_its_own():
    github, http = canned(said(200, {"usageItems": []}), host="octo.ghe.com")
    await github.billing(PAT, "mona", NOW)
    assert {each.partition("/users/")[0] for each in http.urls} == {"https://api.octo.ghe.com"}


async def test_no_user_name_leads_elsewhere():
    github, http = canned(said(200, {"usageItems": []}))
    await github.billing(PAT, "../x?y#z", NOW)
    assert http.urls[0].startswith("https://api.github.com/users/..%2Fx%3Fy%23z/settings/")


@pytest.mark.parametrize(
    ("form", "code", "words"),
    [
        ("expired", "pat_refused", ("expired", "revoked")),
        ("no_permission", "pat_permission", ("Plan", "read-only")),
        ("unknown_user", "pat_user_unknown", ("octocat", "organization", "personal billing")),
    ],
)
async def test_each_mistake_of_the_token_says_what_to_change(it, form, code, words):
    it.simulator.world.settings.billing_form = form
    failure = await failure_of(
        it.github.billing(pat_of(it), "octocat", time.time()), PermanentError
    )
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, code)
    assert all(word in failure.message for word in words)
    assert "copilot-cred quota set-pat" in failure.hint


async def test_a_dead_pat_is_shown_once(it):
    it.simulator.world.settings.billing_form = "expired"
    await failure_of(it.github.billing(pat_of(it), "octocat", time.time()))
    assert it.paths() == [BILL]


async def test_another_persons_name_is_an_unknown_user(it):
    failure = await failure_of(it.github.billing(pat_of(it), "mona", time.time()))
    assert failure.code == "pat_user_unknown"
    assert "mona" in failure.message


@pytest.mark.parametrize("host", ["github.com", "acme.ghe.com"])
async def test_a_permission_is_added_where_the_token_was_made(host):
    refused = {"message": "Resource not accessible by personal access token"}
    github, _ = canned(said(403, refused), host=host)
    failure = await failure_of(github.billing(PAT, "mona", NOW))
    assert f"Add it at https://{host}/settings/personal-access-tokens, or" in failure.hint


async def test_an_apps_token_has_no_permission(it):
    failure = await failure_of(it.github.billing(pat_of(it, "gho_"), "octocat", time.time()))
    assert failure.code == "pat_permission"


async def test_who_has_only_the_newer_page_is_told_by_it():
    item = {"sku": "Copilot AI Credit", "grossQuantity": 5}
    github, _ = canned(said(404, {"message": "Not Found"}), said(200, {"usageItems": [item]}))
    assert kinds(await github.billing(PAT, "mona", NOW))["ai_credits"].used == 5.0


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_the_newer_page_may_be_missing(status):
    item = {"sku": "Copilot Premium Request", "grossQuantity": 5}
    github, _ = canned(said(200, {"usageItems": [item]}), said(status, {"message": "no"}))
    assert (await github.billing(PAT, "mona", NOW)).kinds[0].used == 5.0


async def test_nothing_on_one_page_and_trouble_on_the_other_is_no_zero():
    github, _ = canned(said(200, {"usageItems": []}), said(500, {"message": "no"}))
    assert (
        await failure_of(github.billing(PAT, "mona", NOW), TransientError)
    ).code == "upstream_error"


async def test_a_bill_that_is_no_json():
    github, _ = canned(said(200, b"<html>"))
    assert (
        await failure_of(github.billing(PAT, "mona", NOW), TransientError)
    ).code == "bad_answer"


async def test_a_token_that_could_not_stand_in_a_header():
    github, http = canned(said(200, {}))
    failure = await failure_of(
        github.billing(Pat(f"{CANARY}\r\nX: 1"), "mona", NOW), PermanentError
    )
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "bad_pat")
    assert http.asked == []


async def test_no_network():
    async with simulated() as it:
        await it.simulator.close()
        for asked in (it.github.seat(TOKEN), it.github.billing(PAT, "mona", NOW)):
            failure = await failure_of(asked, TransientError)
            assert failure.hint.endswith("copilot-cred quota --fresh")


async def test_redaction_learns_what_passes():
    secret = "pat-without-a-known-prefix-31337"
    github, _ = canned(said(200, {"usageItems": []}))
    await LearningGitHub(github).billing(Pat(secret), "mona", NOW)
    assert secret not in redact(f"oops {secret}")


# Token fields.


async def test_the_exchange_of_a_free_plan_tells_what_is_left():
    async with simulated(exchange_form="free") as it:
        minted = await it.github.exchange(it.token())
    assert {each.name: each.remaining for each in minted.quota} == {
        "chat": 37,
        "completions": 1985,
    }
    assert all(each.resets_at for each in minted.quota)


@pytest.mark.parametrize("form", ["full", "minimal", "odd"])
async def test_other_exchanges_tell_nothing(form):
    async with simulated(exchange_form=form) as it:
        assert (await it.github.exchange(it.token())).quota == ()
