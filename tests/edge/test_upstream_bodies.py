"""Every body cut short, replaced or of other types: a clear error or a good answer, nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.errors import BrokerError, ErrorClass
from brokerd.upstream import parsing
from brokerd.upstream.bodies import fields_of, is_intercepted
from fakes.canned_github import CANARY, TOKEN, canned, said


CODE = DeviceCode(CANARY, "WDJB-MJHT", "https://github.com/login/device", 900, 5)
PAGE = "https://github.com/login/device"
ENDPOINTS = {
    "api": "https://api.individual.githubcopilot.com",
    "proxy": "https://proxy.individual.githubcopilot.com",
    "telemetry": "https://telemetry.individual.githubcopilot.com",
}
ENVELOPE = {
    "can_signup_for_limited": True,
    "error_details": {
        "message": f"You are logged in as {CANARY}.",
        "notification_id": "no_copilot_access",
        "title": "Sign up",
        "url": "https://github.com/github-copilot/signup?editor={EDITOR}",
    },
    "message": "Resource not accessible by integration",
}
STANDARD = {"message": "Bad credentials", "documentation_url": "https://x", "status": "401"}

# name → what asks, the status, a good body; what comes of it is one of these types.
QUESTIONS = {
    "device": (
        lambda github: github.request_device_code("c", "read:user"),
        200,
        {"device_code": CANARY, "user_code": "WDJB-MJHT", "verification_uri": PAGE,
         "expires_in": 900, "interval": 5},
    ),
    "device-refused": (
        lambda github: github.request_device_code("c", ""), 404, {"error": "Not Found"}
    ),
    "poll": (
        lambda github: github.poll_device_grant("c", CODE),
        200,
        {"access_token": f"ghu_{CANARY}", "token_type": "bearer", "scope": "a,b",
         "expires_in": 28800, "refresh_token": f"ghr_{CANARY}"},
    ),
    "poll-pending": (
        lambda github: github.poll_device_grant("c", CODE),
        200,
        {"error": "slow_down", "error_description": "…", "interval": 10},
    ),
    "renew": (
        lambda github: github.renew("c", TOKEN),
        200,
        {"access_token": f"ghu_{CANARY}", "refresh_token": f"ghr_{CANARY}", "expires_in": 28800},
    ),
    "renew-refused": (
        lambda github: github.renew("c", TOKEN), 200, {"error": "bad_refresh_token"}
    ),
    "user": (lambda github: github.identify(TOKEN), 200, {"id": 1, "login": "a", "name": None}),
    "user-refused": (lambda github: github.identify(TOKEN), 401, STANDARD),
    "exchange": (
        lambda github: github.exchange(TOKEN),
        200,
        {"token": "tid=1;exp=2000000000:mac", "expires_at": 2_000_000_000, "refresh_in": 1500,
         "sku": "monthly_subscriber", "endpoints": ENDPOINTS, "limited_user_quotas": None},
    ),
    "exchange-refused": (lambda github: github.exchange(TOKEN), 403, ENVELOPE),
    "exchange-limited": (
        lambda github: github.exchange(TOKEN), 403, {"message": "API rate limit exceeded for x"}
    ),
    "direct": (
        lambda github: github.direct(TOKEN),
        200,
        {"login": "a", "copilot_plan": "business", "access_type_sku": "x", "endpoints": ENDPOINTS},
    ),
    "revoke": (lambda github: github.revoke(TOKEN), 202, {}),
    "revoke-refused": (lambda github: github.revoke(TOKEN), 422, {"message": "Invalid"}),
}  # fmt: skip
GOOD = (CopilotToken, DeviceCode, GitHubToken, NotGranted, User, type(None))
ODD = [None, True, 0, -1, 1.5, 10**30, "", "x", "\x1b[0m", "\ud800", [], [None], {}, {"a": []}]
HTML = b"<!DOCTYPE html><html><body><h1>Sign in to our network</h1></body></html>"


async def outcome(name, body, **headers):
    """What comes of the question; held to be a value, or an error with words and a command."""
    ask, status, _ = QUESTIONS[name]
    github, _ = canned(said(status, body, **headers))
    try:
        found = await ask(github)
    except BrokerError as error:
        failure = error.failure
        assert failure.code
        assert failure.message
        assert "copilot-cred " in failure.hint
        assert CANARY not in str(failure)
        return failure
    assert isinstance(found, GOOD)
    assert CANARY not in repr(found)
    return found


def mutations(value):
    """The value with each of its parts, however deep, replaced by each odd one, and left out."""
    yield from ODD
    if isinstance(value, dict):
        for key, each in value.items():
            rest = {other: kept for other, kept in value.items() if other != key}
            yield rest
            for odd in mutations(each):
                yield rest | {key: odd}


@pytest.mark.parametrize("name", QUESTIONS)
async def test_the_good_body_is_understood(name):
    found = await outcome(name, QUESTIONS[name][2])
    assert isinstance(found, GOOD) is not name.endswith(("-refused", "-limited"))


@pytest.mark.parametrize("name", QUESTIONS)
async def test_cut_after_every_tenth_byte(name):
    whole = json.dumps(QUESTIONS[name][2]).encode()
    for length in range(0, len(whole), 10):
        found = await outcome(name, whole[:length])
        if QUESTIONS[name][1] == 200:
            assert (found.error_class, found.code) == (ErrorClass.TEMPORARY, "bad_answer")


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("body", [HTML, b"", b"\x00\xff", b"null", b"[" * 100_000, b"9" * 9999])
@pytest.mark.parametrize("request_id", ["0123:ABCD", None])
async def test_replaced_by_something_else(name, body, request_id):
    found = await outcome(name, body, x_github_request_id=request_id)
    status = QUESTIONS[name][1]
    if status == 200:
        assert (found.error_class, found.code) == (ErrorClass.TEMPORARY, "bad_answer")
    elif request_id is None and status >= 400:
        assert (found.error_class, found.code) == (ErrorClass.TEMPORARY, "intercepted")


@pytest.mark.parametrize("name", QUESTIONS)
async def test_every_field_of_every_other_type(name):
    for body in mutations(QUESTIONS[name][2]):
        for request_id in ("0123:ABCD", None):
            await outcome(name, body, x_github_request_id=request_id)


@pytest.mark.parametrize("name", ["user-refused", "exchange-refused", "renew-refused"])
async def test_no_mangled_body_without_githubs_id_costs_a_login(name):
    whole = json.dumps(QUESTIONS[name][2]).encode()
    for length in range(0, len(whole), 10):
        found = await outcome(name, whole[:length], x_github_request_id=None)
        assert found.error_class is ErrorClass.TEMPORARY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*QUESTIONS["exchange"][2], *ENDPOINTS, *ENVELOPE, "error", "data"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(QUESTIONS)), JSON, st.sampled_from(["0123:ABCD", None]))
def test_any_json(name, body, request_id):
    asyncio.run(outcome(name, body, x_github_request_id=request_id))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(QUESTIONS)),
    st.binary(max_size=200),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", "é"]),
)
def test_any_bytes_under_any_type(name, body, content_type):
    asyncio.run(outcome(name, body, content_type=content_type))


# Headers.


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["date", "age", "retry_after", "x_github_sso", "x_ratelimit_remaining",
             "x_ratelimit_reset", "x_oauth_scopes", "content_type"]
        ),
        st.text(max_size=40) | st.sampled_from(["0", "-1", "1e400", "required; url=\x00"]),
    )
)  # fmt: skip
def test_any_headers(headers):
    for name in QUESTIONS:
        asyncio.run(outcome(name, QUESTIONS[name][2], **headers))


# Whose body it is.


def test_a_form_with_too_many_fields_says_nothing():
    answer = said(
        200,
        b"&".join(b"a%d=1" % n for n in range(1000)),
        content_type="application/x-www-form-urlencoded",
    )
    assert fields_of(answer) is None


@pytest.mark.parametrize(
    ("status", "body", "request_id", "intercepted"),
    [
        (404, b"x", None, True),
        (404, b"x", "", True),
        (404, b"x", "1", False),
        (404, {"message": 7}, None, False),
        (404, {"error": "x"}, None, False),
        (404, [{"message": "x"}], None, True),
        (302, b"x", None, False),
        (500, b"x", None, False),
        (200, b"x", None, False),
    ],
)
def test_who_has_answered(status, body, request_id, intercepted):
    assert is_intercepted(said(status, body, x_github_request_id=request_id)) is intercepted


# The model list.


@pytest.mark.parametrize(
    "entry",
    [None, 7, [], {}, {"id": ""}, {"id": 7}, {"id": "x", "name": "\ud800"}, {"\ud800": 1, "id": "x"},
     {"id": "x", "limit": 10**30}, {"id": "x", "limit": float("nan")}, {"id": "\udfff"}],
)  # fmt: skip
def test_broken_entries_do_not_hide_the_others(entry):
    good = {"id": "gpt-5", "capabilities": {"limits": {"a": 1.5, "b": [True, None, "é"]}}}
    answer = said(200, {"data": [entry, good, {"id": "gpt-5", "name": "later"}]})
    assert parsing.models(answer) == [good]


def test_entries_too_deep_to_pass_on_are_left_out():
    deep: object = "x"
    for _ in range(100):
        deep = [deep]
    assert parsing.models(said(200, {"data": [{"id": "a", "deep": deep}, {"id": "b"}]})) == [
        {"id": "b"}
    ]


@pytest.mark.parametrize("body", [HTML, {}, {"data": None}, {"data": {"id": "a"}}, [], 7])
def test_what_is_no_model_list_is_a_bad_answer(body):
    with pytest.raises(BrokerError, match="bad_answer"):
        parsing.models(said(200, body))
