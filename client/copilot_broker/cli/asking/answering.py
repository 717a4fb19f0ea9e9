"""The answer on stdout as it comes: its text, or Copilot's own JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from copilot_broker.calls.answers import Heard, Usage, is_error
from copilot_broker.calls.refusals import broken_off
from copilot_broker.cli.report import PROGRAM, note
from copilot_broker.errors import ErrorClass, InternalError, refused


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from copilot_broker import Client, Completion, CompletionStream
    from copilot_broker.cli.asking.request import Request
    from copilot_broker.errors import UpstreamRefused


__all__ = ["Spent", "print_answer", "warn_of_ending"]

ENDINGS = {
    "length": "the answer was cut off: it reached the largest length allowed (--max-tokens)",
    "content_filter": "the answer was cut off by GitHub's content filter",
}
"""How an answer ended → what the person should know; the others are as they should be."""


@dataclass(frozen=True)
class Spent:
    """What one answer has cost, and how it ended."""

    model: str
    """In its own words, else as it was asked for."""
    account: str
    seconds: float
    """From the question to the answer's end."""
    usage: Usage
    ending: str | None = None
    has_text: bool = True


def print_answer(
    client: Client,
    request: Request,
    account: str | None,
    write: Callable[[str], None],
    *,
    as_json: bool = False,
) -> Spent:
    """Ask, and write the answer: its text as it comes, or Copilot's JSON.

    As JSON each event is a line of its own, or, without a stream, the whole is as it came. Raises
    what the client raises, UpstreamRefused for refusals.
    """
    begun = time.monotonic()
    heard, has_text = Heard(), False
    ask: dict[str, Any] = {"path": request.path, "account": account, "headers": request.headers}
    if request.stream:
        with client.stream(request.body, **ask) as stream:
            name = stream.account
            for event in _events(stream):
                text = heard.take(event)
                has_text = has_text or bool(text)
                write(json.dumps(event) + "\n" if as_json else text)
    else:
        answer = client.complete(request.body, **ask)
        name = answer.account
        text = heard.take(_whole(answer))
        has_text = bool(text)
        write(answer.body.decode("utf-8", "replace") if as_json else text)
    return Spent(
        heard.model or str(request.body["model"]),
        name,
        time.monotonic() - begun,
        heard.usage,
        heard.ending,
        has_text,
    )


def warn_of_ending(spent: Spent, verb: str) -> None:
    """Say so when an answer did not end well, or says nothing."""
    if spent.ending in ENDINGS:
        note(ENDINGS[spent.ending])
    elif not spent.has_text:
        note(f"the answer holds no text; to see what it holds: {PROGRAM} {verb} --json")


def _events(answer: CompletionStream) -> Iterator[dict[str, Any]]:
    """Yield what Copilot says; UpstreamRefused for what is no answer of its, as a web page is."""
    came = False
    try:
        for event in answer.events():
            came = True
            yield event
    except InternalError as error:
        if error.code != "bad_event":
            raise
        raise _no_answer(answer.status) from None
    if not came:
        raise _no_answer(answer.status)


def _whole(answer: Completion) -> Mapping[str, Any]:
    """Return the answer that came in one piece. Raises UpstreamRefused."""
    answer.raise_for_status()
    try:
        found = answer.json()
    except InternalError:
        found = None
    if not isinstance(found, Mapping):
        raise _no_answer(answer.status)
    if is_error(found):
        raise broken_off(answer.status)
    return found


def _no_answer(status: int) -> UpstreamRefused:
    return refused(
        status,
        ErrorClass.TEMPORARY,
        "bad_answer",
        "what came is no answer of GitHub Copilot's",
        "A proxy or firewall may have answered in its place, or changed it. Ask again; whether "
        f"the way is clear: {PROGRAM} doctor",
    )
