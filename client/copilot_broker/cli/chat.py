"""`copilot-cred chat`: one question, one answer, as it comes.

The prompt goes to the broker's socket and nowhere else: no child process, no file, no log. Leaving
early (Ctrl-C, a reader of stdout that has had enough) closes the connection, and the broker then
cuts the answer at Copilot.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.calls.completion import is_error, text_in
from copilot_broker.calls.refusals import broken_off
from copilot_broker.cli.catalogue import default_model, read_models
from copilot_broker.cli.models import MODELS_TIMEOUT
from copilot_broker.cli.output import Text
from copilot_broker.cli.report import PROGRAM, Refusal, note
from copilot_broker.cli.stdin import read_stdin
from copilot_broker.errors import ErrorClass, InternalError, refused


if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from copilot_broker import CompletionStream
    from copilot_broker.errors import UpstreamRefused


__all__ = ["add", "chat"]

MAX_PROMPT = 8 * 1024 * 1024
"""Bytes taken from stdin: more than the largest context holds, far below the wire's bound."""

HEADERS = {"x-initiator": "user"}
"""A person asks: GitHub counts the turn (its multiplier is in `copilot-cred models`)."""

ENDINGS = {
    "length": "the answer was cut off: it reached the largest length allowed (--max-tokens)",
    "content_filter": "the answer was cut off by GitHub's content filter",
}
"""`finish_reason` → what the person should know; the others are as they should be."""

DESCRIPTION = """\
Ask Copilot one question and print the answer as it comes. Nothing is
remembered: each call is a conversation of its own, and counts as one turn
against your quota (see: copilot-cred models).

The words of PROMPT are the question. What stdin holds, unless it is a terminal,
is appended to it or, without PROMPT, is the question; `-` reads stdin even from
a terminal, until Ctrl-D. Where a script's stdin is for others (`while read`),
say </dev/null. Command lines can be seen by other users (ps): what is private
belongs on stdin.
"""

