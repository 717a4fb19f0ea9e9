"""`copilot-cred status`: who is signed in, how long the token lives, what is wrong.

Never shows a token, only its id: eight hex digits that mean nothing outside this broker.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import duration, print_table
from copilot_broker.cli.report import printable


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


__all__ = ["add", "print_accounts", "status"]

DESCRIPTION = """\
Show the broker, its accounts and what is wrong with them.

Exits 0 whenever the broker answers, signed in or not; scripts that need a token ask for one
with `copilot-cred get`, whose exit code says what is missing.
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "status", help="show who is signed in and how it goes", description=DESCRIPTION
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.set_defaults(run=status)


def status(args: argparse.Namespace) -> int:
    """Print the broker's status on stdout."""
    with Client(name="copilot-cred") as client:
        answer = client.status()
    if args.json:
        print(json.dumps(answer))
        return 0
    version = printable(answer.get("version", "?"))
    uptime = duration(answer.get("uptime"))
    print(f"copilot-broker {version}, pid {answer.get('pid', '?')}, up {uptime}")
    if answer.get("simulated"):
        print("SIMULATED: this broker talks to its built-in simulator, not to GitHub")
    if answer.get("summary"):
        print(printable(answer["summary"]))
    if answer.get("config_problem"):
        print(printable(f"configuration not reloaded: {answer['config_problem']}"))
    print_accounts(answer.get("accounts") or [])
    return 0


def print_accounts(accounts: list[Mapping[str, Any]]) -> None:
    """Print a table of the accounts and, below it, what ails them."""
    if not accounts:
        print("no accounts; to sign in: copilot-cred login")
        return
    headings = ("account", "user", "host", "state", "token", "valid", "refresh in", "store")
    rows = [
        (
            f"{account.get('name')}{' (default)' if account.get('default') else ''}",
            str(account.get("login") or "-"),
            str(account.get("host") or "-"),
            _state(account),
            str(account.get("token_id") or "-"),
            duration(account.get("expires_in")),
            duration(account.get("refresh_in")),
            str(account.get("store") or "-"),
        )
        for account in accounts
    ]
    print_table(headings, rows)
    for account in accounts:
        error = account.get("error")
        if error:
            print(printable(f"{account.get('name')}: {error.get('message', '')}"))
            if error.get("url"):
                print(printable(f"  see: {error['url']}"))
            if error.get("hint"):
                print(printable(f"  hint: {error['hint']}"))


def _state(account: Mapping[str, Any]) -> str:
    state = str(account.get("state", "?")).replace("_", " ")
    return f"{state}, login not saved yet" if account.get("unsaved") else state
