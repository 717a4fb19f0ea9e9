"""What every refusal of GitHub's becomes: who refused, a stable code, words and a next step."""

from __future__ import annotations

import pytest

from brokerd.core.tokens import DeviceCode
from brokerd.errors import BrokerError, ErrorClass, PermanentError, TransientError
from brokerd.upstream.notifications import NOTIFICATIONS
from fakes.canned_github import CANARY, TOKEN, canned, failure_of, said


SIGN_UP = "https://github.com/github-copilot/signup?editor=copilot-broker"
SUPPORT = "https://support.github.com"
CODE = DeviceCode(CANARY, "WDJB-MJHT", "https://github.com/login/device", 900, 5)


async def refused(answer, kind, **more):
    github, http = canned(answer, **more)
    failure = await failure_of(github.exchange(TOKEN), kind)
    assert len(http.asked) == 1
    return failure


# Who refused.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 410, 421, 422, 429, 451, 466, 499])
@pytest.mark.parametrize(
    "body", [b"", b"Access denied", b"<html>sign in to our network</html>", b"[]", b"7", {},
             {"detail": "blocked"}, b"\xff\xfe"]
)  # fmt: skip
async def test_a_4xx_that_is_not_githubs_never_costs_a_login(status, body):
    failure = await refused(said(status, body, x_github_request_id=None), TransientError)
    assert (failure.code, failure.retry_after) == ("intercepted", 60)
    assert "in https://api.github.com's place" in failure.message
    assert f"({status})" in failure.message


async def test_what_is_in_between_may_name_its_time():
    answer = said(403, b"busy", x_github_request_id=None, retry_after="300")
    assert (await refused(answer, TransientError)).retry_after == 300


@pytest.mark.parametrize("body", [{"message": "Bad credentials"}, {"error": "x"}])
async def test_githubs_words_without_its_id_are_believed_with_a_doubt(body):
    failure = await refused(said(401, body, x_github_request_id=None), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, "bad_credentials")
    assert "proxy or firewall" in failure.hint
    assert failure.hint.endswith("copilot-cred login")
    plain = await refused(said(401, body), PermanentError)
    assert "proxy" not in plain.hint


async def test_a_404_without_githubs_id_decides_nothing_for_good():
    body = {"message": "Not Found"}
    assert (await refused(said(404, body), PermanentError)).code == "exchange_not_found"
    failure = await refused(said(404, body, x_github_request_id=None), PermanentError)
    assert failure.code == "not_found"


@pytest.mark.parametrize("status", [400, 401, 404])
@pytest.mark.parametrize(
    "question",
    [
        lambda github: github.request_device_code("c", ""),
        lambda github: github.poll_device_grant("c", CODE),
        lambda github: github.identify(TOKEN),
        lambda github: github.renew("c", TOKEN),
        lambda github: github.revoke(TOKEN),
    ],
    ids=["device", "poll", "user", "renew", "revoke"],
)
async def test_a_captive_portal_is_told_at_every_question(status, question):
    github, _ = canned(said(status, b"<html>", x_github_request_id=None))
    assert (await failure_of(question(github), TransientError)).code == "intercepted"


# Entitlement.


def envelope(notification, url="https://evil.example/x", status=403):
    details = {
        "message": f"You are currently logged in as {CANARY}.",
        "notification_id": notification,
        "title": "Sign up",
        "url": url,
    }
    return said(status, {"error_details": details, "message": "…", "can_signup_for_limited": True})


def test_all_seventeen_ids_are_known():
    assert len(NOTIFICATIONS) == 17
    sentences = {notice.sentence for notice in NOTIFICATIONS.values()}
    assert len(sentences) == 17


