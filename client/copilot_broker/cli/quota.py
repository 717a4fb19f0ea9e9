"""`copilot-cred quota`: what is left of the plan, and who says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client, Denied
from copilot_broker.cli import pat
from copilot_broker.cli.display import say, wrapped
from copilot_broker.cli.mystatus import Found, read_mystatus
from copilot_broker.cli.pat import ACCOUNT_HELP, QUOTA_TIMEOUT
from copilot_broker.cli.quota_bars import print_quota
from copilot_broker.cli.quota_words import command, in_vain, tell_more, who_says, whose, why
from copilot_broker.cli.report import PROGRAM, Refusal, note
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


__all__ = ["add", "quota"]

GITHUB = "github.com"
"""The host whose tokens opencode-mystatus keeps."""

NO_COPILOT = "no figures: GitHub says that this person has no Copilot"

DESCRIPTION = """\
Show what is left of the plan: a bar for each kind of request that GitHub
counts, when it begins anew, and who said so.

Asked in this order, until one answers: GitHub's billing pages, where a token
that may read them was given (copilot-cred quota set-pat); the page of the
account's own Copilot seat; what Copilot told beside its last answers; what the
Copilot token of a free plan says. What one leaves out, the next may add. -v
shows who did not answer and why, and what each model has used.

The token that opencode-mystatus keeps for the billing pages is used, too,
unless the account has one of its own. Only github.com's, only from a file that
nobody else may read, and it is not kept.

The broker asks GitHub every five minutes at most.
"""

EPILOG = """\
examples:
  copilot-cred quota
  copilot-cred quota --account work -v
  copilot-cred quota --json | jq .kinds.premium_interactions.remaining
"""

TIERS = ("free", "pro", "pro+", "max", "business", "enterprise")


def add(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "quota",
        help="show what is left of the plan",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--account", metavar="NAME", help=ACCOUNT_HELP)
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="have GitHub asked anew, unless it was within ten seconds",
    )
    parser.add_argument(
        "--tier", choices=TIERS, help="your plan, in case that nobody tells what it includes"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also who did not answer, and why"
    )
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    parser.set_defaults(run=quota)
    pat.add(parser.add_subparsers(dest="action", metavar="[ACTION]"))


def quota(args: argparse.Namespace) -> int:
    """Print on stdout what is left. Raises Refusal where nobody tells."""
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        answer = _ask(client, args)
    if not answer.get("source"):
        raise _nobody_tells(answer, args)
    if args.json:
        print(json.dumps(answer))
        return 0
    print(wrapped(whose(answer), hanging="  "))
    if answer.get("kinds"):
        print_quota(answer["kinds"])
    else:
        print(f"  {NO_COPILOT}" if answer.get("sku") == "no_access" else "  no figures")
    print(wrapped(who_says(answer), hanging="  "))
    if args.verbose:
        tell_more(answer)
    elif any(each.get("outcome") == "failed" for each in in_vain(answer)):
        say(f"Not everybody who was asked answered; why: {command('-v', args.account)}")
    return 0


def _ask(client: Client, args: argparse.Namespace) -> dict[str, Any]:
    """Ask with opencode-mystatus' token if there is one of this account's user."""
    found = _of_mystatus(client, args)
    tier = args.tier or found.tier or None
    if found.token:
        try:
            return client.quota(args.account, args.fresh, found.token, tier)
        except Denied as error:
            if error.code != "scope_too_low":
                raise
            _remark(args, "the token of opencode-mystatus is not used: " + error.message)
    return client.quota(args.account, args.fresh, tier=tier)


def _of_mystatus(client: Client, args: argparse.Namespace) -> Found:
    found = read_mystatus()
    if found.warning:
        note(found.warning)
    _remark(args, found.remark)
    if not found.token:
        return found
    for account in client.status().get("accounts") or []:
        if account.get("default") if args.account is None else account.get("name") == args.account:
            reason = _why_not_its(account, found)
            _remark(args, reason)
            return Found() if reason else found
    return Found()  # the broker says that there is no such account


def _why_not_its(account: Mapping[str, Any], found: Found) -> str:
    """Return why an account may not be asked about with that token, or nothing."""
    unused = "the token of opencode-mystatus is not used: it is"
    if account.get("host") != GITHUB:
        return f"{unused} one of {GITHUB}"  # no other host is ever shown it
    login = account.get("login")
    if found.username and login and found.username.lower() != str(login).lower():
        return f"{unused} {found.username}'s, not {login}'s"
    return ""


def _remark(args: argparse.Namespace, text: str) -> None:
    if text and args.verbose:
        note(text)


def _nobody_tells(answer: Mapping[str, Any], args: argparse.Namespace) -> Refusal:
    for attempt in in_vain(answer):
        say(why(attempt))
    return Refusal(
        ErrorClass.TEMPORARY,
        "quota_unknown",
        "nobody tells what is left of the plan",
        f"try again after a completion, or let GitHub tell: {command('set-pat', args.account)}",
    )
