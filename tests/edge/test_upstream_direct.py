"""Direct mode, and which Copilot host serves a token in either mode."""

from __future__ import annotations

import pytest

from brokerd.core.tokens import GitHubToken
from brokerd.errors import ErrorClass, PermanentError, TransientError
from fakes.canned_github import CANARY, TOKEN, canned, failure_of, said


USER_URL = "https://api.github.com/copilot_internal/user"
GRAPHQL_URL = "https://api.github.com/graphql"
GENERIC = ("https://api.githubcopilot.com", "https://copilot-proxy.githubusercontent.com")
BUSINESS = ("https://api.business.githubcopilot.com", "https://proxy.business.githubcopilot.com")
NOT_FOUND = said(404, {"message": "Not Found", "status": "404"})
NOT_FOR_YOU = said(403, {"message": "Resource not accessible by integration"})
NO_VIEWER = said(200, {"data": {"viewer": None}, "errors": [{"type": "FORBIDDEN"}]})


def viewer(api):
    return said(200, {"data": {"viewer": {"copilotEndpoints": {"api": api}, "login": "mona"}}})


def named(api="https://api.business.githubcopilot.com", **more):
    return {"login": "mona", "endpoints": {"api": api, **more}}


def bases_of(token):
    return token.api_base, token.completions_base


async def test_the_github_token_is_its_own_bearer():
    endpoints = {"api": BUSINESS[0], "proxy": BUSINESS[1] + "/"}
    body = {"access_type_sku": "copilot_for_business_seat", "endpoints": endpoints}
    github, http = canned(said(200, body))
    token = await github.direct(TOKEN)
    assert (token.value, token.is_direct) == (TOKEN.value, True)
    assert (token.lifetime, token.refresh_in) == (86400, 43200)
    assert (bases_of(token), token.sku) == (BUSINESS, "copilot_for_business_seat")
    assert CANARY not in repr(token)
    (asked,) = http.asked
    assert (asked.method, asked.url) == ("GET", USER_URL)
    assert asked.headers["Authorization"] == f"token {TOKEN.value}"
    assert asked.headers["X-GitHub-Api-Version"] == "2025-04-01"
    assert "Copilot-Integration-Id" not in asked.headers


@pytest.mark.parametrize(
    "first",
    [NOT_FOUND, NOT_FOR_YOU, said(200, {}), said(200, {"endpoints": None}),
     said(200, {"endpoints": {"api": 7}}), said(404, {"message": "x"}, x_github_request_id=None)],
)  # fmt: skip
async def test_graphql_tells_where_the_first_place_does_not(first):
    github, http = canned(first, viewer(BUSINESS[0]))
    assert (await github.direct(TOKEN)).api_base == BUSINESS[0]
    assert http.urls == [USER_URL, GRAPHQL_URL]
    asked = http.asked[1]
    assert (asked.method, asked.headers["Authorization"]) == ("JSON", f"Bearer {TOKEN.value}")
    assert asked.sent == {"query": "{viewer{copilotEndpoints{api} login}}"}


@pytest.mark.parametrize("second", [NOT_FOUND, NOT_FOR_YOU, NO_VIEWER, said(200, {"data": 7})])
@pytest.mark.parametrize(("plan", "bases"), [("auto", GENERIC), ("business", BUSINESS)])
async def test_where_nobody_tells_the_plan_decides(second, plan, bases):
    github, _ = canned(NOT_FOUND, second)
    assert bases_of(await github.direct(TOKEN, plan)) == bases


@pytest.mark.parametrize(
    ("told", "plan", "host"),
    [
        ("business", "auto", "business"),
        ("enterprise", "auto", "enterprise"),
        ("free", "auto", "individual"),
        ("individual_pro", "auto", "individual"),
        ("individual_max", "auto", "individual"),
        ("enterprise", "business", "business"),
        ("unheard-of", "auto", None),
        (7, "auto", None),
        (None, "auto", None),
    ],
)
async def test_the_plan_that_github_tells_counts_unless_one_is_configured(told, plan, host):
    github, _ = canned(said(200, {"copilot_plan": told}), NO_VIEWER)
    expected = f"https://api.{host}.githubcopilot.com" if host else GENERIC[0]
    assert (await github.direct(TOKEN, plan)).api_base == expected


async def test_no_access_is_for_copilot_to_say():
    body = named() | {"access_type_sku": "no_access", "chat_enabled": False}
    github, _ = canned(said(200, body))
    token = await github.direct(TOKEN)
    assert (token.api_base, token.sku) == (BUSINESS[0], "no_access")


async def test_a_tenant_is_asked_at_its_own_host_and_served_by_its_own():
    github, http = canned(NOT_FOUND, NOT_FOUND, host="acme.ghe.com")
    token = await github.direct(TOKEN, "business")
    assert bases_of(token) == (
        "https://copilot-api.acme.ghe.com",
        "https://copilot-proxy.acme.ghe.com",
    )
    assert http.urls == [
        "https://api.acme.ghe.com/copilot_internal/user",
        "https://api.acme.ghe.com/graphql",
    ]


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("github.com", "https://evil.example"),
        ("github.com", "https://copilot-api.acme.ghe.com"),
        ("acme.ghe.com", "https://api.githubcopilot.com"),
        ("acme.ghe.com", "https://api.enterprise.githubcopilot.com"),
    ],
)
async def test_the_login_goes_to_no_host_but_its_own(host, api):
    for answers in ([said(200, named(api))], [NOT_FOUND, viewer(api)]):
        github, _ = canned(*answers, host=host)
        failure = await failure_of(github.direct(TOKEN), PermanentError)
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "api_base_refused")


