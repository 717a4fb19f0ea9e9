"""A conversation as a request, in the dialect of the endpoint that the model speaks.

The broker's RPC door passes bodies on untouched, so what goes out is written here: what was asked
for, and what an endpoint insists on (API references: Chat Completions, Responses, Messages).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from copilot_broker.cli.catalogue import CHAT_PATH, MESSAGES_PATH, RESPONSES_PATH
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Mapping

    from copilot_broker.cli.catalogue import Model


__all__ = ["Image", "Manner", "Request", "Turn", "write_request"]

DEFAULT_MAX_TOKENS = 4096
"""`max_tokens` of Messages, which has to be there, where neither person nor model says one."""

SCHEMA_NAME = "answer"
"""Chat Completions and Responses want a schema to have a name; it changes nothing."""

HEADERS = {"x-initiator": "user"}
"""A person asks: GitHub counts the turn (its multiplier is in `copilot-cred models`)."""

MESSAGES_HEADERS = {**HEADERS, "anthropic-version": "2023-06-01"}


@dataclass(frozen=True)
class Image:
    """A picture that goes with a question."""

    name: str
    media_type: str
    data: bytes = field(repr=False)

    @property
    def base64(self) -> str:
        """Its bytes as JSON can hold them."""
        return base64.b64encode(self.data).decode("ascii")


@dataclass(frozen=True)
class Turn:
    """What one of the two has said."""

    role: Literal["user", "assistant"]
    text: str = field(repr=False)
    images: tuple[Image, ...] = ()


@dataclass(frozen=True)
class Manner:
    """How to answer; None or empty: as the model will."""

    system: str | None = field(default=None, repr=False)
    temperature: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    is_json: bool = False
    """Whether the answer has to be a JSON object."""
    schema: Mapping[str, Any] | None = field(default=None, repr=False)
    """A JSON Schema that it has to keep to."""
    stream: bool = True
    count: bool = False
    """Whether usage is to be told even where it would not be."""


@dataclass(frozen=True)
class Request:
    """What goes to the broker."""

    path: str
    body: Mapping[str, Any] = field(repr=False)
    headers: Mapping[str, str]
    stream: bool


def write_request(model: Model, turns: tuple[Turn, ...], manner: Manner) -> Request:
    """Write it. Raises Refusal (usage) for a wish that the model's endpoint has no words for."""
    path = model.endpoint or CHAT_PATH  # of a model that speaks none, Copilot says what it is for
    body: dict[str, Any] = {"model": model.id}
    body |= _WRITERS[path](model, turns, manner)
    if manner.temperature is not None:
        body["temperature"] = manner.temperature
    body["stream"] = manner.stream
    headers = MESSAGES_HEADERS if path == MESSAGES_PATH else HEADERS
    return Request(path, body, headers, manner.stream)


def _chat(_model: Model, turns: tuple[Turn, ...], manner: Manner) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [
        {"role": turn.role, "content": _content(turn, "text", _chat_image)} for turn in turns
    ]
    if manner.system is not None:
        messages.insert(0, {"role": "system", "content": manner.system})
    body: dict[str, Any] = {"messages": messages}
    if manner.max_tokens is not None:
        body["max_tokens"] = manner.max_tokens
    if manner.stop:
        body["stop"] = list(manner.stop)
    if manner.schema is not None:
        named = {"name": SCHEMA_NAME, "strict": True, "schema": manner.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif manner.is_json:
        body["response_format"] = {"type": "json_object"}
    if manner.count and manner.stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _responses(model: Model, turns: tuple[Turn, ...], manner: Manner) -> dict[str, Any]:
    if manner.stop:
        raise _wordless(model, RESPONSES_PATH, "stop sequences (--stop)")
    told = [
        {"role": turn.role, "content": _content(turn, "input_text", _responses_image)}
        for turn in turns
    ]
    body: dict[str, Any] = {"input": told, "store": False}  # Copilot keeps nothing, and insists
    if manner.system is not None:
        body["instructions"] = manner.system
    if manner.max_tokens is not None:
        body["max_output_tokens"] = manner.max_tokens
    if manner.schema is not None:
        form = {"type": "json_schema", "name": SCHEMA_NAME, "strict": True}
        body["text"] = {"format": {**form, "schema": manner.schema}}
    elif manner.is_json:
        body["text"] = {"format": {"type": "json_object"}}
    return body


def _messages(model: Model, turns: tuple[Turn, ...], manner: Manner) -> dict[str, Any]:
    told = [{"role": turn.role, "content": _content(turn, "text", _source)} for turn in turns]
    body: dict[str, Any] = {
        "messages": told,
        "max_tokens": manner.max_tokens or model.output or DEFAULT_MAX_TOKENS,
    }
    if manner.system is not None:
        body["system"] = manner.system
    if manner.stop:
        body["stop_sequences"] = list(manner.stop)
    if manner.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": manner.schema}}
    elif manner.is_json:
        raise _wordless(model, MESSAGES_PATH, "a JSON answer without a schema (--schema FILE)")
    return body


_WRITERS = {CHAT_PATH: _chat, RESPONSES_PATH: _responses, MESSAGES_PATH: _messages}


def _content(turn: Turn, text: str, write: Any) -> str | list[dict[str, Any]]:
    """Return a turn's content: text where that is all, else parts, the text first."""
    if not turn.images:
        return turn.text
    return [{"type": text, "text": turn.text}, *(write(image) for image in turn.images)]


def _chat_image(image: Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": _data_url(image)}}


def _responses_image(image: Image) -> dict[str, Any]:
    return {"type": "input_image", "image_url": _data_url(image)}


def _source(image: Image) -> dict[str, Any]:
    source = {"type": "base64", "media_type": image.media_type, "data": image.base64}
    return {"type": "image", "source": source}


def _data_url(image: Image) -> str:
    """Return it as a URL (RFC 2397)."""
    return f"data:{image.media_type};base64,{image.base64}"


def _wordless(model: Model, path: str, what: str) -> Refusal:
    return Refusal(
        ErrorClass.USAGE,
        "not_with_this_model",
        f"{model.id} is asked on {path}, which has no words for {what}",
        f"leave it out, or choose another model: {PROGRAM} models",
    )
