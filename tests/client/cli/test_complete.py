"""`copilot-cred complete`: each dialect, each wish, each file, and what is said of the cost."""

from __future__ import annotations

import base64
import json

import pytest

from client.cli.running import run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import Stream, WireServer


CHAT, RESPONSES, MESSAGES = "/chat/completions", "/responses", "/v1/messages"
VISION = {
    "max_prompt_images": 2,
    "max_prompt_image_size": 100,
    "supported_media_types": ["image/png", "image/jpeg"],
}


def entry(name, *endpoints, sees=True):
    limits = {"vision": VISION, "max_output_tokens": 99} if sees else {"max_output_tokens": 99}
    return {
        "id": name,
        "supported_endpoints": list(endpoints),
        "billing": {"multiplier": 0.33},
        "capabilities": {"type": "chat", "limits": limits, "supports": {"vision": sees}},
    }


MODELS = {
    "account": "default",
    "models": [
        entry("talker", CHAT, MESSAGES) | {"is_chat_default": True},
        entry("codex", RESPONSES),
        entry("claude", MESSAGES),
        entry("blind", CHAT, sees=False),
    ],
}
PATHS = {"talker": CHAT, "codex": RESPONSES, "claude": MESSAGES, "unlisted": CHAT}
EVENTS = {"content-type": "text/event-stream"}

STREAMED = {
    CHAT: [
        {"model": "talker-1", "choices": [{"delta": {"content": "Hel"}}]},
        {"choices": [{"delta": {"content": "lo"}}]},
        {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 1200,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
        },
    ],
    RESPONSES: [
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.output_text.delta", "delta": "lo"},
        {
            "type": "response.completed",
            "response": {"model": "talker-1", "usage": {"input_tokens": 1200, "output_tokens": 2}},
        },
    ],
    MESSAGES: [
        {
            "type": "message_start",
            "message": {"model": "talker-1", "usage": {"input_tokens": 1200, "output_tokens": 0}},
        },
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}},
    ],
}
WHOLE = {
    CHAT: {"choices": [{"message": {"content": "Hello"}}]},
    RESPONSES: {"output": [{"type": "message", "content": [{"text": "Hello"}]}]},
    MESSAGES: {"content": [{"type": "text", "text": "Hello"}]},
}


def answer(params):
    path = params["path"]
    if not params.get("stream"):
        body = json.dumps(WHOLE[path]).encode()
        return {"status": 200, "headers": {}, "body": body, "account": "work"}
    done = ["data: [DONE]\n\n"] if path == CHAT else []
    told = [f"data: {json.dumps(event)}\n\n" for event in STREAMED[path]]
    return Stream(
        [text.encode() for text in told + done], None, 200, EVENTS, more={"account": "work"}
    )


@pytest.fixture
def server():
    with WireServer({"models.list": MODELS, "completion.create": answer}) as server:
        yield server


def complete(server, *args, **options):
    return run("complete", *args, env=server.env, **options)


def asked(server):
    [params] = server.calls("completion.create")
    return params["path"], json.loads(params["body"])


# -- each model on an endpoint that it speaks -----------------------------------------------------


@pytest.mark.parametrize("how", [[], ["--no-stream"]], ids=["stream", "whole"])
@pytest.mark.parametrize(("model", "path"), PATHS.items())
def test_a_model_is_asked_on_its_own_endpoint(server, model, path, how):
    done = complete(server, "--model", model, *how, "why?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello\n", "")
    [params] = server.calls("completion.create")
    assert params["path"] == path
    assert params["headers"]["x-initiator"] == "user"
    assert ("anthropic-version" in params["headers"]) is (path == MESSAGES)
    assert json.loads(params["body"])["stream"] is not bool(how)


def test_all_wishes_in_the_words_of_chat_completions(server):
    complete(server, *WISHES, "--stop", "END", "--stop", "FIN", "--json-mode", "why?")
    assert asked(server)[1] == {
        "model": "talker",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "why?"},
        ],
        "max_tokens": 9,
        "stop": ["END", "FIN"],
        "response_format": {"type": "json_object"},
        "temperature": 0.5,
        "stream": True,
    }


WISHES = ["--system", "be brief", "--temperature", "0.5", "--max-tokens", "9"]
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}