BAD_CREDENTIALS = said(401, {"message": "Bad credentials", "status": "401"})
LIMITED = said(403, {"message": "…"}, x_ratelimit_remaining="0")


async def test_bad_credentials_end_it_at_the_first_question():
    github, http = canned(BAD_CREDENTIALS)
    failure = await failure_of(github.direct(TOKEN), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, "bad_credentials")
    assert http.urls == [USER_URL]


@pytest.mark.parametrize("before", [[], [NOT_FOUND]])
@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (BAD_CREDENTIALS, PermanentError, "bad_credentials"),
        (LIMITED, TransientError, "rate_limited"),
        (said(429, b"", retry_after="9"), TransientError, "rate_limited"),
        (said(502, b"<html>"), TransientError, "upstream_error"),
        (said(200, b"<html>"), TransientError, "bad_answer"),
        (said(401, b"<html>", x_github_request_id=None), TransientError, "intercepted"),
        (said(404, b"blocked", x_github_request_id=None), TransientError, "intercepted"),
        (said(466, b"too old"), PermanentError, "client_not_supported"),
        (said(403, {"message": "x", "error_details": {}}), PermanentError, "copilot_denied"),
        (said(403, {"message": "x"}, x_github_sso="required"), PermanentError, "sso_required"),
        (said(403, {"message": "Maximum number of login attempts exceeded."}), TransientError,
         "login_locked_out"),
    ],
)  # fmt: skip
async def test_either_question_refused_is_told_as_anywhere(before, answer, kind, code):
    github, http = canned(*before, answer)
    assert (await failure_of(github.direct(TOKEN), kind)).code == code
    assert len(http.asked) == len(before) + 1


async def test_an_odd_token_is_never_sent():
    github, http = canned(NOT_FOUND)
    failure = await failure_of(github.direct(GitHubToken(f"{CANARY}\r\nX: 1")), PermanentError)
    assert (failure.error_class, http.asked) == (ErrorClass.LOGIN_REQUIRED, [])


# The exchange: which host, in which order.

GOOD = {"token": "t=1:mac", "expires_at": 2_000_000_000, "refresh_in": 1500}
PROXIED = GOOD | {"token": "t=1;proxy-ep=proxy.individual.githubcopilot.com:mac"}
INDIVIDUAL = (
    "https://api.individual.githubcopilot.com",
    "https://proxy.individual.githubcopilot.com",
)
LOCAL = "http://127.0.0.1:4000"


@pytest.mark.parametrize(
    ("body", "plan", "settings", "bases"),
    [
        (GOOD, "auto", {}, GENERIC),
        (PROXIED, "auto", {}, INDIVIDUAL),
        (PROXIED, "business", {}, BUSINESS),
        (GOOD, "business", {}, BUSINESS),
        (PROXIED | named(), "individual", {}, (BUSINESS[0], INDIVIDUAL[1])),
        (GOOD | named(proxy=BUSINESS[1]), "individual", {}, BUSINESS),
        (GOOD | named(proxy="https://evil.example"), "auto", {}, (BUSINESS[0], GENERIC[1])),
        (GOOD | named("HTTPS://API.Business.githubcopilot.com:443/"), "auto", {},
         (BUSINESS[0], GENERIC[1])),
        (PROXIED, "business", {"copilot": LOCAL}, (LOCAL, BUSINESS[1])),
        (PROXIED, "auto", {"copilot": LOCAL}, (LOCAL, INDIVIDUAL[1])),
        (PROXIED, "auto", {"copilot": LOCAL, "completions": LOCAL}, (LOCAL, LOCAL)),
        (GOOD | named(), "auto", {"copilot": LOCAL}, (BUSINESS[0], GENERIC[1])),
        (GOOD | {"token": "proxy-ep=proxy.evil.example:m"}, "auto", {}, GENERIC),
        (GOOD | {"token": "proxy-ep=copilot-api.acme.ghe.com:m"}, "auto", {}, GENERIC),
    ],
)  # fmt: skip
async def test_order_of_what_names_a_host(body, plan, settings, bases):
    github, _ = canned(said(200, body), **settings)
    assert bases_of(await github.exchange(TOKEN, plan)) == bases


@pytest.mark.parametrize("plan", ["auto", "individual", "business", "enterprise"])
async def test_a_tenants_token_is_served_by_the_tenant(plan):
    acme = ("https://copilot-api.acme.ghe.com", "https://copilot-proxy.acme.ghe.com")
    own = {"endpoints": {"api": acme[0] + "/", "proxy": acme[1]}}
    for body in (GOOD, PROXIED, GOOD | own):
        github, http = canned(said(200, body), host="acme.ghe.com")
        assert bases_of(await github.exchange(TOKEN, plan)) == acme
        assert http.urls == ["https://api.acme.ghe.com/copilot_internal/v2/token"]


async def test_the_tokens_own_word_for_the_plan_stands_in_for_a_missing_one():
    for sku, told in (("monthly_subscriber", "monthly_subscriber"), (7, "x"), ("\x1b[0m", "x")):
        github, _ = canned(said(200, GOOD | {"token": "sku=x:m", "sku": sku}))
        assert (await github.exchange(TOKEN)).sku == told
