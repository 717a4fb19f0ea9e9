"""`copilot-cred refresh`: fetch a new token now, and ask again what upstream refused before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import say
from copilot_broker.cli.report import PROGRAM, printable
from copilot_broker.cli.times import duration


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "refresh"]

REFRESH_TIMEOUT = 30.0
"""Seconds: GitHub may take its time, and somebody who refreshes by hand waits for the outcome."""

DESCRIPTION = """\
Fetch a new token from GitHub now. Not needed in normal use: the broker
refreshes ahead of expiry.

It is the way to try again after GitHub refused (no Copilot seat, single
sign-on, a policy), once that has been put right. Prints nothing on stdout; the
token is printed by `copilot-cred get`.

GitHub is asked six times a minute at most; sooner, the token that there is
counts as new, and the last failure is told again.
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "refresh", help="fetch a new token now", description=DESCRIPTION
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.set_defaults(run=refresh)


def refresh(args: argparse.Namespace) -> int:
    """Have the broker fetch a new token; the token itself stays there."""
    with Client(name=PROGRAM, timeout=REFRESH_TIMEOUT) as client:
        lease = client.refresh(args.account)
    token_id, left = lease.get("token_id"), duration(lease.get("expires_in"))
    say(printable(f"The token of {lease.get('account')} is now {token_id}, valid {left}."))
    return 0
