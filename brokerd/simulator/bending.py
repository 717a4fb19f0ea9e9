"""How one answer is bent: each function makes a quirk of a stream's events or of the one object.

They change what they are given and return it, or a new list.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Events = list[Any]
    Whole = dict[str, Any]


__all__ = [
    "CONFIRMATION",
    "ERRORS",
    "FILTERED",
    "REFERENCES",
    "annotate",
    "anthropic_events",
    "anthropic_whole",
    "bare",
    "before_text",
    "break_off",
    "comments",
    "display_name",
    "finish_with",
    "function_role",
    "spend",
    "tool_events",
    "tool_whole",
    "two_whole",
    "unstable_ids",
]

# One comment in so many events: often enough to fall between any two reads.
EVENTS_PER_COMMENT = 3
SHARED_KEYS = frozenset({"id", "object", "created", "model", "system_fingerprint"})

FILTER_RESULTS = {
    kind: {"filtered": False, "severity": "safe"}
    for kind in ("hate", "self_harm", "sexual", "violence")
}
TOOL = {"name": "get_weather", "arguments": ('{"city', '": "Ber', 'lin"}')}
CALL_ID = "call_simulated"
COPILOT_USAGE = {
    "token_details": [
        {"batch_size": 1000000, "cost_per_batch": 200, "token_count": 9, "token_type": "input"},
        {"batch_size": 1000000, "cost_per_batch": 800, "token_count": 7, "token_type": "output"},
    ],
    "total_nano_aiu": 7400000,
}


def before_text(*more: dict[str, Any]) -> Callable[[Events], Events]:
    """Put chunks before the first."""
    return lambda events: [*(_like(events, each) for each in more), *events]


def _like(events: Events, changes: dict[str, Any]) -> dict[str, Any]:
    """Make a chunk that belongs to the same answer."""
    shared = {key: value for key, value in _first(events).items() if key in SHARED_KEYS}
    return shared | changes


def _first(events: Events) -> dict[str, Any]:
    first: dict[str, Any] = next(each for each in events if isinstance(each, dict))
    return first


def _each_choice(event: Any) -> Iterable[dict[str, Any]]:
    return (event.get("choices") or ()) if isinstance(event, dict) else ()


def _in_choices(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], Any]:
    """Make a change of every choice, of one object or of all events."""

    def bend(answer: Any) -> Any:
        for event in answer if isinstance(answer, list) else [answer]:
            for choice in _each_choice(event):
                change(choice)
        return answer

    return bend


def function_role(events: Events) -> Events:
    """Put a chunk of role `function` before the first."""
    delta = {"role": "function", "name": "agent", "content": '{"simulated": true}'}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return [_like(events, {"choices": [choice]}), *events]


def _tool_deltas(index: int) -> list[dict[str, Any]]:
    """One tool call in pieces; only the first has `id`, the others repeat the rest."""
    deltas: list[dict[str, Any]] = []
    for number, arguments in enumerate(TOOL["arguments"]):
        call: dict[str, Any] = {
            "index": 0,
            "type": "function",
            "function": {"name": TOOL["name"], "arguments": arguments},
        }
        if number == 0:
            call["id"] = CALL_ID
        deltas.append({"index": index, "delta": {"tool_calls": [call]}, "finish_reason": None})
    return deltas


def tool_events(index: int) -> Callable[[Events], Events]:
    """Let a tool call follow the text, in the text's own choice (0) or in one of its own."""

    def bend(events: Events) -> Events:
        at = next(
            i
            for i, each in enumerate(events)
            for choice in _each_choice(each)
            if choice["finish_reason"]
        )
        calls = [_like(events, {"choices": [choice]}) for choice in _tool_deltas(index)]
        end = {"index": index, "delta": {"content": None}, "finish_reason": "tool_calls"}
        if index:
            calls.append(_like(events, {"choices": [end]}))
        else:
            events[at]["choices"][0]["finish_reason"] = "tool_calls"
        return [*events[:at], *calls, *events[at:]]

    return bend


def _tool_call() -> dict[str, Any]:
    function = {"name": TOOL["name"], "arguments": "".join(TOOL["arguments"])}
    return {"id": CALL_ID, "type": "function", "function": function}


def tool_whole(whole: Whole) -> Whole:
    """Add a tool call to the text."""
    choice = whole["choices"][0]
    choice["message"]["tool_calls"] = [_tool_call()]
    choice["finish_reason"] = "tool_calls"
    return whole


def two_whole(whole: Whole) -> Whole:
    """Add a second choice, a tool call."""
    message = {"role": "assistant", "content": None, "tool_calls": [_tool_call()]}
    whole["choices"].append({"index": 1, "message": message, "finish_reason": "tool_calls"})
    return whole


def _annotate(choice: dict[str, Any]) -> None:
    citation = {"url": "https://example.com/source", "license": "MIT", "snippet": "simulated"}
    choice["content_filter_results"] = FILTER_RESULTS
    choice["content_filter_offsets"] = {"check_offset": 0, "start_offset": 0, "end_offset": 9}
    said = choice["delta"] if "delta" in choice else choice["message"]
    said["copilot_annotations"] = {
        "IPCodeCitations": [{"id": 0, "start_offset": 0, "end_offset": 9, "citation": citation}]
    }


def annotate(answer: Any) -> Any:
    """Add citations and content filter results to every choice."""
    return _in_choices(_annotate)(answer)


def finish_with(reason: str) -> Callable[[Any], Any]:
    """Give another `finish_reason`."""

    def change(choice: dict[str, Any]) -> None:
        if choice["finish_reason"]:
            choice["finish_reason"] = reason

    return _in_choices(change)


