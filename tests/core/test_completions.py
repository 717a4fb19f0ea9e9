"""What a caller may have in a completion: paths and headers."""

import pytest

from brokerd.core.completions import (
    ALLOWED_HEADERS,
    ALLOWED_PATHS,
    MAX_HEADER_VALUE,
    MAX_SESSION_TOKEN,
    TURN_PATHS,
    CompletionRequest,
    UpstreamCall,
    checked_headers,
    engine_model,
    engine_path,
    normal_path,
)
from brokerd.errors import ErrorClass, PermanentError


def refusal(function, *given):
    with pytest.raises(PermanentError) as caught:
        function(*given)
    failure = caught.value.failure
    assert failure.error_class is ErrorClass.USAGE
    assert failure.hint
    return failure


@pytest.mark.parametrize("path", ALLOWED_PATHS)
def test_every_spelling_has_one_normal_form(path):
    bare = path.removeprefix("/").removeprefix("v1/")
    for text in (bare, f"/{bare}", f"v1/{bare}", f"/v1/{bare}"):
        assert normal_path(text) == path


@pytest.mark.parametrize(
    ("segment", "model", "normal"),
    [
        ("gpt-41-copilot", "gpt-41-copilot", "gpt-41-copilot"),
        ("a/b", "a/b", "a%2Fb"),
        ("a%2fb", "a/b", "a%2Fb"),
        ("a%2525", "a%25", "a%2525"),
        ("a%3Fx", "a?x", "a%3Fx"),
        ("v1.5:x", "v1.5:x", "v1.5%3Ax"),
        ("x" * 200, "x" * 200, "x" * 200),
    ],
)
def test_a_path_of_an_engine_names_its_model(segment, model, normal):
    for lead in ("", "/", "v1/", "/v1/"):
        path = normal_path(f"{lead}engines/{segment}/completions")
        assert path == f"/v1/engines/{normal}/completions" == engine_path(model)
        assert engine_model(path) == engine_model(f"{lead}engines/{segment}/completions") == model
    assert normal_path(path) == path


@pytest.mark.parametrize(
    "segment",
    ["", "/", "a/", "/a", ".", "..", "a/../b", "a%2f..%2fb", "%2e%2e", "a b", "a%20b", "a?b", "a#b",
     "%00", "%0d%0a", "%ff", "%e2%82%ac", "€", "x" * 201, "%41" * 201, "a\nb"],
)  # fmt: skip
def test_a_path_of_no_engine_is_refused(segment):
    path = f"/v1/engines/{segment}/completions"
    assert engine_model(path) is None
    failure = refusal(normal_path, path)
    assert failure.code == "path_not_allowed"
    assert "/v1/engines/MODEL/completions" in failure.message


@pytest.mark.parametrize("model", ["", "..", "a/../b", "a b", "€", "x" * 201, "a\r\nb"])
def test_what_cannot_be_a_model_makes_no_path(model):
    assert refusal(engine_path, model).code == "bad_model"


def test_what_names_the_model_is_the_body_or_the_path():
    body = b'{"model": "in the body"}'
    assert CompletionRequest(body).naming is body
    path = engine_path('odd"model')
    assert CompletionRequest(body, path).naming == b'{"model": "odd\\"model"}'


def test_the_paths_are_those_of_the_copilot_api():
    assert set(ALLOWED_PATHS) == {
        "/chat/completions",
        "/responses",
        "/v1/messages",
        "/embeddings",
        "/models/session",
    }
    assert {"/chat/completions", "/responses", "/v1/messages"} == TURN_PATHS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/v1",
        "/models",
        "/models/session/x",
        "/models/gpt/policy",
        "/v1/messages/count_tokens",
        "/v1/v1/messages",
        "/agents",
        "/v1/v1/chat/completions",
        "//chat/completions",
        "/chat/completions/",
        "/chat/completions?x=1",
        "/chat/completions#x",
        "/chat/../chat/completions",
        "/Chat/Completions",
        "https://example.com/chat/completions",
        "/chat/completions\r\nx: y",
        "/chat%2fcompletions",
        "/copilot_internal/v2/token",
    ],
)
def test_every_other_path_is_refused_naming_the_allowed_ones(text):
    failure = refusal(normal_path, text)
    assert failure.code == "path_not_allowed"
    assert "/chat/completions" in failure.message.partition("allowed: ")[2]
    assert "\n" not in failure.message


def test_a_long_path_is_not_repeated_whole():
    assert len(refusal(normal_path, "x" * 100_000).message) < 250


def test_no_headers_are_no_headers():
    assert checked_headers({}) == {}


def test_names_are_lowered_and_values_left_alone():
    given = {"X-Initiator": "Agent", "OPENAI-INTENT": "conversation-panel", "accept": " a, b "}
    assert checked_headers(given) == {
        "x-initiator": "Agent",
        "openai-intent": "conversation-panel",
        "accept": " a, b ",
    }


@pytest.mark.parametrize("name", sorted(ALLOWED_HEADERS))
def test_each_allowed_header_passes(name):
    assert checked_headers({name.title(): "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "cookie",
        "user-agent",
        "editor-version",
        "copilot-integration-id",
        "x-initiator ",
        "x-initiator\r\nauthorization",
        "x\u212a",
        "",
        b"x-initiator",
        7,
        None,
    ],
)
def test_other_names_are_refused_and_named(name):
    failure = refusal(checked_headers, {name: "secret-value"})
    assert failure.code == "header_not_allowed"
    assert "secret-value" not in str(failure)
    assert not isinstance(name, str) or repr(name) in failure.message
    assert "x-initiator" in failure.hint


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a\r\nb",
        "a\nb",
        "a\tb",
        "a\x00b",
        "a\x7fb",
        "caf\u00e9",
        "\u2028",
        "x" * (MAX_HEADER_VALUE + 1),
        b"user",
        7,
        None,
        True,
        ["user"],
    ],
)
def test_a_value_that_is_no_line_of_printable_ascii_is_refused(value):
    failure = refusal(checked_headers, {"X-Initiator": value})
    assert failure.code == "bad_header"
    assert "x-initiator" in failure.message


def test_the_longest_value_passes():
    assert checked_headers({"accept": "x" * MAX_HEADER_VALUE})
    assert checked_headers({"copilot-session-token": "x" * MAX_SESSION_TOKEN})
    too_long = {"copilot-session-token": "x" * (MAX_SESSION_TOKEN + 1)}
    assert str(MAX_SESSION_TOKEN) in refusal(checked_headers, too_long).message


def test_a_name_given_twice_is_refused():
    failure = refusal(checked_headers, {"accept": "a", "Accept": "b"})
    assert failure.code == "bad_header"


def test_neither_the_prompt_nor_the_token_is_in_a_repr():
    session = {"copilot-session-token": "canary-session"}
    request = CompletionRequest(body=b"canary-prompt", headers=session)
    call = UpstreamCall(
        "github.com", "https://api.example.com", "canary-token", "/x", b"canary", session
    )
    assert "canary" not in repr(request) + repr(call)