def test_all_wishes_in_the_words_of_responses(server, tmp_path):
    (tmp_path / "schema").write_text(json.dumps(SCHEMA))
    named = {"type": "json_schema", "name": "answer", "strict": True, "schema": SCHEMA}
    expected = {
        "model": "codex",
        "input": [{"role": "user", "content": "why?"}],
        "store": False,
        "instructions": "be brief",
        "max_output_tokens": 9,
        "text": {"format": named},
        "temperature": 0.5,
        "stream": True,
    }
    schema = ["--schema", str(tmp_path / "schema")]
    complete(server, "--model", "codex", *WISHES, *schema, "why?")
    assert asked(server)[1] == expected
    server.requests.clear()
    complete(server, "--model", "codex", *WISHES, "--json-mode", "why?")
    assert asked(server)[1] == expected | {"text": {"format": {"type": "json_object"}}}


def test_all_wishes_in_the_words_of_messages(server, tmp_path):
    (tmp_path / "schema").write_text(json.dumps(SCHEMA))
    schema = ["--schema", str(tmp_path / "schema")]
    complete(server, "--model", "claude", *WISHES, *schema, "--stop", "END", "why?")
    expected = {
        "model": "claude",
        "messages": [{"role": "user", "content": "why?"}],
        "max_tokens": 9,
        "system": "be brief",
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "temperature": 0.5,
        "stream": True,
    }
    assert asked(server)[1] == expected
    server.requests.clear()
    complete(server, "--model", "claude", "why?")
    assert asked(server)[1]["max_tokens"] == 99  # the model's own bound: one has to be there


def test_a_schema_in_the_words_of_chat_completions(server, tmp_path):
    (tmp_path / "schema").write_text(json.dumps(SCHEMA))
    complete(server, "--schema", str(tmp_path / "schema"), "why?")
    named = {"name": "answer", "strict": True, "schema": SCHEMA}
    expected = {"type": "json_schema", "json_schema": named}
    assert asked(server)[1]["response_format"] == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "codex", "--stop", "x"], "codex is asked on /responses"),
        (["--model", "claude", "--json-mode"], "claude is asked on /v1/messages"),
    ],
)
def test_what_an_endpoint_has_no_words_for_is_told(server, options, words):
    done = complete(server, *options, "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.endswith("copilot-cred models\n")
    assert server.calls("completion.create") == []


def test_a_list_that_cannot_be_had_just_now_does_not_keep_a_named_model_from_answering(server):
    server.answers["models.list"] = ErrorInfo(ErrorClass.TEMPORARY, "busy", "slow down", "wait")
    assert complete(server, "--model", "m", "x").stdout == "Hello\n"
    assert asked(server)[0] == CHAT
    assert complete(server, "x").returncode == 7
    server.answers["models.list"] = ErrorInfo(ErrorClass.LOGIN_REQUIRED, "out", "out", "login")
    assert complete(server, "--model", "m", "x").returncode == 4


@pytest.mark.parametrize("model", ["codex", "claude"])
@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "code": "x", "message": "no"},
        {"type": "response.failed", "response": {"error": {"code": "x"}}},
        {"type": "error", "error": {"type": "overloaded_error"}},
    ],
    ids=["error", "failed", "Anthropic's"],
)
def test_an_error_in_the_midst_of_any_dialect_is_no_success(server, model, error):
    told = [
        b'data: {"type": "response.output_text.delta", "delta": "Hel"}\n\n',
        f"data: {json.dumps(error)}\n\n".encode(),
    ]
    refusal = ErrorInfo(ErrorClass.TEMPORARY, "overloaded", "slow down", "wait", None, 9.0)
    server.answers["completion.create"] = Stream(told, None, 200, EVENTS, refusal=refusal)
    done = complete(server, "--model", model, "x")
    assert (done.returncode, done.stdout) == (7, "Hel\n")
    assert "slow down" in done.stderr


# -- what goes with a question --------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + b"png"
JPEG = b"\xff\xd8\xff\xe0jpeg"
ENCODED = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{ENCODED}"


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (
            "talker",
            [
                {"type": "text", "text": "what?"},
                {"type": "image_url", "image_url": {"url": DATA_URL}},
            ],
        ),
        (
            "codex",
            [
                {"type": "input_text", "text": "what?"},
                {"type": "input_image", "image_url": DATA_URL},
            ],
        ),
        (
            "claude",
            [
                {"type": "text", "text": "what?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": ENCODED},
                },
            ],
        ),
    ],
)
def test_a_picture_goes_along_in_the_words_of_the_dialect(server, tmp_path, model, parts):
    (tmp_path / "no-matter.txt").write_bytes(PNG)  # what it is, its bytes say
    done = complete(server, "--model", model, "--attach", str(tmp_path / "no-matter.txt"), "what?")
    assert (done.returncode, done.stdout) == (0, "Hello\n")
    _, body = asked(server)
    [message] = body.get("messages") or body["input"]
    assert message["content"] == parts


