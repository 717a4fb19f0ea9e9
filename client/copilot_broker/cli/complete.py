"""`copilot-cred complete`: one question of a script, one answer, as it comes.

The prompt goes to the broker's socket and nowhere else: no child process, no file, no log. Leaving
early (Ctrl-C, a reader of stdout that has had enough) closes the connection, and the broker then
cuts the answer at Copilot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker.cli.asking.once import ask_once
from copilot_broker.cli.asking.options import add_options


if TYPE_CHECKING:
    import argparse


__all__ = ["add"]

DESCRIPTION = """\
Ask Copilot one question and print the answer as it comes: its text alone, on
stdout. Nothing is remembered: each call is a conversation of its own, and
counts as one turn against your quota (see: copilot-cred models).

The words of PROMPT are the question. What stdin holds, unless it is a terminal,
is appended to it or, without PROMPT, is the question; `-` reads stdin even from
a terminal, until Ctrl-D. Where a script's stdin is for others (`while read`),
say </dev/null. Command lines can be seen by other users (ps): what is private
belongs on stdin, or in a file: --attach.

It never asks anybody anything, on a terminal neither. To talk with a model:
copilot-cred chat
"""

EPILOG = """\
The text is Copilot's own; where it does not end in a newline, one is added, and
never more ($(...) takes them away). On a terminal, characters that would drive
it are left out. -v adds one line on stderr: model, tokens, seconds, account,
premium requests.

--attach takes pictures (PNG, JPEG, GIF, WebP) for models that see, as
copilot-cred models shows them, and text in UTF-8, which is put after the
question, between fences, with its name. Both may be named several times.

--json-mode wants the word JSON in the question or in --system. With --schema
the answer keeps strictly to the schema, which then has to say
"additionalProperties": false and require all properties. An answer that was
cut off (a note says so) is no whole JSON.

A model is asked on an endpoint that it speaks: /chat/completions, /responses
or /v1/messages. With --json stdout holds what Copilot said there and no text of
ours: one line for each event as it comes (the final [DONE] is left out), or
with --no-stream the answer's JSON as it is. Without --model the account's
default is asked, as copilot-cred models shows it.

exit codes: 2 the question cannot be asked, or Copilot does not understand it
(400), 3 no broker, 4 sign in again, 5 it refuses (402, 403, 422 ...), 6 locked,
7 it cannot now (429, 5xx) or broke off midway: what came stays on stdout. 130
after Ctrl-C, 141 where nobody reads on.

examples:
  git diff --staged | copilot-cred complete 'Write a commit message for this.'
  copilot-cred complete --system 'Answer in one line.' < question
  copilot-cred complete --attach plot.png 'What does this show?' </dev/null
  copilot-cred complete --json-mode 'Name three primes as JSON.' | jq .
  copilot-cred complete --no-stream --json 'Hello' </dev/null | jq .usage
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "complete",
        help="have a question answered in a script",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_options(parser)
    parser.set_defaults(run=ask_once)
