"""`copilot-cred chat`: a conversation on a terminal; with a question, one answer as it comes.

A question on the command line or on stdin is answered as `complete` does it. On a terminal,
without one, it is a conversation (`talk`), which is imported only then.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.asking.once import ask_once
from copilot_broker.cli.asking.options import add_options
from copilot_broker.cli.prompt import is_interactive


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "chat"]

DESCRIPTION = """\
Talk with Copilot on this terminal. With PROMPT, or with a question on stdin,
ask that one question and print the answer as it comes, as copilot-cred complete
does, which explains the options.

In a conversation each question counts as one turn against your quota (see:
copilot-cred models), and all that was said before goes with it, as far as the
model takes it. Ctrl-C stops an answer and keeps the conversation, Ctrl-D
leaves. Alt-Enter (or Esc, Enter) begins a new line; so does Enter in a question
that starts with three double quotes, until three more; pasted lines stay
together. /help tells the rest.

What you type is kept nowhere but in this process, and is gone with it, unless
you say --history or /save. Command lines can be seen by other users (ps): what
is private belongs on stdin, or into the conversation.
"""

EPILOG = """\
--history keeps your questions (never the answers) for the arrow keys of later
conversations, in ~/.local/state/copilot-broker/chat-history ($XDG_STATE_HOME),
which only you can read. To forget them, delete that file.

Lines are edited with prompt_toolkit where that is installed (the extra [cli]);
without it each is read as the terminal gives it.

exit codes: 0 after Ctrl-D or /exit; errors within a conversation do not end it.
With one question, those of: copilot-cred complete --help

examples:
  copilot-cred chat
  copilot-cred chat --model gpt-4.1 --system 'You review C.' --attach main.c
  copilot-cred chat 'What does EAGAIN from connect(2) mean on a Unix socket?'
  git diff --staged | copilot-cred chat 'Write a commit message for this.'
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "chat",
        help="talk with a model, or ask one question",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add_options(parser)
    parser.add_argument(
        "--history",
        action="store_true",
        help="keep your questions in a file, for later conversations",
    )
    parser.set_defaults(run=chat)


def chat(args: argparse.Namespace) -> int:
    """Talk, or ask the one question there is."""
    if args.prompt or args.json or not (is_interactive() and sys.stdout.isatty()):
        return ask_once(args)
    from copilot_broker.cli.talk.loop import talk  # noqa: PLC0415  # the terminal's library

    return talk(args)
