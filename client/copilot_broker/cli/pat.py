"""`copilot-cred quota set-pat|forget-pat`: the token that may read the billing pages."""

from __future__ import annotations

import argparse
from typing import Any

from copilot_broker import Client
from copilot_broker.cli.display import say
from copilot_broker.cli.quota_words import command, in_vain, why
from copilot_broker.cli.report import PROGRAM, printable
from copilot_broker.cli.token_source import PLAN_TOKEN, token_from_stdin


__all__ = ["ACCOUNT_HELP", "QUOTA_TIMEOUT", "add", "forget_pat", "set_pat"]

QUOTA_TIMEOUT = 60.0
"""Seconds: the broker may ask several pages of GitHub, one after the other."""

SET_DESCRIPTION = """\
Keep a token with which the broker may read the billing pages, which know best.
It is read from stdin, never from the command line, tried, and kept where the
account's login is kept until you sign out.

Make it at https://github.com/settings/personal-access-tokens: a fine-grained
one, without any repository, with the account permission "Plan" (read-only) and
nothing else. It cannot use Copilot, so it is no replacement for signing in.
Plans that an organization pays for are not on these pages.
"""

SET_EPILOG = """\
examples:
  copilot-cred quota set-pat
  pass show github/plan | copilot-cred quota set-pat --account work
"""

FORGET_DESCRIPTION = """\
Forget the token that copilot-cred quota set-pat has kept. GitHub still takes
it: delete it at https://github.com/settings/personal-access-tokens
"""

ACCOUNT_HELP = "instead of the default account"


def add(actions: Any) -> None:
    """Add the actions to the verb."""
    setting = actions.add_parser(
        "set-pat",
        help="keep a token that may read the plan (from stdin)",
        description=SET_DESCRIPTION,
        epilog=SET_EPILOG,
    )
    setting.set_defaults(run=set_pat)
    forgetting = actions.add_parser(
        "forget-pat", help="forget that token", description=FORGET_DESCRIPTION
    )
    forgetting.set_defaults(run=forget_pat)
    for action in (setting, forgetting):  # what is given before the action holds, too
        action.add_argument(
            "--account", metavar="NAME", default=argparse.SUPPRESS, help=ACCOUNT_HELP
        )


def set_pat(args: argparse.Namespace) -> int:
    """Hand on the token that stdin holds."""
    pat = token_from_stdin(PLAN_TOKEN)
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        answer = client.set_pat(pat, args.account)
    whose = printable(answer.get("account") or args.account or "the default account")
    say(f"Kept for {whose}. To see what is left: {command('', args.account)}")
    for attempt in in_vain(answer):
        if attempt.get("source") == "billing":  # it works, and yet tells nothing
            say(why(attempt))
    return 0


def forget_pat(args: argparse.Namespace) -> int:
    """Have the token forgotten."""
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        answer = client.forget_pat(args.account)
    if answer.get("forgotten") is False:
        say("None was kept.")
        return 0
    say(
        "Forgotten here; GitHub still takes it: delete it at"
        " https://github.com/settings/personal-access-tokens"
    )
    return 0
