"""The items of an answer, whole or begun, with every field that strict clients look for."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from brokerd.core.dialects.responses.names import split_name


__all__ = [
    "IN_PROGRESS",
    "ItemStatus",
    "call_item",
    "message_item",
    "reasoning_item",
    "refusal_part",
    "summary_part",
    "text_part",
]

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]

IN_PROGRESS: Final = "in_progress"


def message_item(id_: str, status: ItemStatus, content: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a message of the model's."""
    return {
        "id": id_,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def text_part(text: str) -> dict[str, Any]:
    """Write words in a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Any]:
    """Write a no in a message."""
    return {"type": "refusal", "refusal": text}


def reasoning_item(
    id_: str, status: ItemStatus, summary: list[dict[str, Any]], proof: str
) -> dict[str, Any]:
    """Write thoughts."""
    return {
        "id": id_,
        "type": "reasoning",
        "status": status,
        "summary": summary,
        **({"encrypted_content": proof} if proof else {}),
    }


def summary_part(text: str) -> dict[str, Any]:
    """Write the words of thoughts."""
    return {"type": "summary_text", "text": text}


def call_item(
    id_: str, status: ItemStatus, call_id: str, name: str, arguments: str
) -> dict[str, Any]:
    """Write the call of a function."""
    namespace, name = split_name(name)
    return {
        "id": id_,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        **({"namespace": namespace} if namespace else {}),
        "arguments": arguments,
    }
