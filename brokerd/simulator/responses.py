"""The Responses API's shape of an answer: one object, or a stream of named events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.simulator.chat import Said
    from brokerd.simulator.tools import Call


__all__ = ["events", "messages_of", "whole"]


def messages_of(body: Mapping[str, Any]) -> list[Any]:
    """Read the input as messages; empty when there is none."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}] if given else []
    return given if isinstance(given, list) else []


def _id(said: Said, prefix: str) -> str:
    return said.id.replace("chatcmpl-", prefix)


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _item(said: Said, status: str, text: str | None) -> dict[str, Any]:
    return {
        "id": _id(said, "msg_"),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [] if text is None else [_part(text)],
    }


def _call_item(said: Said, call: Call, status: str, arguments: str) -> dict[str, Any]:
    return {
        "id": _id(said, "fc_"),
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def _response(said: Said, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": _id(said, "resp_"),
        "object": "response",
        "created_at": said.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": said.model,
        "output": [],
        "store": False,
        "usage": None,
        **more,
    }


def whole(said: Said, *, status: str = "completed") -> dict[str, Any]:
    """Give the answer as one object."""
    usage = said.usage
    output = [_item(said, "completed", "".join(said.words))]
    if said.call is not None:
        output.append(_call_item(said, said.call, "completed", said.call.arguments))
    return _response(
        said,
        status,
        output=output,
        usage={
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        },
    )


def events(said: Said, quota: Mapping[str, Any]) -> list[Any]:
    """Give the answer as a stream has it; `quota` comes with the last event."""
    text = "".join(said.words)
    place = {"item_id": _id(said, "msg_"), "output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta", **place}
    told: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(said, "in_progress")},
        {"type": "response.in_progress", "response": _response(said, "in_progress")},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": _item(said, "in_progress", None),
        },
        {"type": "response.content_part.added", **place, "part": _part("")},
        *({**delta, "delta": word} for word in said.words),
        {"type": "response.output_text.done", **place, "text": text},
        {"type": "response.content_part.done", **place, "part": _part(text)},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": _item(said, "completed", text),
        },
        *_call_events(said),
        {
            "type": "response.completed",
            "response": whole(said),
            "copilot_quota_snapshots": dict(quota),
        },
    ]
    return [{**each, "sequence_number": number} for number, each in enumerate(told)]


def _call_events(said: Said) -> list[dict[str, Any]]:
    """Give what a stream has of a call of a tool."""
    call = said.call
    if call is None:
        return []
    place = {"item_id": _id(said, "fc_"), "output_index": 1}
    delta = {"type": "response.function_call_arguments.delta", **place}
    done = {"type": "response.function_call_arguments.done", "name": call.name, **place}
    begun = _call_item(said, call, "in_progress", "")
    ended = _call_item(said, call, "completed", call.arguments)
    return [
        {"type": "response.output_item.added", "output_index": 1, "item": begun},
        *({**delta, "delta": piece} for piece in call.pieces),
        {**done, "arguments": call.arguments},
        {"type": "response.output_item.done", "output_index": 1, "item": ended},
    ]