def spend(answer: Any) -> Any:
    """Tell usage in all detail, and what it cost."""
    for event in answer if isinstance(answer, list) else [answer]:
        if isinstance(event, dict) and "usage" in event:
            event["usage"] |= {
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {
                    "reasoning_tokens": 3,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
                "reasoning_tokens": 3,
            }
            event["copilot_usage"] = COPILOT_USAGE
    return answer


def break_off(events: Events) -> Events:
    """End half-way in an error, in the words of the API it is, without the usual end."""
    said = {"message": "The model stopped (simulated)."}
    kind = str(_first(events).get("type", ""))
    if kind.startswith("response."):
        half = len(events) // 2
        error = {"type": "error", "code": "server_error", **said, "sequence_number": half}
    elif kind:
        error = {"type": "error", "error": {"type": "api_error", **said}}
    else:
        error = {"error": {**said, "code": "internal_error", "type": "error"}}
    return [*events[: len(events) // 2], error]


def unstable_ids(events: Events) -> Events:
    """Give the response and its items another id in every event."""
    for number, event in enumerate(events):
        if isinstance(event, dict) and str(event.get("type", "")).startswith("response."):
            response = event.get("response", {})
            for named, key in (
                (event, "item_id"),
                (event.get("item", {}), "id"),
                (response, "id"),
                *((item, "id") for item in response.get("output", ())),
            ):
                if key in named:
                    named[key] += f"-{number}"
    return events


def bare(answer: Any) -> Any:
    """Take `object` and `index` away."""
    for event in answer if isinstance(answer, list) else [answer]:
        if isinstance(event, dict):
            event.pop("object", None)
        for choice in _each_choice(event):
            choice.pop("index", None)
    return answer


def display_name(answer: Any) -> Any:
    """Call the model by its display name."""
    for event in answer if isinstance(answer, list) else [answer]:
        if isinstance(event, dict) and "model" in event:
            event["model"] = "Simulated Model 4.5 (Preview)"
    return answer


def comments(events: Events) -> Events:
    """Put comment lines (bytes) among the events."""
    told: Events = [b": connected"]
    for number, each in enumerate(events):
        if number % EVENTS_PER_COMMENT == 0:
            told.append(b": keepalive")
        told.append(each)
    return told


def _anthropic_usage(usage: dict[str, int]) -> dict[str, int]:
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def anthropic_whole(whole: Whole) -> Whole:
    """Give the answer the shape of Anthropic's Messages API."""
    message = whole["choices"][0]["message"]
    content: list[dict[str, Any]] = [{"type": "text", "text": message["content"]}]
    for call in message.get("tool_calls", ()):
        asked = json.loads(call["function"]["arguments"])
        name = call["function"]["name"]
        content.append({"type": "tool_use", "id": call["id"], "name": name, "input": asked})
    return {
        "id": whole["id"],
        "type": "message",
        "role": "assistant",
        "model": whole["model"],
        "content": content,
        "stop_reason": "end_turn" if len(content) == 1 else "tool_use",
        "stop_sequence": None,
        "usage": _anthropic_usage(whole["usage"]),
    }


def anthropic_events(events: Events) -> Events:
    """Give the stream the shape of Anthropic's Messages API."""
    first = _first(events)
    deltas = [choice.get("delta", {}) for each in events for choice in _each_choice(each)]
    texts = [delta["content"] for delta in deltas if delta.get("content")]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    usage = next((each["usage"] for each in events if "usage" in each), None)
    message = {"id": first["id"], "type": "message", "role": "assistant", "content": [],
               "model": first["model"], "stop_reason": None, "stop_sequence": None}  # fmt: skip
    if usage:
        message["usage"] = _anthropic_usage(usage) | {"output_tokens": 0}
    end = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    delta = {"type": "message_delta", "delta": end}
    pieces = [{"type": "text_delta", "text": text} for text in texts]
    return [
        {"type": "message_start", "message": message},
        *_anthropic_block(0, {"type": "text", "text": ""}, pieces),
        *_anthropic_call(calls),
        delta | ({"usage": _anthropic_usage(usage)} if usage else {}),
        {"type": "message_stop"},
    ]  # fmt: skip


def _anthropic_call(calls: Events) -> Events:
    """Make the second block of the pieces of the one call there may be."""
    if not calls:
        return []
    name = calls[0]["function"]["name"]
    block = {"type": "tool_use", "id": calls[0]["id"], "name": name, "input": {}}
    parts = [call["function"]["arguments"] for call in calls]
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in parts if part]
    return _anthropic_block(1, block, pieces)


def _anthropic_block(index: int, block: dict[str, Any], pieces: Events) -> Events:
    place = {"index": index}
    return [
        {"type": "content_block_start", **place, "content_block": block},
        *({"type": "content_block_delta", **place, "delta": piece} for piece in pieces),
        {"type": "content_block_stop", **place},
    ]


FILTERED: dict[str, Any] = {
    "choices": [], "created": 0, "id": "", "model": "",
    "prompt_filter_results": [{"content_filter_results": FILTER_RESULTS, "prompt_index": 0}],
}  # fmt: skip
REFERENCES: dict[str, Any] = {
    "choices": None,
    "copilot_references": [{"type": "github.file", "id": "README.md", "data": {"language": "md"}}],
}
ERRORS: dict[str, Any] = {
    "choices": None,
    "copilot_errors": [
        {"type": "agent", "code": "recoverable", "message": "simulated", "identifier": "sim"}
    ],
}
CONFIRMATION: dict[str, Any] = {
    "choices": None,
    "copilot_confirmation": {
        "type": "action", "title": "Go on?", "message": "simulated", "confirmation": {"id": "1"},
    },
}  # fmt: skip
