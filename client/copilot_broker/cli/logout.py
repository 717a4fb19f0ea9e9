"""`copilot-cred logout`: have the broker forget a login, and GitHub too if that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import say
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "logout"]

LOGOUT_TIMEOUT = 30.0
"""Seconds: a keyring may have to be woken up before it forgets, and GitHub be asked."""

DESCRIPTION = """\
Forget the login, in the broker and in the store.

Without --revoke GitHub still lists the approval; to withdraw that, revoke the
app under https://github.com/settings/applications, which signs out every tool
that uses the same app.

With --revoke the broker first has GitHub revoke this login's token. That is
irreversible: GitHub mails the owner of the token, and every tool that holds
the same token loses it. Nothing asks back: the option is the asking. If GitHub
does not revoke it, nothing is forgotten either.
"""

EPILOG = """\
examples:
  copilot-cred logout
  copilot-cred logout --account work --revoke
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "logout", help="forget a login", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument(
        "--revoke", action="store_true", help="have GitHub revoke the token, for good"
    )
    parser.set_defaults(run=logout)


def logout(args: argparse.Namespace) -> int:
    """Have the broker forget the login."""
    with Client(name=PROGRAM, timeout=LOGOUT_TIMEOUT) as client:
        revoked = client.logout(args.account, revoke=args.revoke)
    if revoked:
        say("Revoked at GitHub and forgotten here.")
    elif args.revoke:  # an older broker, which does not know the wish
        raise Refusal(
            ErrorClass.DENIED,
            "not_revoked",
            "the login is forgotten here, but GitHub did not revoke its token",
            "revoke the app in your GitHub settings, under Applications; what is still signed in"
            " here: copilot-cred account list",
        )
    else:
        say("Signed out. GitHub still lists the approval: see copilot-cred logout --help")
    return 0
