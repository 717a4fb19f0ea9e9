"""What refusals of the Copilot API mean: each row, each shape of body, and nothing unfit to show."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.refusals import explain, explain_event, explain_whole, with_terms
from brokerd.core.refusals.words import MAX_MESSAGE, MAX_READ, MAX_URL, read_words
from brokerd.errors import ErrorClass, Failure


NOW = 1_780_000_000.0
GITHUB = {"x-github-request-id": "ABCD:1"}
USAGE, DENIED, TEMPORARY = ErrorClass.USAGE, ErrorClass.DENIED, ErrorClass.TEMPORARY
LIMIT_CODES = (
    "rate_limited",
    "user_global_rate_limited",
    "user_weekly_rate_limited",
    "integration_rate_limited",
    "agent_mode_limit_exceeded",
    "quota_exceeded",
    "extension_blocked",
    "something_new",
)


def refusal(status, body=b"", headers=GITHUB):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return explain(status, headers, body, now=NOW)


def failure(status, body=b"", headers=GITHUB):
    return refusal(status, body, headers).failure


def coded(code, message="Because", **more):
    return {"error": {"message": message, "code": code, **more}}


# Every row.


@pytest.mark.parametrize(
    ("status", "code", "error_class", "limits", "in_hint"),
    [
        (400, "model_not_supported", USAGE, "nothing", "models enable ID"),
        (400, "model_not_available_for_integrator", USAGE, "nothing", "another app"),
        (400, "unsupported_api_for_model", USAGE, "nothing", "supported_endpoints"),
        (400, "model_max_prompt_tokens_exceeded", USAGE, "nothing", "Send less"),
        (400, "previous_response_not_found", USAGE, "nothing", "whole conversation"),
        (400, "store_not_supported", USAGE, "nothing", '"store": false'),
        (400, "invalid_request_body", USAGE, "nothing", "Change the request"),
        (400, "something_new", USAGE, "nothing", "Change the request"),
        (402, "quota_exceeded", DENIED, "nothing", "copilot-cred status"),
        (402, "free_quota_exceeded", DENIED, "nothing", "renewed every month"),
        (402, "overage_limit_reached", DENIED, "nothing", "billing settings"),
        (402, "billing_not_configured", DENIED, "nothing", "billing settings"),
        (402, "something_new", DENIED, "nothing", "copilot-cred status"),
        (413, "request_too_large", USAGE, "nothing", "Send less"),
        (429, "user_model_rate_limited", TEMPORARY, "model", "Another model"),
        (429, "model_overloaded", TEMPORARY, "model", "Another model"),
        (429, "user_weekly_rate_limited", TEMPORARY, "account", "with the week"),
        *[(429, code, TEMPORARY, "account", "copilot-cred status") for code in LIMIT_CODES],
    ],
)
def test_every_code_has_a_class_and_a_next_step(status, code, error_class, limits, in_hint):
    found = refusal(status, coded(code))
    assert refusal(status, coded(f"{code}:global-chat:user")) == found
    assert found.limits == limits
    said = found.failure
    assert (said.error_class, said.code) == (error_class, code)
    assert said.message == f"GitHub Copilot answered {status}: Because"
    assert in_hint in said.hint
    assert (said.retry_after is not None) == (limits != "nothing")


@pytest.mark.parametrize(
    ("status", "body", "error_class", "in_hint"),
    [
        (400, b"bad request", USAGE, "Change the request"),
        (401, b"unauthorized: token expired", DENIED, "copilot-cred refresh"),
        (401, b"IDE token expired: unauthorized: token expired", DENIED, "copilot-cred refresh"),
        (
            401,
            b"unauthorized: Personal Access Token does not have Copilot Requests permission",
            DENIED,
            "login --with-token",
        ),
        (402, b"out of budget", DENIED, "copilot-cred status"),
        (403, b"unauthorized: not authorized to use this Copilot feature\n", DENIED, "allow it"),
        (403, b"forbidden: access denied", DENIED, "allow it"),
        (404, b"model not found", USAGE, "copilot-cred models"),
        (405, b"no", USAGE, "Change the request"),
        (408, b"slow", TEMPORARY, "copilot-cred status"),
        (413, b"Request Entity Too Large", USAGE, "Send less"),
        (421, b"Misdirected Request", TEMPORARY, "copilot-cred refresh"),
        (422, b"Filtered", DENIED, "other words"),
        (424, b"Failed dependency", TEMPORARY, "copilot-cred status"),
        (429, b"Too many", TEMPORARY, "copilot-cred status"),
        (466, b"bad request: the specified API version is no longer", DENIED, "copilot_api_vers"),
        (499, b"cancelled", TEMPORARY, "copilot-cred status"),
        (500, b"oops", TEMPORARY, "copilot-cred status"),
        (502, b"bad gateway", TEMPORARY, "copilot-cred status"),
        (503, b"provider limit", TEMPORARY, "Another model"),
        (504, b"timeout", TEMPORARY, "copilot-cred status"),
        (529, b"overloaded", TEMPORARY, "copilot-cred status"),
    ],
)
def test_a_status_alone_says_what_it_means(status, body, error_class, in_hint):
    said = failure(status, body)
    assert (said.error_class, said.code) == (error_class, f"upstream_{status}")
    assert said.message == f"GitHub Copilot answered {status}: {body.decode().strip()}"
    assert in_hint in said.hint
    silent = failure(status)
    assert silent.error_class is error_class
    assert silent.message.startswith(f"GitHub Copilot answered {status}: ")
    assert len(silent.message) > len("GitHub Copilot answered 400: ")


def test_each_hint_ends_in_a_command():
    codes = ["x", *LIMIT_CODES, "model_not_supported", "unsupported_api_for_model"]
    for status in range(300, 600):
        for body in (b"", AUTHORIZE, *(json.dumps(coded(code)).encode() for code in codes)):
            step = failure(status, body).hint.rpartition(": ")[2]
            assert step.startswith(("copilot-cred ", "systemctl ")), (status, body)


def test_what_came_compressed_is_not_shown():
    packed = {**GITHUB, "content-encoding": "gzip"}
    assert failure(400, b"\x1f\x8b\x08 off_topic", packed) == failure(400)


def test_a_text_that_is_a_code_is_one():
    said = failure(400, b"off_topic\n")
    assert (said.code, said.error_class) == ("off_topic", DENIED)
    assert failure(400, b"Forbidden").code == "upstream_400"


def test_too_long_a_prompt_is_known_under_another_name():
    message = "prompt token count of 200000 exceeds the limit of 128000"
    said = failure(400, coded("invalid_request_body", message))
    assert said.code == "invalid_request_body"
    assert "Send less" in said.hint


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("https://github.com/orgs/octo/sso?authorization_request=A1", True),
        ("https://github.com.evil.example/orgs/octo/sso", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("header", ["required; url={}", 'Required; URL="{}"'])
def test_single_sign_on_names_its_page(page, shown, header):
    headers = {"x-github-sso": header.format(page)}
    said = failure(403, b"Resource protected", headers | GITHUB)
    assert (said.code, said.error_class) == ("sso_required", DENIED)
    assert said.url == (page if shown else None)


def test_a_redirect_is_said_to_be_one():
    said = failure(302, b"<html>Moved")
    assert (said.code, said.error_class) == ("redirect_refused", TEMPORARY)


# Limits.


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 60.0),
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": "465000"}, 465000.0),
        ({"retry-after": "nonsense"}, 60.0),
        (
            {
                "retry-after": "Thu, 28 May 2026 10:00:30 GMT",
                "date": "Thu, 28 May 2026 10:00:00 GMT",
            },
            30.0,  # by upstream's own clock
        ),
        ({"retry-after": "Thu, 28 May 2026 20:27:10 GMT"}, 30.0),
    ],
)
def test_a_limit_says_how_long_it_lasts(headers, expected):
    assert failure(429, b"no", GITHUB | headers).retry_after == expected


def test_a_provider_without_room_is_left_alone_for_a_while():
    found = refusal(503)
    assert (found.limits, found.failure.retry_after) == ("model", 10.0)
    assert failure(503, b"", {"retry-after": "33"}).retry_after == 33.0


@pytest.mark.parametrize("headers", [{"retry-after": "9"}, {"x-ratelimit-remaining": "0"}])
def test_a_403_may_be_a_limit(headers):
    found = refusal(403, b"secondary rate limit", GITHUB | headers)
    assert (found.limits, found.failure.error_class) == ("account", TEMPORARY)
    assert found.failure.retry_after == float(headers.get("retry-after", 60))
    assert refusal(403, b"no", GITHUB | {"x-ratelimit-remaining": "7"}).limits == "nothing"


def test_other_refusals_may_name_a_time_and_limit_nothing():
    found = refusal(402, coded("quota_exceeded"), GITHUB | {"retry-after": "3600"})
    assert (found.limits, found.failure.retry_after) == ("nothing", 3600.0)
    assert refusal(500).failure.retry_after is None


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_outage_that_names_a_time_is_left_alone_so_long(status):
    found = refusal(status, b"oops", GITHUB | {"retry-after": "20"})
    assert (found.limits, found.is_guess, found.failure.retry_after) == ("model", False, 20.0)
    assert refusal(status, b"oops", GITHUB | {"retry-after": "soon"}).limits == "nothing"


def test_the_limit_of_the_week_is_known_by_its_key():
    key = {"x-ratelimit-exceeded": "global-chat:global-cogs-7-day-key:user"}
    assert "with the week" in failure(429, coded("rate_limited"), GITHUB | key).hint
    key = {"x-ratelimit-exceeded": "x:global-usage-5-hour-key:y"}
    assert "with the week" not in failure(429, coded("rate_limited"), GITHUB | key).hint


# Whoever answered.


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 466, 499])
def test_a_4xx_that_is_not_githubs_names_the_proxy_in_between(status):
    said = failure(status, b"blocked", {"server": "squid"})
    assert said.hint == f"A proxy or firewall may have answered in GitHub's place. {rest(status)}"
    assert said.error_class is failure(status).error_class, "the status still acts"


@pytest.mark.parametrize("status", [401, 403, 404, 407])
@pytest.mark.parametrize("page", [b"<html>sign in", b"\xef\xbb\xbf\r\n <!DOCTYPE html>"])
def test_a_web_page_without_githubs_id_is_nobodys_verdict(status, page):
    said = failure(status, page, {"server": "squid"})
    assert (said.code, said.error_class) == ("intercepted", TEMPORARY)
    assert f"in between answered {status} in GitHub Copilot's place" in said.message
    assert failure(status, page).code != "intercepted", "it bears the id"
    assert failure(502, page, {}).code == "upstream_502"


def rest(status):
    return failure(status, b"blocked").hint


def test_a_5xx_may_come_without_an_id():
    assert "firewall" not in failure(502, b"<html>", {}).hint


# Shapes of bodies.


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "No such model.", "code": "gone"}}',
        b'{"message": "No such model.", "code": "gone"}',
        b'  {"error": {"message": "\\u001b]0;No\\u202esuch\\u0007 model.", "code": "gone:now"}}\n',
        b'{"error": {"message": "No such model.", "type": "gone", "code": null}}',
        b'{"type": "error", "error": {"type": "gone", "message": "No such model"}}',
        b'{"error": {"code": "gone"}, "message": "No such model"}',
        b'{"error": {"message": "No such model"}, "code": "gone"}',
    ],
)
def test_words_and_code_are_found_wherever_they_are(body):
    said = failure(418, body)
    assert said.code == "gone"
    assert said.message.removeprefix("GitHub Copilot answered 418: ").endswith("No such model")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"plain words\n", "plain words"),
        (b'"a string"', "a string"),
        (b'{"error": "a string"}', "a string"),
        (b"cut {off", "cut {off"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"  <!DOCTYPE html><title>Nope</title>", ""),
        (b"<html>", ""),
        (b"[1, 2]", ""),
        (b"17", ""),
        (b"null", ""),
        (b"{}", ""),
        (b'{"error": null}', ""),
        (b'{"error": {"message": 7, "code": []}}', ""),
        (b'{"error": ' + b"[" * 50_000, None),
        (b"", ""),
    ],
)
def test_odd_bodies_are_read_as_far_as_they_go(body, words):
    found = read_words(body)
    assert found.code == ""
    assert found.url is None
    assert words is None or found.message == words
    assert len(found.message) <= MAX_MESSAGE


def test_long_words_are_cut():
    message = read_words(b"x" * 100_000).message
    assert (len(message), message[-1]) == (MAX_MESSAGE, "…")


@given(st.text() | st.text(alphabet="\u202e\u200b\x1b\x00\x9b\ud800\n a", max_size=50))
def test_what_is_shown_is_one_printable_line(text):
    for body in (coded("x_y", text), {"message": text}, text):
        said = failure(400, json.dumps(body).encode())
        assert said.message.isprintable()
        said.message.encode()
        assert len(said.message) <= MAX_MESSAGE + 40


@given(st.binary(max_size=300) | st.builds(json.dumps, st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "url", "authorize_url"]), inner
    ),
)).map(str.encode))  # fmt: skip
def test_no_body_is_too_odd(body):
    for status in (400, 401, 429, 503):
        said = failure(status, body, {})
        assert said.code
        assert said.message
    explain_event(b"data: " + body + b"\n\n")
    explain_event(b'data: {"error"' + body)
    explain_whole(body)
    explain_whole(b'{"error": {"code": ' + body)


# What is before the JSON, and JSON that is cut off.


def test_a_byte_order_mark_is_no_word():
    mark = b"\xef\xbb\xbf"
    assert failure(400, mark + json.dumps(coded("odd", "Why")).encode()).code == "odd"
    assert failure(502, mark + b"<html>busy</html>").message.endswith("it is out of order")
    assert failure(400, mark + b"off_topic").code == "off_topic"


@pytest.mark.parametrize("long", ["message", "padding"])
def test_what_was_read_of_a_long_refusal_counts(long):
    found = {"code": "model_max_prompt_tokens_exceeded", "message": "Too long. "}
    found[long] = found.get(long, "") + "é\n" * MAX_READ
    said = failure(400, json.dumps({"error": found}).encode()[:MAX_READ])
    assert said.code == "model_max_prompt_tokens_exceeded"
    assert said.message.startswith("GitHub Copilot answered 400: Too long")
    assert "{" not in said.message
    assert len(said.message) <= MAX_MESSAGE + 40


def test_json_may_be_cut_off_anywhere():
    whole = json.dumps({"error": {"code": "odd_one", "message": 'é \u2028 "so" it is'}}).encode()
    for size in range(len(whole)):
        said = failure(400, whole[:size])
        is_there = size >= whole.index(b'odd_one"') + len('odd_one"')
        assert said.code == ("odd_one" if is_there else "upstream_400")
        assert "\\" not in said.message


# Addresses.


AUTHORIZE = b'{"error": {"authorize_url": "https://agent.example.com/authorize?x=1"}}'


def test_an_agents_sign_in_may_be_anywhere():
    said = failure(401, AUTHORIZE)
    assert said.url == "https://agent.example.com/authorize?x=1"
    assert "open the page" in said.hint
    assert failure(401, b'{"authorize_url": "https://example.com"}').url == "https://example.com"


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        ("https://github.com/settings/copilot", True),
        ("https://docs.github.com/x", True),
        ("https://octo.ghe.com/x", True),
        ("https://github.com.example.com/", False),
        ("https://notgithub.com/", False),
        ("http://github.com/", False),
        ("https://x@github.com/", False),
        ("https://github.com\\@example.com/", False),
        ("https://github.com:x/", False),
        ("https://[github.com/", False),
        ("https://github.com/\u202e", False),
        ("https://github.com/a b", False),
        ("https://github.com/" + "x" * MAX_URL, False),
        ("javascript:alert(1)", False),
        (7, False),
    ],
)
@pytest.mark.parametrize("name", ["url", "documentation_url"])
def test_other_pages_are_githubs_or_not_shown(url, is_shown, name):
    assert failure(403, coded("x", **{name: url})).url == (url if is_shown else None)
    assert failure(403, {"message": "x", name: url}).url == (url if is_shown else None)


@pytest.mark.parametrize(
    "url", ["http://agent.example.com/a", "javascript:alert(1)", "https://me@agent.example.com/"]
)
@pytest.mark.parametrize("beside", [{}, {"documentation_url": "https://docs.github.com/x"}])
def test_a_sign_in_that_cannot_be_shown_is_no_refused_token(url, beside):
    said = failure(401, {"error": {"authorize_url": url, **beside}})
    assert said.url == beside.get("documentation_url")
    assert said.message.endswith("a remote agent wants a sign-in")
    assert "cannot be shown" in said.hint
    assert "refresh" not in said.hint
    assert url not in str(said)


@pytest.mark.parametrize("url", ["http://example.com", "https://a@b", "https://x\n", "", None, {}])
def test_an_agents_odd_address_is_not_shown(url):
    assert failure(401, {"authorize_url": url}).url is None


# A model whose terms nobody accepted.


def entry(model, state):
    return {"id": model, "policy": {"state": state, "terms": "…"}}


@pytest.mark.parametrize("state", ["disabled", "unconfigured", "pending", "requires_consent"])
def test_unaccepted_terms_are_named_with_the_command(state):
    said = failure(400, coded("model_not_supported"))
    better = with_terms(said, "claude-x", [{"id": "a"}, entry("claude-x", state)])
    assert better.hint.endswith(": copilot-cred models enable claude-x")
    assert (better.code, better.message) == (said.code, said.message)


@pytest.mark.parametrize(
    ("code", "model", "models"),
    [
        ("model_not_supported", "m", []),
        ("model_not_supported", "m", [{"id": "m"}]),
        ("model_not_supported", "m", [entry("m", "enabled")]),
        ("model_not_supported", "m", [{"id": "m", "policy": "odd"}]),
        ("model_not_supported", "other", [entry("m", "disabled")]),
        ("model_not_supported", "m; rm", [entry("m; rm", "disabled")]),
        ("something_else", "m", [entry("m", "disabled")]),
    ],
)
def test_other_refusals_keep_their_hint(code, model, models):
    said = failure(400, coded(code))
    assert with_terms(said, model, models) == said


# Errors in a stream.


def event(found):
    return b"data: " + json.dumps(found).encode() + b"\n\n"


CHUNK = event({"choices": [{"delta": {"content": 'say "error": {} again'}, "index": 0}]})


@pytest.mark.parametrize(
    ("found", "error_class", "code", "words"),
    [
        (coded("server_error", "It\u202e broke."), TEMPORARY, "server_error", ": It broke"),
        (coded("rate_limited:x", "Slow"), TEMPORARY, "rate_limited", ": Slow"),
        (coded("content_filter", "No"), DENIED, "content_filter", ": No"),
        (coded("quota_exceeded", "No"), DENIED, "quota_exceeded", ": No"),
        ({"error": "words"}, TEMPORARY, "upstream_error", ": words"),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Full"}},
            TEMPORARY,
            "overloaded_error",
            ": Full",
        ),
        ({"type": "error", "code": "odd", "message": "Why"}, TEMPORARY, "odd", ": Why"),
        (
            {"type": "response.failed", "response": {"error": {"code": "odd", "message": "Why"}}},
            TEMPORARY,
            "odd",
            ": Why",
        ),
        ({"choices": [{"finish_reason": "error"}]}, TEMPORARY, "upstream_error", ""),
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        (b"", b""),
        (CHUNK, CHUNK),
        (b'ta: {"cut": 1}\n\n', b'data: {"cut'),
        (b"event: error\r\n", b"\r\n"),
    ],
)
def test_an_error_among_events_is_explained(found, error_class, code, words, around):
    said = explain_event(around[0] + event(found) + around[1])
    assert (said.error_class, said.code) == (error_class, code)
    assert said.message == f"GitHub Copilot broke off{words}"
    assert said.hint.rpartition(": ")[2].startswith("copilot-cred ")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (json.dumps(coded("server_error", "It broke.")), "server_error", ": It broke"),
        (json.dumps(coded("server_error", "It broke."), indent=4), "server_error", ": It broke"),
        ("\ufeff" + json.dumps(coded("server_error")), "server_error", ": Because"),
        ('{"error": "words"}', "upstream_error", ": words"),
        ('{"id": "x", "choices": [], "error": {"message": "busy"}}', "upstream_error", ": busy"),
        ('{"type": "error", "error": {"type": "overloaded_error"}}', "overloaded_error", ""),
        ('{"status": "failed", "error": {"code": "odd", "message": "Why"}}', "odd", ": Why"),
    ],
)
def test_an_error_in_place_of_a_whole_answer_is_explained(body, code, words):
    said = explain_whole(body.encode())
    assert (said.error_class, said.code) == (TEMPORARY, code)
    assert said.message == f"GitHub Copilot answered with an error{words}"
    assert said.hint.rpartition(": ")[2].startswith("copilot-cred ")


def test_an_error_is_found_in_a_stream_taken_whole():
    said = explain_whole(CHUNK + event(coded("odd", "Why")))
    assert (said.code, said.message) == ("odd", "GitHub Copilot broke off: Why")


@pytest.mark.parametrize(
    "found",
    [
        {"error": None, "status": "completed", "output": []},
        {"choices": [{"message": {"content": '{"error": {"code": "spoken"}}'}}]},
        {"tools": [{"parameters": {"properties": {"error": {"type": "string"}}}}], "output": []},
        {"choices": [], "padding": "x" * 5000, "error": {"code": "far"}},
        {"error": {"code": "x" * 70_000}},
        [{"error": {"code": "list"}}],
    ],
)
def test_a_whole_answer_that_is_none_is_not_explained(found):
    assert explain_whole(json.dumps(found).encode()) is None


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        CHUNK,
        b"data: [DONE]\n\n",
        b': "error": {"message": "a comment"}\n\n',
        event({"type": "response.created", "response": {"error": None}}),
        event({"error": None, "choices": []}),
        event({"error": {}, "choices": []}),
        event({"choices": [{"finish_reason": "content_filter"}]}),
        event({"choices": [{"finish_reason": "stop"}]}),
        event({"choices": None, "copilot_errors": [{"type": "error"}]}),
        event({"choices": 7, "x": {"finish_reason": "error"}}),
        b'data: {"error": {"message": "cut',
        b'"error": {"message": "its beginning is missing"}}\n\n',
        b'data: "error": [\n',
    ],
)
def test_everything_else_is_no_error(chunk):
    assert explain_event(chunk) is None


def test_a_failure_holds_no_more_than_the_refusal_says():
    said = failure(400, coded("model_not_supported", "The requested model is not supported."))
    assert said == Failure(
        USAGE,
        "model_not_supported",
        "GitHub Copilot answered 400: The requested model is not supported",
        said.hint,
    )