@pytest.mark.parametrize("notification", [*NOTIFICATIONS, "an_id_of_tomorrow", 7, None, []])
async def test_an_id_has_a_code_a_sentence_a_step_and_no_page_elsewhere(notification):
    failure = await refused(envelope(notification), PermanentError)
    known = isinstance(notification, str) and notification in NOTIFICATIONS
    assert failure.error_class is ErrorClass.DENIED
    assert failure.code == (notification if known else "copilot_denied")
    assert failure.hint.endswith(", then: copilot-cred refresh")
    assert failure.url is None or failure.url.startswith(("https://github.com/", SUPPORT))


@pytest.mark.parametrize(
    ("notification", "page", "word"),
    [
        ("no_copilot_access", SIGN_UP, "Sign up"),
        ("not_signed_up", SIGN_UP, "Sign up"),
        ("subscription_ended", "https://github.com/settings/copilot", "Renew"),
        ("enterprise_managed_user_account", None, "administrator"),
        ("server_error", SUPPORT, "support"),
        ("feature_flag_blocked", SUPPORT, "support"),
        ("spammy_user", SUPPORT, "support"),
        ("snippy_not_configured", SUPPORT, "support"),
        ("billing_locked", "https://github.com/settings/billing", "Settle"),
        ("programmatic_token_generation", SUPPORT, "other tools"),
        ("go_http_client", None, "Update"),
    ],
)
async def test_each_class_is_sent_to_the_right_door(notification, page, word):
    failure = await refused(envelope(notification), PermanentError)
    assert failure.url == page
    assert word in failure.hint


async def test_the_page_that_github_names_comes_first_and_has_our_name_in_it():
    url = "https://github.com/github-copilot/else?editor={EDITOR}"
    failure = await refused(envelope("no_copilot_access", url), PermanentError)
    assert failure.url == "https://github.com/github-copilot/else?editor=copilot-broker"
    assert (await refused(envelope("spammy_user", url), PermanentError)).url == SUPPORT


@pytest.mark.parametrize("url", [None, 7, ["x"], "http://github.com/x", "javascript:0", ""])
async def test_an_odd_page_is_none(url):
    assert (await refused(envelope("no_copilot_access", url), PermanentError)).url == SIGN_UP


@pytest.mark.parametrize("details", [None, [], "x", 7])
async def test_an_envelope_without_details_is_an_ordinary_403(details):
    answer = said(403, {"error_details": details, "message": "…"})
    assert (await refused(answer, PermanentError)).code == "forbidden"


# Single sign-on.

PAGE = "https://github.com/orgs/acme/sso?authorization_request=A1"
SAML = "Resource protected by organization SAML enforcement. You must grant your OAuth token …"


@pytest.mark.parametrize(
    ("header", "page"),
    [
        (f"required; url={PAGE}", PAGE),
        (f"required;url={PAGE};x=y", PAGE),
        (f" required ; x=y; url={PAGE}", PAGE),
        (f"REQUIRED; URL={PAGE}", PAGE),
        (f'Required; Url = "{PAGE}" ; x=y', PAGE),
        ("required; curl=https://github.com/x", None),
        ('required; url="https://evil.example/"', None),
        ("required", None),
        ("required; url=", None),
        ("required; url=https://evil.example/orgs/acme/sso", None),
        ("required; url=javascript:alert(1)", None),
    ],
)
async def test_single_sign_on_names_a_page_only_of_githubs(header, page):
    failure = await refused(said(403, {"message": SAML}, x_github_sso=header), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "sso_required")
    assert failure.url == page
    assert ("one hour" in failure.hint) is (page is not None)
    assert failure.hint.endswith("copilot-cred refresh")


@pytest.mark.parametrize("status", [403, 404])
async def test_single_sign_on_is_told_by_the_sentence_alone(status):
    failure = await refused(said(status, {"message": SAML}), PermanentError)
    assert (failure.code, failure.url) == ("sso_required", None)
    assert "authorize" in failure.hint


async def test_partial_results_are_no_refusal():
    header = "partial-results; organizations=1,2"
    answer = said(403, {"message": "x"}, x_github_sso=header)
    assert (await refused(answer, PermanentError)).code == "forbidden"


