"""`copilot-cred quota`: what is left of the plan, who says so, and the token that may read it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker import Client, Denied
from copilot_broker.cli.display import account_words, say, wrapped
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

SOURCES = {
    "billing": "GitHub's billing pages",
    "seat": "the account's Copilot seat",
    "headers": "Copilot, beside its last answers",
    "token": "the account's Copilot token",
}
"""By their names on the wire (PROTOCOL.md, quota.get)."""

TOLD = frozenset({"used", "added"})
"""Outcomes of sources that told something."""

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
    parser.add_argument("--fresh", action="store_true", help="have GitHub asked anew")
    parser.add_argument(
        "--tier", choices=TIERS, help="your plan, in case that nobody tells what it includes"
    )
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
    print(wrapped(_whose(answer), hanging="  "))
    if answer.get("kinds"):
        print_quota(answer["kinds"])
    else:
        print("  no figures")
    print(wrapped(_who_says(answer), hanging="  "))
    if args.verbose:
        _tell_more(answer)
    elif any(each.get("outcome") == "failed" for each in _in_vain(answer)):
        say(f"Not everybody who was asked answered; why: {_command('-v', args)}")
    return 0


def set_pat(args: argparse.Namespace) -> int:
    """Hand on the token that stdin holds."""
    pat = token_from_stdin(PLAN_TOKEN)
    with Client(name=PROGRAM, timeout=QUOTA_TIMEOUT) as client:
        answer = client.set_pat(pat, args.account)
    whose = printable(answer.get("account") or args.account or "the default account")
    say(f"Kept for {whose}. To see what is left: {_command('', args)}")
    for attempt in _in_vain(answer):
        if attempt.get("source") == "billing":  # it works, and yet tells nothing
            say(_why(attempt))
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


def _whose(answer: Mapping[str, Any]) -> str:
    """Return whose plan it is: `octocat on github.com (account default), plan pro`."""
    account = {**answer, "name": answer.get("account") or "default"}
    said = account_words(account) if answer.get("login") else str(account["name"])
    plan = answer.get("plan") or answer.get("sku")
    return f"{said}, plan {plan}" if plan else said


def _who_says(answer: Mapping[str, Any]) -> str:
    said = f"told by {_source(answer['source'])}"
    age = answer.get("age")
    if isinstance(age, int | float):
        said += f" {duration(age)} ago" if age > 1 else " just now"
    added = [each["source"] for each in _tried(answer) if each.get("outcome") == "added"]
    if added:
        said += f"; the rest by {' and '.join(map(_source, added))}"
    if answer.get("tier"):
        said += f"; that the plan is {answer['tier']} is only your own word"
    return said


def _source(name: object) -> str:
    return SOURCES.get(str(name), str(name))


def _tried(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tried = answer.get("tried")
    for attempt in tried if isinstance(tried, list) else []:
        if isinstance(attempt, Mapping) and attempt.get("source"):
            yield attempt


def _in_vain(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the sources that did not tell anything."""
    return (each for each in _tried(answer) if each.get("outcome") not in TOLD)


def _tell_more(answer: Mapping[str, Any]) -> None:
    models = answer.get("models")
    if isinstance(models, Mapping) and models:
        used = [f"{name} {count}" for name, count in models.items()]
        say(wrapped(f"by model: {', '.join(used)}", hanging="  "))
    for attempt in _in_vain(answer):
        say(_why(attempt))


def _why(attempt: Mapping[str, Any]) -> str:
    """Return why a source told nothing, and what mends that."""
    name = str(attempt["source"])
    told = str(attempt.get("outcome") or "told nothing").replace("_", " ")
    error = Refusal.from_map(attempt) or Refusal(ErrorClass.TEMPORARY, "", told, "")
    return "\n".join(words(error, name))


def _nobody_tells(answer: Mapping[str, Any], args: argparse.Namespace) -> Refusal:
    for attempt in _in_vain(answer):
        say(_why(attempt))
    return Refusal(
        ErrorClass.TEMPORARY,
        "quota_unknown",
        "nobody tells what is left of the plan",
        f"try again after a completion, or let GitHub tell: {_command('set-pat', args)}",
    )


def _command(action: str, args: argparse.Namespace) -> str:
    account = [] if args.account is None else ["--account", args.account]
    return " ".join([PROGRAM, "quota", *filter(None, [action]), *account])
