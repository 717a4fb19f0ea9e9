"""`copilot-cred quota`: what is left of the plan, who says so, and the token that may read it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker import Client, Denied
from copilot_broker.cli.display import say, wrapped
from copilot_broker.cli.mystatus import Found, read_mystatus
from copilot_broker.cli.quota_bars import print_quota
from copilot_broker.cli.report import PROGRAM, Refusal, note, printable, words
from copilot_broker.cli.times import duration
from copilot_broker.cli.token_source import PLAN_TOKEN, token_from_stdin
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["QUOTA_TIMEOUT", "add", "forget_pat", "quota", "set_pat"]

QUOTA_TIMEOUT = 60.0
"""Seconds: the broker may ask several pages of GitHub, one after the other."""

GITHUB = "github.com"
"""The host whose tokens opencode-mystatus keeps."""

DESCRIPTION = """\
Show what is left of the plan: a bar for each kind of request that GitHub
counts, when it begins anew, and who said so.

Asked in this order, until one answers: GitHub's billing pages, where a token
that may read them was given (copilot-cred quota set-pat); the page of the
account's own Copilot seat; what Copilot told beside its last answers; what the
Copilot token of a free plan says. -v shows why the others did not answer.

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

SET_DESCRIPTION = """\
Keep a token with which the broker may read the billing pages, which know best.
It is read from stdin, never from the command line, and kept where the
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

SOURCES = {
    "pat": "GitHub's billing pages",
    "billing": "GitHub's billing pages",
    "seat": "the page of the account's Copilot seat",
    "headers": "what Copilot told beside its last answers",
    "token": "the account's Copilot token",
}
"""By their names on the wire (PROTOCOL.md, quota.get)."""


def add(verbs: Any) -> None:
    """Add the verbs to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "quota",
        help="show what is left of the plan",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--account", metavar="NAME", help=ACCOUNT_HELP)
    parser.add_argument("--fresh", action="store_true", help="have GitHub asked anew")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also who did not answer, and why"
    )
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    parser.set_defaults(run=quota)
    actions = parser.add_subparsers(dest="action", metavar="[ACTION]")
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


def quota(args: argparse.Namespace) -> int:
    """Print on stdout what is left. Raises Refusal where nobody tells."""
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        answer = _ask(client, args)
    if not answer.get("source"):
        raise _nobody_tells(answer, args)
    if args.json:
        print(json.dumps(answer))
        return 0
    facts = [f"plan {answer['plan']}"] if answer.get("plan") else []
    print(wrapped(": ".join([str(answer.get("account") or "default"), *facts]), hanging="  "))
    print_quota(answer.get("kinds"))
    print(wrapped(_who_says(answer), hanging="  "))
    if args.verbose:
        for line in _in_vain(answer):
            say(line)
    return 0


def set_pat(args: argparse.Namespace) -> int:
    """Hand on the token that stdin holds."""
    pat = token_from_stdin(PLAN_TOKEN)
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        answer = client.set_pat(pat, args.account)
    whose = answer.get("account") or args.account or "the default account"
    say(f"Kept for {printable(whose)}. To see what it tells: {_command('', args)}")
    return 0


def forget_pat(args: argparse.Namespace) -> int:
    """Have the token forgotten."""
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        client.forget_pat(args.account)
    say(
        "Forgotten here; GitHub still takes it: delete it at"
        " https://github.com/settings/personal-access-tokens"
    )
    return 0


def _ask(client: Client, args: argparse.Namespace) -> dict[str, Any]:
    """Ask with opencode-mystatus' token if there is one of this account's user."""
    found = _of_mystatus(client, args)
    if found.token:
        try:
            return client.quota(args.account, args.fresh, found.token, found.tier or None)
        except Denied as error:
            if error.code != "scope_too_low":
                raise
            _remark(args, "the token of opencode-mystatus is not used: " + error.message)
    return client.quota(args.account, args.fresh, tier=found.tier or None)


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


def _who_says(answer: Mapping[str, Any]) -> str:
    source, age = answer["source"], answer.get("age")
    said = f"as {SOURCES.get(str(source), source)} had it"
    if isinstance(age, int | float) and age > 1:
        return f"{said} {duration(age)} ago"
    return f"{said} just now"


def _in_vain(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield who was asked before that source, and why that was in vain."""
    tried = answer.get("tried")
    for attempt in tried if isinstance(tried, list) else []:
        if not isinstance(attempt, Mapping) or attempt.get("source") == answer.get("source"):
            continue
        name = printable(attempt.get("source"))
        told = str(attempt.get("message") or attempt.get("outcome") or "did not answer")
        error = Refusal(ErrorClass.INTERNAL, "", told, str(attempt.get("hint") or ""))
        yield "\n".join(words(error, name))


def _nobody_tells(answer: Mapping[str, Any], args: argparse.Namespace) -> Refusal:
    for line in _in_vain(answer):
        say(line)
    return Refusal(
        ErrorClass.TEMPORARY,
        "quota_unknown",
        "nobody tells what is left of the plan",
        f"try again after a completion, or let GitHub tell: {_command('set-pat', args)}",
    )


def _command(action: str, args: argparse.Namespace) -> str:
    account = [] if args.account is None else ["--account", args.account]
    return " ".join([PROGRAM, "quota", *filter(None, [action]), *account])
