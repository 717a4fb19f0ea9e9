"""Who began the last turn of a conversation, and is there an image in it: read from a request.

Copilot bills a turn that a person began (`X-Initiator: user`) and not the follow-ups of an agent
(`agent`); it wants `Copilot-Vision-Request` beside an image. A caller that says these itself is
not read at all. For one that does not:

- `agent` only when the last message (or item) leaves no doubt: a model's own, a tool's result.
- Everything else, and everything that cannot be read for sure, is `user`. To call a person's turn
  an agent's would be to bill it wrong.
- Reading is one pass of the JSON parser, and none can grow the daemon: see `MAX_ITEMS`. A body
  without any word of an agent's is a person's and need not be read.
"""

from __future__ import annotations

from json import JSONDecoder
from typing import TYPE_CHECKING, Any, Literal, NamedTuple


if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = [
    "MAX_ITEMS",
    "Initiator",
    "Turn",
    "has_image",
    "initiator",
    "may_be_agents",
    "may_have_image",
    "read_turn",
]

Initiator = Literal["user", "agent"]

MAX_ITEMS = 500_000
"""Values in a body that is read: the longest conversations have a tenth of it, and a body made of
nothing but empty objects would take thirty times its bytes once read."""

_AGENT_ROLES = {
    "assistant": "last_role_assistant",
    "tool": "last_role_tool",
    "function": "last_role_function",
}
_OTHER_ROLES = {
    "user": "last_role_user",
    "system": "last_role_system",
    "developer": "last_role_developer",
}
_IMAGE_TYPES = frozenset({"image_url", "input_image", "image"})
_TOOL_RESULT = "tool_result"
_TOOL_OUTPUT = "_output"
"""What each item of the Responses API that is a tool's result ends in (`function_call_output`,
`shell_call_output`…); they have no role."""
_AGENT_WORDS = (b"assistant", b"tool", b"function", b'_output"', b"\\u")


class Turn(NamedTuple):
    """What a body tells."""

    initiator: Initiator
    reason: str
    """One stable word for the log; never a word of the body."""
    has_image: bool


class _DuplicateKeyError(ValueError):
    """A key stands twice in one object: which one upstream takes is not known."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


_DECODER = JSONDecoder(object_pairs_hook=_object)


def may_have_image(body: bytes) -> bool:
    """Whether it is worth reading for an image: each kind of image part is named so."""
    return b"image" in body


def may_be_agents(body: bytes) -> bool:
    """Whether it is worth reading for an agent's turn: not where no word of one is in it.

    A letter of a JSON string may also be written as an escape, so any escape of that kind counts.
    """
    for word in _AGENT_WORDS:  # noqa: SIM110 - for short bodies `any` takes twice as long
        if word in body:
            return True
    return False


def initiator(body: bytes) -> tuple[Initiator, str]:
    """Return who began the last turn, and why we say so."""
    turn = read_turn(body)
    return turn.initiator, turn.reason


def has_image(body: bytes) -> bool:
    """Whether a message has an image part; False for a body that cannot be read."""
    return may_have_image(body) and read_turn(body).has_image


def read_turn(body: bytes) -> Turn:
    """Read the body of a request: its `messages`, or `input` (Responses API); never raises."""
    if len(body) > 2 * MAX_ITEMS and _item_bound(body) > MAX_ITEMS:
        return Turn("user", "too_many_items", has_image=False)
    try:
        request = _DECODER.decode(str(body, "utf-8"))
    except _DuplicateKeyError:
        return Turn("user", "duplicate_keys", has_image=False)
    except RecursionError:
        return Turn("user", "too_deep", has_image=False)
    except ValueError:  # neither UTF-8 nor JSON, or a number of thousands of digits
        return Turn("user", "not_json", has_image=False)
    for key in ("messages", "input") if isinstance(request, dict) else ():
        turns = request.get(key)
        if isinstance(turns, list) and turns:
            who, reason = _who(turns[-1])
            return Turn(who, reason, may_have_image(body) and _any_image(turns))
    return Turn("user", "no_messages", has_image=False)


def _item_bound(body: bytes) -> int:
    """Return no fewer than the values in it: each opens a container or follows a comma or one.

    A value and its comma are two bytes, so shorter bodies need no counting.
    """
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _who(last: Any) -> tuple[Initiator, str]:
    role = last.get("role") if isinstance(last, dict) else None
    if role is None and isinstance(last, dict) and _is_tool_output(last.get("type")):
        return "agent", "last_is_tool_output"
    if not isinstance(role, str):
        return "user", "bad_message"
    if role in _AGENT_ROLES:
        return "agent", _AGENT_ROLES[role]
    if role == "user" and _is_tool_results(last.get("content")):
        return "agent", "last_is_tool_results"
    return "user", _OTHER_ROLES.get(role, "last_role_unknown")


def _is_tool_output(kind: Any) -> bool:
    return isinstance(kind, str) and kind.endswith(_TOOL_OUTPUT)


def _is_tool_results(content: Any) -> bool:
    """Whether a user's message is none but results, as the Messages API writes them."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and part.get("type") == _TOOL_RESULT for part in content)
    )


def _any_image(messages: Iterable[Any]) -> bool:
    return any(
        _has_image_part(message.get("content"), in_result=False)
        or ("output" in message and _has_image_part(message["output"], in_result=True))
        for message in messages
        if isinstance(message, dict)
    )


def _has_image_part(content: Any, *, in_result: bool) -> bool:
    """Whether a message's content has an image, or a tool's result within it (one level)."""
    if not isinstance(content, list):
        return False
    for part in content:
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        if "image_url" in part or (isinstance(kind, str) and kind in _IMAGE_TYPES):
            return True
        if (
            kind == _TOOL_RESULT
            and not in_result
            and _has_image_part(part.get("content"), in_result=True)
        ):
            return True
    return False