EPILOG = """\
With --json stdout holds what Copilot said and no text of ours: one line for
each event as it comes (OpenAI's chat.completion.chunk; the final [DONE] is left
out), or with --no-stream the answer's JSON as it is. Without --model the
account's default is asked, as copilot-cred models shows it.

exit codes: 2 Copilot does not understand it (400), 4 sign in again, 5 it
refuses (402, 403, 422 ...), 7 it cannot now (429, 5xx) or broke off midway:
what came stays on stdout. 130 after Ctrl-C.

examples:
  copilot-cred chat 'What does EAGAIN from connect(2) mean on a Unix socket?'
  git diff --staged | copilot-cred chat 'Write a commit message for this.'
  copilot-cred chat --model gpt-4.1 --system 'Answer in one line.' < question
  copilot-cred chat --no-stream --json 'Hello' </dev/null | jq .usage
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "chat",
        help="ask a question, print the answer as it comes",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; - for stdin")
    parser.add_argument("--model", metavar="ID", help="who answers, by id")
    parser.add_argument("--system", metavar="TEXT", help="how to answer: the system message")
    parser.add_argument(
        "--temperature", type=_temperature, metavar="T", help="0 (steady) to 2 (wild)"
    )
    parser.add_argument(
        "--max-tokens", type=_positive, metavar="N", help="how long the answer may be"
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="wait for the whole answer, then print it"
    )
    parser.add_argument("--json", action="store_true", help="print Copilot's JSON, not the text")
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.set_defaults(run=chat)


def chat(args: argparse.Namespace) -> int:
    """Ask, and print the answer on stdout."""
    prompt = _prompt(args.prompt)
    request = _request(args, args.model or _default(args.account), prompt)
    with Client(name=PROGRAM) as client:
        if args.no_stream:
            _print_whole(client, request, args)
        else:
            _print_stream(client, request, args)
    return 0


def _print_whole(client: Client, request: dict[str, Any], args: argparse.Namespace) -> None:
    answer = client.complete(request, account=args.account, headers=HEADERS)
    answer.raise_for_status()
    try:
        found = answer.json()
    except InternalError:
        found = None
    if not isinstance(found, Mapping):
        raise _no_answer(answer.status)
    if is_error(found):
        raise broken_off(answer.status)
    with Text() as out:
        if args.json:
            out.write(answer.body.decode("utf-8", "replace"))
        else:
            _print_text([found], out)


def _print_stream(client: Client, request: dict[str, Any], args: argparse.Namespace) -> None:
    with (
        client.stream(request, account=args.account, headers=HEADERS) as answer,
        Text() as out,
    ):
        if args.json:
            for event in _events(answer):
                out.write(json.dumps(event) + "\n")
        else:
            _print_text(_events(answer), out)


def _events(answer: CompletionStream) -> Iterator[dict[str, Any]]:
    """Yield what Copilot says; UpstreamRefused for what is no answer of its, as a web page is."""
    came = False
    for event in answer.events():
        came = True
        yield event
    if not came:
        raise _no_answer(answer.status)


def _no_answer(status: int) -> UpstreamRefused:
    return refused(
        status,
        ErrorClass.TEMPORARY,
        "bad_answer",
        "what came is no answer of GitHub Copilot's",
        "A proxy or firewall may have answered in its place. Ask again: copilot-cred chat",
    )


def _print_text(events: Iterable[Any], out: Text) -> None:
    """Print the text of an answer, whole or in pieces; say so when it did not end well."""
    ending = None
    for event in events:
        if isinstance(event, Mapping):
            out.write(text_in(event))
            ending = _ending(event) or ending
    if ending in ENDINGS:
        note(ENDINGS[ending])
    elif not out.wrote:
        note("the answer holds no text; to see what it holds: copilot-cred chat --json")


def _ending(event: Mapping[str, Any]) -> str | None:
    """Return the `finish_reason` of the first choice, where this event tells it."""
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    reason = choice.get("finish_reason") if isinstance(choice, Mapping) else None
    return reason if isinstance(reason, str) else None


def _request(args: argparse.Namespace, model: str, prompt: str) -> dict[str, Any]:
    """Return the body: OpenAI's chat completion, with what was asked for and nothing else."""
    messages = [{"role": "user", "content": prompt}]
    if args.system is not None:
        messages.insert(0, {"role": "system", "content": args.system})
    request = {"model": model, "messages": messages, "stream": not args.no_stream}
    if args.temperature is not None:
        request["temperature"] = args.temperature
    if args.max_tokens is not None:
        request["max_tokens"] = args.max_tokens
    return request


def _default(account: str | None) -> str:
    with Client(name=PROGRAM, timeout=MODELS_TIMEOUT) as client:
        model = default_model(read_models(client.models(account)))
    if model is None:
        raise Refusal(
            ErrorClass.DENIED,
            "no_model",
            "Copilot offers this account no model that can chat",
            "see what it offers: copilot-cred models --all",
        )
    return model.id


def _prompt(words: list[str]) -> str:
    """Return the question: the words, then what stdin holds. Raises Refusal (usage)."""
    parts = [" ".join(word for word in words if word != "-")]
    if "-" in words or (sys.stdin is not None and not sys.stdin.isatty()):
        parts.append(_stdin())
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise _usage("there is no question: neither PROMPT nor stdin holds one", "no_prompt")
    try:
        prompt.encode()
    except UnicodeEncodeError:  # argv that is not UTF-8 comes as lone surrogates
        raise _unusable("PROMPT is not UTF-8 text") from None
    return prompt


def _stdin() -> str:
    data = read_stdin(MAX_PROMPT, "question", _unusable)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _unusable("what stdin holds is not UTF-8 text") from None


def _unusable(message: str) -> Refusal:
    return _usage(message, "prompt_unusable")


def _usage(message: str, code: str) -> Refusal:
    return Refusal(ErrorClass.USAGE, code, message, f"see how it is called: {PROGRAM} chat --help")


def _temperature(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 2:
        raise argparse.ArgumentTypeError("from 0 to 2")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return value
