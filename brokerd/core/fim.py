"""Fill-in-the-middle for callers that know `POST /v1/completions`, which Copilot's host is not.

The host names the model in the path, and answers in a stream only. So the model is read from the
body, and whoever did not ask for a stream gets one collected into the object that OpenAI's API has
for it (platform.openai.com/docs/api-reference/completions). Who asks for a stream is passed on
untouched, both ways.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from brokerd.core.dialects.sse import SseEvent, SseReader, TooLongError
from brokerd.core.refusals import explain_event
from brokerd.core.turns import MAX_ITEMS
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError


__all__ = ["MAX_TEXT", "FimAsking", "WholeCompletion", "read_fim"]

MAX_TEXT = 8 * 1024 * 1024
"""Bytes of an answer that are collected; real ones have some hundred."""

_MEND = "Send a JSON object with `model` and `prompt`; models: copilot-cred models"


@dataclass(frozen=True)
class FimAsking:
    """What the body of `POST /v1/completions` asks for."""

    model: str
    """"" if it names none: whoever has it of the path needs none."""
    wants_stream: bool
    body: bytes = field(repr=False)
    """To be sent: as it came, or else with `"stream": true`."""


def read_fim(body: bytes) -> FimAsking:
    """Read it. Raises PermanentError USAGE `bad_body` for what is no JSON object."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        raise _usage("the body has too many values")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _usage("the body is no JSON") from None
    if not isinstance(fields, dict):
        raise _usage("the body is no JSON object")
    model = fields.get("model")
    name = model if isinstance(model, str) else ""
    if fields.get("stream") is True:
        return FimAsking(name, wants_stream=True, body=body)
    streamed = {**fields, "stream": True}
    return FimAsking(name, wants_stream=False, body=json.dumps(streamed).encode())


class WholeCompletion:
    """One `text_completion` of the chunks of a stream; feed it every read, then ask for the end.

    Fields that are not known are kept: of a choice, and of the whole, what came last.
    """

    def __init__(self) -> None:
        self._sse = SseReader()
        self._size = 0
        self._whole: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._texts: dict[int, list[str]] = {}
        self._is_done = False

    def feed(self, chunk: bytes) -> None:
        """Take a read of the stream.

        Raises TransientError `upstream_too_long` or `bad_answer`, or what an error that stands
        among the events means.
        """
        self._size += len(chunk)
        if self._size > MAX_TEXT:
            raise _trouble("upstream_too_long", f"the completion is longer than {MAX_TEXT} bytes")
        try:
            events = self._sse.feed(chunk)
        except TooLongError:
            raise _trouble("bad_answer", "the completion has an endless line") from None
        for event in events:
            self._take(event)

    def end(self) -> bytes:
        """Return the object, once the stream has ended.

        Raises TransientError `upstream_cut` for a stream that ended too soon.
        """
        finished = all(each.get("finish_reason") for each in self._choices.values())
        if not self._is_done and not (self._choices and finished):
            raise _trouble("upstream_cut", "the completion broke off before its end ([DONE])")
        for index, pieces in self._texts.items():
            self._choices[index]["text"] = "".join(pieces)
        choices = [self._choices[index] for index in sorted(self._choices)]
        whole = {**self._whole, "object": "text_completion", "choices": choices}
        return json.dumps(whole).encode()

    def _take(self, event: SseEvent) -> None:
        if event.data.strip() == b"[DONE]":
            self._is_done = True
            return
        try:
            chunk = json.loads(event.data)
        except (ValueError, RecursionError):
            raise _trouble("bad_answer", "the completion has a chunk that is no JSON") from None
        if not isinstance(chunk, dict):
            raise _trouble("bad_answer", "the completion has a chunk that is no object")
        failure = explain_event(event.data)
        if failure is not None:
            kind = (
                TransientError if failure.error_class is ErrorClass.TEMPORARY else PermanentError
            )
            raise kind(failure)
        choices = chunk.pop("choices", None)
        self._whole |= {key: value for key, value in chunk.items() if value is not None}
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._add(choice)

    def _add(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        kept = self._choices.setdefault(
            index, {"text": "", "index": index, "logprobs": None, "finish_reason": None}
        )
        text = choice.pop("text", None)
        if isinstance(text, str):
            self._texts.setdefault(index, []).append(text)
        told, known = choice.pop("logprobs", None), kept["logprobs"]
        if isinstance(told, dict):
            kept["logprobs"] = _joined(known, told) if isinstance(known, dict) else told
        kept |= {key: value for key, value in choice.items() if value is not None}


def _joined(first: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Join two pieces of `logprobs`: lists with an entry for each token."""
    lists = {
        key: first[key] + value
        for key, value in more.items()
        if isinstance(value, list) and isinstance(first.get(key), list)
    }
    return {**first, **more, **lists}


def _usage(message: str) -> PermanentError:
    return PermanentError(Failure(ErrorClass.USAGE, "bad_body", message, _MEND))


def _trouble(code: str, message: str) -> TransientError:
    hint = "Ask again; what the broker sees: copilot-cred status"
    return TransientError(Failure(ErrorClass.TEMPORARY, code, message, hint, retry_after=1.0))
