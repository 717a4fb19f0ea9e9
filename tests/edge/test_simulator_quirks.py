"""The simulated Copilot's answers have the real ones' oddities, one by one and together."""

from __future__ import annotations

import json

import pytest

from brokerd.simulator.quirks import QUIRKS
from fakes.simulated_chat import ask, control, copilot, events, spoken


async def bent(http, name):
    """Ask twice for a quirk by its alias: (streamed text, whole object)."""
    streamed = await ask(http, f"sim-quirk-{name}", stream=True)
    assert streamed.status_code == 200
    return streamed.text, (await ask(http, f"sim-quirk-{name}")).json()


def of_null_choices(chunks):
    return [each for each in chunks if isinstance(each, dict) and each.get("choices", 0) is None]


def tool_deltas(chunks):
    return [
        call
        for each in chunks[:-1]
        for choice in each["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]


def check_comments(text, _):
    lines = text.split("\n")
    assert lines[0].startswith(":")
    assert sum(line.startswith(":") for line in lines) > 2


def check_prompt_filter(text, _):
    first, second = events(text)[:2]
    assert (first["choices"], first["id"]) == ([], "")
    assert first["prompt_filter_results"][0]["content_filter_results"]["hate"]["filtered"] is False
    assert second["choices"]


def check_references(text, _):
    assert of_null_choices(events(text))[0]["copilot_references"]


def check_errors(text, _):
    assert of_null_choices(events(text))[0]["copilot_errors"][0]["message"]


def check_confirmation(text, _):
    assert of_null_choices(events(text))[0]["copilot_confirmation"]["title"]


def check_function_role(text, _):
    assert events(text)[0]["choices"][0]["delta"]["role"] == "function"


def check_error_midstream(text, _):
    chunks = events(text)
    assert chunks[-1]["error"]["message"]
    assert spoken(chunks)
    assert not any("usage" in each for each in chunks)


def check_bare(text, whole):
    chunks = events(text)[:-1]
    assert not any("object" in each for each in [*chunks, whole])
    choices = [choice for each in [*chunks, whole] for choice in each["choices"]]
    assert not any("index" in each for each in choices)


def check_tool_repeat(text, whole):
    calls = tool_deltas(events(text))
    assert ["id" in each for each in calls] == [True, False, False]
    assert {each["function"]["name"] for each in calls} == {"get_weather"}
    arguments = "".join(each["function"]["arguments"] for each in calls)
    assert json.loads(arguments) == {"city": "Berlin"}
    assert events(text)[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["choices"][0]["message"]["tool_calls"][0]["id"]


def check_two_choices(text, whole):
    assert len(whole["choices"]) == 2
    assert whole["choices"][0]["message"]["content"]
    assert whole["choices"][1]["message"]["tool_calls"]
    indexes = {choice["index"] for each in events(text)[:-1] for choice in each["choices"]}
    assert indexes == {0, 1}
    assert tool_deltas(events(text))


def check_display_name(text, whole):
    assert {each["model"] for each in [*events(text)[:-1], whole]} == {
        "Simulated Model 4.5 (Preview)"
    }


def check_annotations(text, whole):
    choice, other = events(text)[1]["choices"][0], whole["choices"][0]
    assert choice["delta"]["copilot_annotations"]["IPCodeCitations"]
    assert other["message"]["copilot_annotations"]["IPCodeCitations"]
    assert choice["content_filter_results"] == other["content_filter_results"]


def check_finish_content_filter(text, whole, reason="content_filter"):
    assert events(text)[-2]["choices"][0]["finish_reason"] == reason
    assert whole["choices"][0]["finish_reason"] == reason


def check_finish_error(text, whole):
    check_finish_content_filter(text, whole, "error")


def check_usage_details(text, whole):
    for each in (events(text)[-2], whole):
        usage = each["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"]
        assert usage["completion_tokens_details"].keys() == {
            "reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
        }  # fmt: skip
        assert usage["reasoning_tokens"]
        assert each["copilot_usage"]["total_nano_aiu"]
        detail = each["copilot_usage"]["token_details"][0]
        assert detail.keys() == {"batch_size", "cost_per_batch", "token_count", "token_type"}


def check_anthropic(text, whole):
    assert text.startswith("event: message_start\ndata: ")
    chunks = events(text)
    assert not any("choices" in each for each in chunks)
    said = "".join(each["delta"].get("text", "") for each in chunks if "delta" in each)
    assert (whole["type"], "choices" in whole) == ("message", False)
    assert whole["content"][0]["text"] == said
    assert whole["usage"]["input_tokens"]
    assert chunks[-2]["usage"] == whole["usage"]


def check_unstable_ids(text, whole):
    # Of chat, nothing: see test_ids_of_responses_change.
    chunks = [each for each in events(text) if isinstance(each, dict)]
    assert len({each["id"] for each in chunks}) == 1


async def test_ids_of_responses_change():
    asked = {"model": "sim-quirk-unstable_ids", "input": "hello"}
    async with copilot() as (_, http):
        told = events((await http.post("/responses", json={**asked, "stream": True})).text)
        ids = [each["item_id"] for each in told if "item_id" in each]
        of_response = [each["response"]["id"] for each in told if "response" in each]
        last = told[-1]["response"]["output"][0]["id"]
        assert len({*ids, last}) == len(ids) + 1 > 5
        assert len(set(of_response)) == len(of_response) == 3


def check_no_done(text, _):
    assert "[DONE]" not in text
    assert events(text)[-1]["usage"]


def check_crlf(text, _):
    assert text.count("\n") == text.count("\r\n") > 10


@pytest.mark.parametrize("name", QUIRKS)
async def test_quirk(name):
    async with copilot() as (_, http):
        globals()[f"check_{name}"](*await bent(http, name))


async def test_quirks_combine_and_can_be_set_for_all():
    names = ["comments", "crlf", "prompt_filter", "bare", "usage_details", "two_choices"]
    async with copilot() as (_, http):
        text, whole = await bent(http, "+".join(names))
        await control(http, "settings", chat_quirks=names)
        again = (await ask(http, stream=True)).text
        for each in (text, again):
            check_comments(each, None)
            check_crlf(each, None)
            check_bare(each, whole)
            assert tool_deltas(events(each))
            assert events(each)[0]["choices"] == []
        check_usage_details(again, whole)


async def test_all_quirks_at_once_still_give_an_answer():
    async with copilot(chat_quirks=list(QUIRKS)) as (_, http):
        for stream in (True, False):
            answer = await ask(http, stream=stream)
            assert answer.status_code == 200
            assert answer.text


async def test_claude_has_its_quirk_by_nature():
    async with copilot() as (_, http):
        answer = await ask(http, "sim-claude", stream=True)
        check_bare(answer.text, (await ask(http, "sim-claude")).json())


async def test_events_keep_nothing_of_other_events():
    async with copilot() as (_, http):
        text, _ = await bent(http, "references+errors+confirmation+prompt_filter")
        keys = ("copilot_references", "copilot_errors", "copilot_confirmation",
                "prompt_filter_results")  # fmt: skip
        assert all(sum(key in each for key in keys) <= 1 for each in events(text))