def test_texts_stand_after_the_question_with_their_names(server, tmp_path):
    (tmp_path / "a.c").write_text("int a;")
    (tmp_path / "b.md").write_text("```\nfenced\n````\n")
    (tmp_path / "c.png").write_bytes(PNG)
    named = [f"--attach={tmp_path / name}" for name in ("a.c", "c.png", "b.md")]
    complete(server, *named, "compare:", stdin="and this\n")
    [message] = asked(server)[1]["messages"]
    text, picture = message["content"]
    assert text["text"] == (
        "compare:\n\nand this\n\n"
        f"{tmp_path}/a.c:\n```\nint a;\n```\n\n"
        f"{tmp_path}/b.md:\n`````\n```\nfenced\n````\n`````"
    )
    assert picture["type"] == "image_url"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x7fELF\x02\x01\x01\0\0", "neither text (UTF-8) nor a PNG"),
        (b"\xff\xfea\0", "neither text (UTF-8) nor a PNG"),
        (b"x" * (8 * 1024 * 1024 + 1), "more than 8 MiB of text"),
        (PNG + b"x" * 100, "has 111 bytes, talker takes 100 at most"),
        (b"GIF89a", "image/gif, which talker does not take"),
        (None, "No such file"),
        ("folder", "Is a directory"),
        ("/dev/zero", "more than 20 MiB"),
    ],
    ids=["empty", "ELF", "UTF-16", "long", "large", "type", "missing", "folder", "endless"],
)
def test_what_cannot_go_along_costs_no_question(server, tmp_path, data, words):
    name = tmp_path / "x\x1b[2J"
    if data == "folder":
        name.mkdir()
    elif isinstance(data, str):
        name.symlink_to(data)
    elif data is not None:
        name.write_bytes(data)
    done = complete(server, "--attach", str(name), "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "\x1b" not in done.stderr
    assert "  hint: " in done.stderr
    assert server.calls("completion.create") == []


def test_a_model_that_does_not_see_is_sent_no_picture(server, tmp_path):
    (tmp_path / "a").write_bytes(JPEG)
    one = ["--attach", str(tmp_path / "a")]
    done = complete(server, "--model", "blind", *one, "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "blind takes no pictures" in done.stderr
    done = complete(server, *one * 3, "x")
    assert "takes 2 pictures at most, these are 3" in done.stderr
    assert server.calls("completion.create") == []
    assert complete(server, "--model", "unlisted", *one, "x").returncode == 0
    assert "data:image/jpeg;base64," in json.dumps(asked(server)[1])


@pytest.mark.parametrize("text", ["[1]", "{", "", "[" * 100_000])
def test_a_schema_that_is_none(server, tmp_path, text):
    (tmp_path / "schema").write_text(text)
    done = complete(server, "--schema", str(tmp_path / "schema"), "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no JSON Schema" in done.stderr
    assert server.calls("completion.create") == []


def test_json_mode_and_a_schema_are_one_wish(server):
    assert complete(server, "--json-mode", "--schema", "x", "x").returncode == 2


# -- what it has cost -----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["talker", "codex", "claude"])
def test_v_tells_the_cost_on_stderr(server, model):
    done = complete(server, "-v", "--model", model, "x")
    assert (done.returncode, done.stdout) == (0, "Hello\n")
    cached = " (4 cached)" if model == "talker" else ""
    assert done.stderr.startswith(f"copilot-cred: talker-1: 1,200 tokens in{cached}, 2 out, "), (
        done.stderr
    )
    assert done.stderr.endswith(" s, account work, premium 0.33\n")
    assert ("stream_options" in asked(server)[1]) is (model == "talker")


def test_v_says_what_it_does_not_know(server):
    done = complete(server, "-v", "--no-stream", "--model", "unlisted", "x")
    assert done.stderr.startswith("copilot-cred: unlisted: ? tokens in, ? out, ")
    assert done.stderr.endswith(" s, account work\n")