# Limits and lock-outs.

PRIMARY = {"message": "API rate limit exceeded for user ID 1."}
SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait."}
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (said(403, PRIMARY, x_ratelimit_remaining="0", x_ratelimit_reset="784112377", date=DATE),
         600),
        (said(403, PRIMARY), 60),
        (said(403, SECONDARY), 60),
        (said(429, SECONDARY, retry_after="30"), 30),
        (said(429, b"<html>slow down</html>"), 60),
        (said(429, {}, retry_after="465000"), 465000),
        (said(429, {}, retry_after="Sun, 06 Nov 1994 12:09:37 GMT", date=DATE), 12000),
        (said(429, {}, x_ratelimit_user_retry_after="7"), 7),
        (said(404, {"message": "x"}, retry_after="5"), 5),
        (said(422, {"message": "x"}, retry_after="soon"), 60),
    ],
)  # fmt: skip
async def test_every_form_of_a_limit_says_how_long(answer, seconds):
    failure = await refused(answer, TransientError)
    assert (failure.code, failure.retry_after) == ("rate_limited", seconds)
    assert failure.message == "GitHub limits the rate of requests", "it is read again later"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_limit_does_not_hide_what_is_wrong(status):
    body = {"message": "Bad credentials"} if status == 401 else {"error_details": {}}
    answer = said(status, body, retry_after="5")
    assert (await refused(answer, PermanentError)).retry_after is None


@pytest.mark.parametrize(
    "message",
    ["Maximum number of login attempts exceeded. Please try again later.",
     "login attempts exceeded", "MAXIMUM NUMBER OF LOGIN ATTEMPTS"],
)  # fmt: skip
async def test_a_lock_out_says_that_other_tools_are_hit_too(message):
    failure = await refused(said(403, {"message": message}), TransientError)
    assert (failure.code, failure.retry_after) == ("login_locked_out", 900)
    assert "other tools too" in failure.message
    answer = said(403, {"message": message}, retry_after="90")
    assert (await refused(answer, TransientError)).retry_after == 90


# All else.


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (204, b"", TransientError, "bad_answer"),
        (202, {"message": "x"}, TransientError, "bad_answer"),
        (302, b"", TransientError, "redirect_refused"),
        (400, {"message": "x"}, PermanentError, "upstream_refused"),
        (400, {"message": "API version 2025-04-01 is not supported"}, PermanentError,
         "client_not_supported"),
        (402, b"pay", PermanentError, "upstream_refused"),
        (403, b"Request forbidden by administrative rules.", PermanentError, "forbidden"),
        (403, {"message": 7}, PermanentError, "forbidden"),
        (408, b"", TransientError, "upstream_error"),
        (410, {"message": "Gone"}, PermanentError, "client_not_supported"),
        (421, b"Misdirected Request", TransientError, "misdirected"),
        (451, b"legal", PermanentError, "legally_unavailable"),
        (466, b"bad request: the specified API version is no longer supported.", PermanentError,
         "client_not_supported"),
        (500, {"message": "x"}, TransientError, "upstream_error"),
        (503, b"<html>", TransientError, "upstream_error"),
        (599, b"\x00", TransientError, "upstream_error"),
        (999, b"", TransientError, "upstream_error"),
    ],
)  # fmt: skip
async def test_the_rest_by_status(status, body, kind, code):
    assert (await refused(said(status, body), kind)).code == code


async def test_an_outage_passes_on_its_time_under_its_own_name():
    failure = await refused(said(503, b"", retry_after="120"), TransientError)
    assert (failure.code, failure.retry_after) == ("upstream_error", 120)


async def test_githubs_own_sentences_are_not_passed_on():
    sentence = f"{CANARY} is not allowed"
    for status in (400, 401, 403, 404, 422, 451, 466, 500):
        await refused(said(status, {"message": sentence}), BrokerError)
        await refused(said(status, sentence.encode()), BrokerError)
