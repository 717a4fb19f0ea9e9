"""The repairs of an answer: what Copilot answers and real clients fail on.

One `AnswerRepairs` for each answer. It says what it has to see:

- `stream()` for a stream of events. None: nothing of it is ever changed; pass it on as it comes.
- `wants_whole()` for anything else. False: the same.
- `whole()` for what it wants whole, and for every refusal.

What nobody changes comes back as the very same object, and is not parsed. A stream's repairs are
decided by its first events, for Copilot's streams are of one kind from their beginning to their
end; from then on a sound stream passes without a look. Only chat streams that may call tools are
searched on, for a second choice. While events are looked at, the beginning of one whose end has
not come yet is held back: no client can use it, so nobody waits longer.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from brokerd.core.dialects.dialect import Dialect


if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import ModuleType

    from brokerd.errors import Failure


__all__ = ["AnswerRepairs", "StreamRepairs", "answer_repairs"]

_CHAT: Final = "/chat/completions"
_RESPONSES: Final = "/responses"
_EMBEDDINGS: Final = "/embeddings"

_REFUSED_FROM: Final = 300
"""Statuses from here on are refusals."""

_WANTS_BASE64: Final = re.compile(rb'"encoding_format"\s*:\s*"base64"')
_N: Final = b'"n"'
_WANTS_SEVERAL: Final = re.compile(rb'"n"\s*:\s*(?:[2-9]|[1-9][0-9])')
_TOOLS: Final = (b'"tools"', b'"functions"')
_HAS_TOOLS: Final = re.compile(rb'"(?:tools|functions)"\s*:')

_OF_CHAT: Final = frozenset({"chunk_object", "merged_choices", "anthropic_chat"})
_OF_CHAT_STREAM: Final = _OF_CHAT | {"empty_choices"}


class StreamRepairs(Protocol):
    """The repairs of one stream of events."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what of it can go on now, b"" for nothing; never raises."""
        ...

    def end(self) -> bytes:
        """Return what is left at the regular end; never raises.

        Where upstream breaks off there is nothing to ask for: what is held is no whole event.
        """
        ...


class AnswerRepairs:
    """The repairs of one answer."""

    def __init__(
        self, path: str, enabled: Collection[str], request: bytes, dialect: str | None = None
    ) -> None:
        """See `answer_repairs`."""
        self._path = path
        self._enabled = enabled
        self._request = request
        self._dialect = Dialect.of(path) if dialect is None else dialect
        self.fired: list[str] = []
        """Names of the repairs that have been made."""

    def wants_whole(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether `whole` has to see an answer that is no stream of events."""
        if status >= _REFUSED_FROM:
            return "json_errors" in self._enabled
        if headers.get("content-type", "").startswith("text/event-stream"):
            return False
        if self._path == _CHAT:
            return any(each in self._enabled for each in _OF_CHAT)
        return self._wants_base64()

    def whole(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        refusal: Failure | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        """Return headers and body of a whole answer; names of headers are lower-case.

        `refusal` is what a status of 300 or above means (`proxy.Answer.refusal`). Framing is the
        caller's: a `content-length` is left out where the length may be another. Never raises.
        """
        if status >= _REFUSED_FROM:
            if "json_errors" not in self._enabled:
                return headers, body
            from brokerd.core.repairs.refused import in_dialect  # noqa: PLC0415 - not often

            return in_dialect(
                self._dialect, status, headers, body, refusal=refusal, fired=self.fired
            )
        new = body
        if self._path == _CHAT:
            chat_whole = _chat_whole()
            if not chat_whole.is_sound(body):
                new = chat_whole.repaired(body, self._of_chat(), self.fired)
        elif self._wants_base64():
            from brokerd.core.repairs.embeddings import in_base64  # noqa: PLC0415 - seldom

            new = in_base64(body, self.fired)
        if new is body:
            return headers, body
        return {name: headers[name] for name in headers if name != "content-length"}, new

    def stream(self) -> StreamRepairs | None:
        """Return what repairs a stream of events with a good status; None: nothing can."""
        if self._path == _CHAT:
            enabled = self._of_chat()
            if not enabled:
                return None
            has_tools = _has_tools(self._request)
            repairs: StreamRepairs = _chat_stream().ChatStream(
                enabled, self.fired, self._request, has_tools=has_tools
            )
            return repairs
        if self._path == _RESPONSES and "stable_ids" in self._enabled:
            from brokerd.core.repairs.stable_ids import ResponsesStream  # noqa: PLC0415 - of these

            return ResponsesStream(self.fired)
        return None

    def _of_chat(self) -> frozenset[str]:
        """Return the switched-on repairs of chat that this request leaves room for."""
        enabled = _OF_CHAT_STREAM.intersection(self._enabled)
        if "merged_choices" in enabled and _wants_several(self._request):
            return enabled - {"merged_choices"}
        return enabled

    def _wants_base64(self) -> bool:
        return (
            self._path == _EMBEDDINGS
            and "embeddings_base64" in self._enabled
            and _WANTS_BASE64.search(self._request) is not None
        )


def _wants_several(request: bytes) -> bool:
    """Whether more than one choice is asked for; the pattern takes ten times as long as `in`."""
    return _N in request and _WANTS_SEVERAL.search(request) is not None


def _has_tools(request: bytes) -> bool:
    tools, functions = _TOOLS
    may_have = tools in request or functions in request
    return may_have and _HAS_TOOLS.search(request) is not None


@cache
def _chat_whole() -> ModuleType:
    """Return what mends a whole chat answer: loaded with the first one, looked up once."""
    from brokerd.core.repairs import chat_whole  # noqa: PLC0415 - see above

    return chat_whole


@cache
def _chat_stream() -> ModuleType:
    """Return what mends a chat stream, likewise."""
    from brokerd.core.repairs import chat_stream  # noqa: PLC0415 - see above

    return chat_stream


def answer_repairs(
    path: str, enabled: Collection[str], request: bytes, dialect: str | None = None
) -> AnswerRepairs:
    """Return the repairs of one answer.

    `path` is of the Copilot API, `request` the body that goes there, `enabled` names of the
    repairs that are switched on; `dialect` is the caller's own, where another is spoken with
    upstream: errors are told in it, all else is repaired before it is translated.
    """
    return AnswerRepairs(path, enabled, request, dialect)
