"""One request in another dialect, and its answer back in the caller's own."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.errors import error_event
from brokerd.core.dialects.fitting import abilities_of, fitted
from brokerd.core.dialects.meaning import Begun, Broken, Stopped, UntranslatableError
from brokerd.core.dialects.sse import TooLongError
from brokerd.core.turns import MAX_ITEMS


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from brokerd.core.dialects.fitting import Abilities
    from brokerd.core.dialects.meaning import Answer, Asking, Event
    from brokerd.errors import Failure


__all__ = ["AnswerStream", "Translation"]


NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Of a model that nothing is known of."""

MAX_OBJECTS: Final = 30_000
"""Each costs some 25 microseconds of everybody's time. Messages, blocks, calls and schemas of an
agent's conversation of a million tokens are a few thousand."""

_EVENT: Final = re.compile(rb".*?\n\n|.+\Z", re.DOTALL)
"""An event and its end, or what a read ends with; other line ends are found by the reader."""


class _Reader(Protocol):
    def feed(self, chunk: bytes) -> list[Event]: ...

    def end(self) -> list[Event]: ...


class _Writer(Protocol):
    def write(self, events: Iterable[Event]) -> bytes: ...


class _Dialect(Protocol):
    """What each of the three packages has."""

    def read_asking(self, body: Mapping[str, Any], /) -> Asking: ...

    def write_asking(self, asking: Asking, /, **habits: Any) -> dict[str, Any]: ...

    def read_answer(self, body: Mapping[str, Any], /) -> Answer: ...

    def write_answer(self, answer: Answer, /) -> dict[str, Any]: ...

    def EventReader(self) -> _Reader: ...  # noqa: N802 - a class, in fact

    def EventWriter(self, model: str, /, *, wants_usage: bool) -> _Writer: ...  # noqa: N802


class Translation:
    """Of one request, from the endpoint it was sent to (`said`) to the one it goes to."""

    def __init__(
        self,
        said: str,
        spoken: str,
        body: bytes,
        entry: Mapping[str, Any] = NOTHING,
        *,
        now: int = 0,
    ) -> None:
        """Read the request. Raises UntranslatableError for what the other has no words for.

        `entry` is what GitHub says of the model. `now` (Unix seconds) is the time of an answer
        that names none, as those of Messages do not.
        """
        self._now = now
        self._dialect = Dialect.of(said)
        self._said = _load(said)
        self._spoken = _load(spoken)
        self._asking = asking = self._said.read_asking(_object(body))
        able, speaks = abilities_of(entry), Dialect.of(spoken)
        # A stream without its usage could not tell the caller's dialect what it must.
        fits = replace(fitted(asking, able, speaks), wants_usage=True)
        habits = _habits(able) if speaks is Dialect.MESSAGES else {}
        told = self._spoken.write_asking(fits, **habits)
        self.body = _written(told)
        """The request in the other dialect."""
        self.wants_stream = asking.stream

    def whole(self, body: bytes) -> bytes:
        """Return a whole answer in the caller's dialect. Raises UntranslatableError."""
        answer = self._spoken.read_answer(_object(body))
        told = self._said.write_answer(replace(answer, created=answer.created or self._now))
        return _written(told)

    def stream(self) -> AnswerStream:
        """Return what translates a streamed one."""
        writer = self._said.EventWriter(self._asking.model, wants_usage=self._asking.wants_usage)
        return AnswerStream(self._dialect, self._spoken.EventReader(), writer, self._now)


class AnswerStream:
    """Feed it what upstream sends; what it returns is for the caller."""

    def __init__(self, dialect: Dialect, reader: _Reader, writer: _Writer, now: int = 0) -> None:
        self._dialect = dialect
        self._now = now
        self._reader = reader
        self._writer = writer
        self.is_over = False
        """Whether the caller has been told of an end, a good one or not."""

    def feed(self, chunk: bytes) -> bytes:
        """Translate what has come; never raises.

        Event by event, so that one that cannot be read takes none with it that came before.
        """
        told: list[bytes] = []
        for each in _EVENT.findall(chunk):
            try:
                told.append(self._write(self._reader.feed(each)))
            except (UntranslatableError, TooLongError) as error:
                told.append(self._write([Broken(f"the answer cannot be translated: {error}")]))
        return b"".join(told)

    def end(self) -> bytes:
        """Translate the end of upstream's stream, which its framing says is whole."""
        try:
            return self._write(self._reader.end())
        except UntranslatableError as error:
            return self._write([Broken(f"the answer cannot be translated: {error}")])

    def broken(self, failure: Failure) -> bytes:
        """Tell the caller that upstream's stream has broken off."""
        return b"" if self.is_over else error_event(self._dialect, failure)

    def _write(self, events: list[Event]) -> bytes:
        if self.is_over:
            return b""
        for at, event in enumerate(events):
            if isinstance(event, Begun) and not event.created:
                events[at] = replace(event, created=self._now)
            elif isinstance(event, (Stopped, Broken)):
                self.is_over = True
                return self._writer.write(events[: at + 1])
        return self._writer.write(events)


def _load(path: str) -> _Dialect:
    # Late: who never translates never pays for it.
    found: Any = importlib.import_module(f"brokerd.core.dialects.{Dialect.of(path)}")
    return found  # type: ignore[no-any-return]  # a module is what the protocol describes


def _habits(able: Abilities) -> dict[str, Any]:
    """Return what Messages want to know of a model: how long an answer may be, how it thinks."""
    habits: dict[str, Any] = {}
    if able.longest is not None:
        habits["max_tokens"] = able.longest
    if able.adaptive is not None:
        habits["adaptive"] = able.adaptive
    return habits


def _written(told: dict[str, Any]) -> bytes:
    try:
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write as an escape only
        return json.dumps(told, separators=(",", ":")).encode()


class _Objects:
    """Takes the objects of one body, and no more of them than are translated while others wait."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_OBJECTS

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._left -= 1
        if self._left < 0:
            raise UntranslatableError(f"a body of more than {MAX_OBJECTS} objects")
        found = dict(pairs)
        if len(found) != len(pairs):
            raise UntranslatableError("a key that stands twice in one object")
        return found


def _object(body: bytes) -> dict[str, Any]:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        raise UntranslatableError(f"a body of more than {MAX_ITEMS} values")
    try:
        found = json.loads(body, object_pairs_hook=_Objects())
    except RecursionError:
        raise UntranslatableError("a body nested that deep") from None
    except UntranslatableError:
        raise
    except ValueError:
        raise UntranslatableError("a body that is not JSON") from None
    if not isinstance(found, dict):
        raise UntranslatableError("a body that is no JSON object")
    return found
