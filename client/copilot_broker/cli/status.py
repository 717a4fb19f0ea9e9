"""`copilot-cred status`: who is signed in, how long the token lives, what is wrong.

Never shows a token, only its id: eight hex digits that mean nothing outside this broker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.account_view import print_accounts
from copilot_broker.cli.display import wrapped
from copilot_broker.cli.http_places import http_lines
from copilot_broker.cli.report import PROGRAM, Refusal, printable, words
from copilot_broker.cli.times import duration
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "status"]

DESCRIPTION = """\
Show the broker, where it serves HTTP, its accounts and what is wrong with
them: how each is signed in and asks Copilot, what is left of its quota, what
Copilot refused last, and what is held back meanwhile, until when and why.

mode is how Copilot is asked. exchange: with a short-lived token that is traded
for the GitHub login and can be had with `copilot-cred get`. direct: with the
GitHub login itself, which never leaves the broker.

Exits 0 whenever the broker answers, signed in or not; scripts that need a
token ask for one with `copilot-cred get`, whose exit code says what is missing.
"""

EPILOG = """\
examples:
  copilot-cred status
  copilot-cred status --account work
  copilot-cred status --json | jq '.accounts[].pacing.cooldown_in'
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "status",
        help="show who is signed in and how it goes",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--account", metavar="NAME", help="only this one")
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    parser.set_defaults(run=status)


def status(args: argparse.Namespace) -> int:
    """Print the broker's status on stdout."""
    with Client(name=PROGRAM) as client:
        answer = client.status()
    if args.account is not None:
        answer = {**answer, "accounts": _only(answer.get("accounts") or [], args.account)}
    if args.json:
        print(json.dumps(answer))
        return 0
    version = printable(answer.get("version", "?"))
    uptime = duration(answer.get("uptime"))
    print(f"copilot-broker {version}, pid {answer.get('pid', '?')}, up {uptime}")
    if answer.get("simulated"):
        print("SIMULATED: this broker talks to its built-in simulator, not to GitHub")
    if answer.get("summary"):
        print(wrapped(answer["summary"]))
    if answer.get("config_problem"):
        print(wrapped(f"configuration not reloaded: {answer['config_problem']}"))
    for line in http_lines(answer):
        print(line)
    _print_usage(answer)
    print_accounts(answer.get("accounts") or [])
    return 0


def _print_usage(answer: Mapping[str, Any]) -> None:
    """Tell what is in the way of the ledger, if anything is."""
    usage = answer.get("usage")
    error = Refusal.from_map(usage.get("error")) if isinstance(usage, Mapping) else None
    if error is not None:
        for line in words(error, "usage is not kept"):
            print(wrapped(line, hanging="  "))


def _only(accounts: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    found = [account for account in accounts if account.get("name") == name]
    if not found:
        message = f"there is no account named {name}"
        raise Refusal(
            ErrorClass.USAGE, "unknown_account", message, f"see them: {PROGRAM} account list"
        )
    return found
