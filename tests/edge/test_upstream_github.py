"""What each answer of GitHub becomes, over real HTTP."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.errors import ErrorClass, PermanentError, TransientError
from brokerd.upstream.notifications import NOTIFICATIONS
from fakes.canned_github import CANARY, failure_of
from fakes.simulated import CLIENT_ID, EXCHANGE, simulated


CODE = DeviceCode(CANARY, "WDJB-MJHT", "https://github.com/login/device", 900, 5)
POLL = "/login/oauth/access_token"
GOOD = {"token": "t=1:mac", "expires_at": 2_000_000_000, "refresh_in": 1500}


@pytest.fixture
async def it():
    async with simulated(device_interval=0) as pair:
        yield pair


# The device authorization grant.


async def test_device_grant_from_code_to_token(it):
    code = await it.github.request_device_code(CLIENT_ID, "read:user")
    assert code.verification_uri == f"{it.simulator.url}/login/device"
    assert (code.expires_in, code.interval) == (900, 0)
    assert await it.github.poll_device_grant(CLIENT_ID, code) == NotGranted(
        "authorization_pending", None
    )
    assert it.simulator.world.decide(code.user_code, approve=True)
    token = await it.github.poll_device_grant(CLIENT_ID, code)
    assert isinstance(token, GitHubToken)
    assert token.expires_in is None
    assert await it.github.identify(token) == User(583231, "octocat")


@pytest.mark.parametrize(
    "error",
    [
        "authorization_pending",
        "expired_token",
        "token_expired",
        "access_denied",
        "incorrect_device_code",
        "incorrect_client_credentials",
        "unsupported_grant_type",
        "device_flow_disabled",
        "an_error_of_tomorrow",
    ],
)
@pytest.mark.parametrize("status", [200, 400])
async def test_every_poll_answer_is_told_as_github_spells_it(it, error, status):
    it.fault(POLL, status, {"error": error, "error_description": "…"})
    assert await it.github.poll_device_grant(CLIENT_ID, CODE) == NotGranted(error, None)


async def test_slow_down_brings_its_interval():
    async with simulated(device_interval=7) as it:
        code = await it.github.request_device_code(CLIENT_ID, "")
        await it.github.poll_device_grant(CLIENT_ID, code)
        answer = await it.github.poll_device_grant(CLIENT_ID, code)
        assert answer == NotGranted("slow_down", 12)


@pytest.mark.parametrize("interval", ["ten", None, True, -1, [5], {}])
async def test_slow_down_with_an_odd_interval_has_none(it, interval):
    it.fault(POLL, 200, {"error": "slow_down", "interval": interval})
    assert await it.github.poll_device_grant(CLIENT_ID, CODE) == NotGranted("slow_down", None)


async def test_expiring_token_keeps_its_refresh_token():
    async with simulated(auto_approve=True, github_token_expires_in=28800) as it:
        code = await it.github.request_device_code(CLIENT_ID, "")
        token = await it.github.poll_device_grant(CLIENT_ID, code)
        assert token.expires_in == 28800
        assert token.refresh_token
        assert token.refresh_token not in repr(token)


async def test_a_form_is_understood_where_json_was_asked_for(it):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    it.fault(POLL, 200, f"access_token={CANARY}&token_type=bearer&scope=a%2Cb", headers=headers)
    token = await it.github.poll_device_grant(CLIENT_ID, CODE)
    assert token == GitHubToken(CANARY, scope="a,b")


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", {"access_token": ""}, {"error": 5}, {"access_token": 7}]
)
async def test_poll_answer_that_says_nothing_is_transient(it, body):
    it.fault(POLL, 200, body)
    failure = await failure_of(it.github.poll_device_grant(CLIENT_ID, CODE), TransientError)
    assert failure.code == "bad_answer"


async def test_token_that_cannot_stand_in_a_header_is_none(it):
    it.fault(POLL, 200, {"access_token": f"{CANARY}\r\nX-Evil: 1"})
    failure = await failure_of(it.github.poll_device_grant(CLIENT_ID, CODE), TransientError)
    assert failure.code == "bad_answer"


async def test_unknown_client_id_is_a_matter_of_configuration():
    async with simulated(known_clients=["mine"]) as it:
        failure = await failure_of(it.github.request_device_code("theirs", ""), PermanentError)
        assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "client_id_unknown")
        assert "--client-id, or client_id" in failure.hint
        assert "config.toml" in failure.hint
        assert "proxy" not in failure.hint


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("error", ["device_flow_disabled", "unauthorized_client"])
async def test_device_flow_switched_off(it, status, error):
    it.fault("/login/device/code", status, {"error": error})
    failure = await failure_of(it.github.request_device_code(CLIENT_ID, ""), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "device_flow_disabled")


@pytest.mark.parametrize(
    "change",
    [
        {"verification_uri": None},
        {"verification_uri": "https://github.com.evil.example/login/device"},
        {"verification_uri": "http://github.com/login/device"},
        {"verification_uri": "file:///etc/passwd"},
        {"verification_uri": "--help"},
        {"user_code": "\x1b]0;owned\x07"},
        {"user_code": 12345678},
        {"device_code": None},
    ],
)
async def test_device_code_that_cannot_be_shown_is_refused(it, change):
    good = {
        "device_code": CANARY,
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://github.com/login/device",
    }
    it.fault("/login/device/code", 200, good | change)
    it.fault("/login/device/code", 200, good)
    failure = await failure_of(it.github.request_device_code(CLIENT_ID, ""), TransientError)
    assert failure.code == "bad_answer"
    code = await it.github.request_device_code(CLIENT_ID, "")
    assert (code.expires_in, code.interval) == (900, 5)
    assert CANARY not in repr(code)


# Whose token it is.


@pytest.mark.parametrize(
    "body", [{}, {"id": "1", "login": "a"}, {"id": True, "login": "a"}, {"id": 1, "login": "\x1b"}]
)
async def test_user_without_id_and_login_is_a_bad_answer(it, body):
    it.fault("/user", 200, body)
    failure = await failure_of(it.github.identify(it.token()), TransientError)
    assert failure.code == "bad_answer"


async def test_single_sign_on_names_the_page_to_open(it):
    page = "https://github.com/orgs/acme/sso?authorization_request=A1"
    it.fault("/user", 403, {"message": "…"}, headers={"X-GitHub-SSO": f"required; url={page}"})
    failure = await failure_of(it.github.identify(it.token()), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "sso_required")
    assert failure.url == page


async def test_single_sign_on_page_elsewhere_is_not_shown(it):
    header = "required; url=https://evil.example/orgs/acme/sso"
    it.fault("/user", 403, {}, headers={"X-GitHub-SSO": header})
    assert (await failure_of(it.github.identify(it.token()))).url is None


# The exchange: three fields strictly, all else leniently.


@pytest.mark.parametrize("form", ["full", "minimal", "odd"])
async def test_exchange_reads_every_form(form):
    async with simulated(exchange_form=form, token_lifetime=1800, refresh_in=1500) as it:
        token = await it.github.exchange(it.token())
        assert it.simulator.world.accepts_copilot_token(token.value)
        assert token.refresh_in == 1500
        assert 1798 <= token.lifetime <= 1800
        assert token.api_base == it.simulator.url
        assert token.sku == "monthly_subscriber"
        assert token.value not in repr(token)


@pytest.mark.parametrize("field", ["token", "expires_at", "refresh_in"])
@pytest.mark.parametrize("value", [None, "", [], {}, True, "soon"])
async def test_exchange_is_strict_about_three_fields(it, field, value):
    if (field, value) == ("token", "soon"):
        value = "two words"
    it.fault(EXCHANGE, 200, GOOD | {field: value})
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert failure.code == "bad_answer"
    assert field in failure.message


@pytest.mark.parametrize("text", ['"expires_at":NaN', '"expires_at":1e999', '"refresh_in":-5'])
async def test_exchange_refuses_times_that_are_none(it, text):
    name = text.split(":")[0]
    rest = ",".join(
        part
        for part in ('"token":"t:m"', '"expires_at":2000000000', '"refresh_in":1500')
        if not part.startswith(name)
    )
    it.fault(EXCHANGE, 200, "{" + rest + "," + text + "}")
    assert (await failure_of(it.github.exchange(it.token()))).code == "bad_answer"


@pytest.mark.parametrize("endpoints", [None, 7, [], {"api": None}, {"api": ["x"]}, {"proxy": "x"}])
async def test_missing_or_odd_endpoints_fall_back(it, endpoints):
    it.fault(EXCHANGE, 200, GOOD | {"endpoints": endpoints})
    assert (await it.github.exchange(it.token())).api_base == it.simulator.url


async def test_endpoint_of_a_plan_is_adopted_without_its_slash(it):
    it.fault(
        EXCHANGE, 200, GOOD | {"endpoints": {"api": "https://api.business.githubcopilot.com/"}}
    )
    token = await it.github.exchange(it.token())
    assert token.api_base == "https://api.business.githubcopilot.com"


@pytest.mark.parametrize(
    "api",
    [
        "https://evil.example",
        "http://api.githubcopilot.com",
        "https://githubcopilot.com.evil.example",
        "https://evilgithubcopilot.com",
        "https://user@api.githubcopilot.com",
        "https://api.githubcopilot.com:8443",
        "https://api.githubcopilot.com/else",
        "https://copilot-api.acme.ghe.com",
        "nonsense",
    ],
)
async def test_endpoint_outside_the_allow_list_is_refused(it, api):
    it.fault(EXCHANGE, 200, GOOD | {"token": CANARY, "endpoints": {"api": api}})
    failure = await failure_of(it.github.exchange(it.token()), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "api_base_refused")


@pytest.mark.parametrize("offset", [-86400 * 400, 86400 * 400])
async def test_lifetime_is_told_by_githubs_clock_not_ours(offset):
    async with simulated(clock_offset=offset, token_lifetime=1800) as it:
        assert 1798 <= (await it.github.exchange(it.token())).lifetime <= 1800


# Of a clock that is ahead, and of one that is a day behind.
@pytest.mark.parametrize(
    "date",
    [
        None,
        "yesterday",
        formatdate(2_000_000_001, usegmt=True),
        formatdate(2_000_000_000 - 86401, usegmt=True),
    ],
)
async def test_lifetime_without_a_usable_date_follows_refresh_in(it, date):
    it.fault(EXCHANGE, 200, GOOD, headers={"Date": date})
    assert (await it.github.exchange(it.token())).lifetime == 1560


@pytest.mark.parametrize("refresh_in", [0, -5, "0", -1e308])
async def test_a_good_token_without_a_time_to_renew_it_is_renewed_in_time(it, refresh_in):
    headers = {"Date": formatdate(2_000_000_000 - 1800, usegmt=True)}
    it.fault(EXCHANGE, 200, GOOD | {"refresh_in": refresh_in}, headers=headers)
    token = await it.github.exchange(it.token())
    assert (token.lifetime, token.refresh_in) == (1800, 1350)


async def test_a_token_of_which_no_time_is_told_is_not_lent(it):
    it.fault(EXCHANGE, 200, GOOD | {"refresh_in": 0}, headers={"Date": None})
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert (failure.code, "refresh_in" in failure.message) == ("bad_answer", True)


async def test_time_in_a_cache_does_not_count_as_life(it):
    headers = {"Date": formatdate(2_000_000_000 - 1800, usegmt=True), "Age": "300"}
    it.fault(EXCHANGE, 200, GOOD, headers=headers)
    assert (await it.github.exchange(it.token())).lifetime == 1500


@pytest.mark.parametrize("body", ["<html>hello</html>", "", "[1]", "null", "[" * 100_000, "\0"])
async def test_ok_that_is_not_json_is_transient(it, body):
    it.fault(EXCHANGE, 200, body)
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert failure.code == "bad_answer"


async def test_dead_login_says_how_to_sign_in(it):
    failure = await failure_of(it.github.exchange(GitHubToken(CANARY)), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, "bad_credentials")
    assert failure.hint == "Run: copilot-cred login"
    token = it.token()
    it.simulator.world.revoke_all()
    assert (await failure_of(it.github.identify(token))).code == "bad_credentials"


async def test_token_with_a_line_end_is_never_sent(it):
    failure = await failure_of(it.github.exchange(GitHubToken(f"{CANARY}\n")), PermanentError)
    assert failure.error_class is ErrorClass.LOGIN_REQUIRED
    assert it.paths() == []


@pytest.mark.parametrize("notification", [*NOTIFICATIONS, "an_id_of_tomorrow"])
async def test_missing_entitlement_has_a_stable_code(it, notification):
    it.simulator.world.settings.no_access = notification
    failure = await failure_of(it.github.exchange(it.token("mona")), PermanentError)
    assert failure.error_class is ErrorClass.DENIED
    assert failure.code == (notification if notification in NOTIFICATIONS else "copilot_denied")
    assert failure.url is None or failure.url.startswith("https://")
    assert failure.hint.endswith("copilot-cred refresh")
    assert "mona" not in str(failure)


async def test_entitlement_wins_over_limits(it):
    details = {"notification_id": "no_copilot_access"}
    headers = {"x-ratelimit-remaining": "0", "retry-after": "5"}
    it.fault(EXCHANGE, 403, {"error_details": details}, headers=headers)
    assert (await failure_of(it.github.exchange(it.token()))).code == "no_copilot_access"


@pytest.mark.parametrize(
    ("status", "body", "headers", "seconds"),
    [
        (403, {"message": "…"}, {"x-ratelimit-remaining": "0"}, 60),
        (403, {"message": "API rate limit exceeded for user ID 1."}, {}, 60),
        (403, {"message": "You have exceeded a secondary rate limit."}, {}, 60),
        (403, {"message": "…"}, {"retry-after": "30"}, 30),
        (429, "slow down", {}, 60),
        (429, {}, {"retry-after": "7"}, 7),
        (429, {}, {"retry-after": "0"}, 1),
        (429, {}, {"retry-after": "465000"}, 465000),
        (429, {}, {"retry-after": "soon"}, 60),
        (429, {}, {"retry-after": "nan"}, 60),
        (429, {}, {"retry-after": "1e9"}, 31 * 86400),
    ],
)
async def test_limits_are_waited_out(it, status, body, headers, seconds):
    it.fault(EXCHANGE, status, body, headers=headers)
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert (failure.code, failure.retry_after) == ("rate_limited", seconds)


async def test_retry_after_as_a_date_is_read_by_githubs_clock(it):
    now = time.time() + 86400
    headers = {
        "Date": formatdate(now, usegmt=True),
        "Retry-After": formatdate(now + 90, usegmt=True),
    }
    it.fault(EXCHANGE, 429, "", headers=headers)
    assert (await failure_of(it.github.exchange(it.token()))).retry_after == 90


async def test_reset_of_a_spent_limit_is_read_by_githubs_clock(it):
    headers = {
        "Date": formatdate(1_000_000, usegmt=True),
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": "1000600",
    }
    it.fault(EXCHANGE, 403, {}, headers=headers)
    assert (await failure_of(it.github.exchange(it.token()))).retry_after == 600


async def test_lock_out_after_bad_credentials_is_waited_out(it):
    body = {"message": "Maximum number of login attempts exceeded. Please try again later."}
    it.fault(EXCHANGE, 403, body)
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert (failure.code, failure.retry_after) == ("login_locked_out", 900)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "upstream_refused"), (403, "forbidden"), (404, "exchange_not_found"),
     (422, "upstream_refused"), (466, "client_not_supported")],
)  # fmt: skip
async def test_other_refusals_are_permanent(it, status, code):
    it.fault(EXCHANGE, status, {"message": "…"})
    failure = await failure_of(it.github.exchange(it.token()), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, code)
    assert "proxy or firewall" not in failure.hint


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 422, 451, 466])
async def test_refusal_of_nobodys_is_a_proxys_and_costs_nothing(it, status):
    it.fault(EXCHANGE, status, "blocked", headers={"x-github-request-id": None})
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert (failure.code, failure.retry_after) == ("intercepted", 60)
    assert f"({status})" in failure.message
    assert it.simulator.url in failure.message


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
async def test_outages_are_transient(it, status):
    it.fault(EXCHANGE, status, "<html><h1>Unicorn!</h1></html>")
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert (failure.code, failure.retry_after) == ("upstream_error", None)
    it.fault(EXCHANGE, 503, "", headers={"Retry-After": "120"})
    assert (await failure_of(it.github.exchange(it.token()))).retry_after == 120


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_refused(it, status):
    it.fault(EXCHANGE, status, "", headers={"Location": f"{it.simulator.url}/elsewhere"})
    failure = await failure_of(it.github.exchange(it.token()), TransientError)
    assert failure.code == "redirect_refused"
    assert it.paths() == [EXCHANGE]


async def test_another_apps_login_is_told_so():
    async with simulated(refused_clients=[CLIENT_ID]) as it:
        failure = await failure_of(it.github.exchange(it.token()), PermanentError)
        assert failure.code == "exchange_not_found"
        assert "client_id" in failure.hint


async def test_requests_bear_our_own_name_and_no_cookies(it):
    it.fault("/user", 200, {"id": 1, "login": "a"}, headers={"Set-Cookie": "session=1"})
    await it.github.identify(it.token())
    await it.github.exchange(it.token())
    headers = it.simulator.world.requests[-1].headers
    assert headers["user-agent"].startswith("copilot-broker/")
    assert headers["x-github-api-version"] == "2025-04-01"
    assert headers["authorization"].startswith("token sha256:")
    assert [len(client.cookies) for client in it.http._clients.values()] == [0]


# Models.


def models_of(it, token: CopilotToken):
    return it.copilot.models("github.com", token.api_base, token.value)


async def test_models_are_listed_once_and_well_formed(it):
    token = await it.github.exchange(it.token())
    models = await models_of(it, token)
    names = [model["id"] for model in models]
    assert len(names) == len(set(names)) >= 5
    assert models[0]["is_chat_default"] is True
    assert it.simulator.world.requests[-1].headers["openai-intent"] == "model-access"


async def test_dead_copilot_token_is_not_a_dead_login(it):
    token = CopilotToken("x=1:mac", 1800, 1500, it.simulator.url)
    failure = await failure_of(models_of(it, token), PermanentError)
    assert failure.code == "copilot_token_rejected"


async def test_copilot_token_goes_to_permitted_origins_only(it):
    token = CopilotToken(CANARY, 1800, 1500, "https://evil.example")
    assert (await failure_of(models_of(it, token))).code == "api_base_refused"


async def test_wrong_host_for_models_is_transient(it):
    token = await it.github.exchange(it.token())
    it.fault("/models", 421, "Misdirected Request")
    assert (await failure_of(models_of(it, token), TransientError)).code == "misdirected"
