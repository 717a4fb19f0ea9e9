"""The repairs by name: what each does and which client fails without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


__all__ = ["NAMES", "REPAIRS", "Repair"]


@dataclass(frozen=True)
class Repair:
    """One repair."""

    name: str
    """Of its switch in `[http.repairs]`, too."""
    what: str
    why: str
    stage: Literal["request", "answer"]


_ALL: Final = (
    Repair(
        "anthropic_betas",
        "`anthropic-beta` names none but the betas that Copilot takes",
        "Copilot refuses any other: Claude Code, AI SDK and Anthropic's SDK with betas",
        "request",
    ),
    Repair(
        "system_in_messages",
        "messages of role `system` go to the top-level `system` of `/v1/messages`",
        "Copilot refuses the role: Claude Code with newer models",
        "request",
    ),
    Repair(
        "hosted_tools",
        "tools that the provider would run (a web search) are left out, and a `tool_choice` "
        "that names one",
        "Copilot refuses them: codex offers one with every request",
        "request",
    ),
    Repair(
        "store_off",
        "`store` of `/responses` is false",
        "Copilot stores no responses, and refuses `true`",
        "request",
    ),
    Repair(
        "tool_schema",
        "`$schema` is left out of tools' schemas on `/v1/messages`",
        "Copilot refuses it: tools made by schema libraries, MCP servers'",
        "request",
    ),
    Repair(
        "cache_control",
        "at most the last four `cache_control` of `/v1/messages`, without `scope`",
        "Copilot refuses a fifth, and does not know the scope",
        "request",
    ),
    Repair(
        "empty_choices",
        "chunks of a chat stream with `choices: []` before the first with a choice are dropped",
        "every loop over `chunk.choices[0]` fails on them",
        "answer",
    ),
    Repair(
        "chunk_object",
        "`object` and `index` are added to chat answers and chunks that lack them",
        "Claude models send none, and OpenAI's Python SDK ignores chunks without `object`",
        "answer",
    ),
    Repair(
        "merged_choices",
        "a chat answer in several choices that nobody asked for becomes one",
        "Claude models say text and tool call as two: OpenAI's SDK and AI SDK lose the call",
        "answer",
    ),
    Repair(
        "anthropic_chat",
        "a chat answer in Anthropic's shape is written in OpenAI's",
        "some models answer so on `/chat/completions`: no chat client reads it",
        "answer",
    ),
    Repair(
        "stable_ids",
        "a `/responses` stream calls each item, and itself, by the first id it gave",
        "Copilot gives a new one in every event: OpenAI's Node SDK and opencode fail",
        "answer",
    ),
    Repair(
        "embeddings_base64",
        "embeddings that were asked for in base64 are given so",
        "Copilot gives numbers, which older versions of OpenAI's Node SDK decode unseen",
        "answer",
    ),
    Repair(
        "json_errors",
        "an error is JSON in the caller's dialect, and says so; its status stays",
        "Copilot's are text/plain, JSON or not, and OpenAI's in shape at most",
        "answer",
    ),
)

REPAIRS: Final = {each.name: each for each in _ALL}
"""In the order in which they are made."""

NAMES: Final = tuple(REPAIRS)
