"""`copilot-cred login`: sign in once, for every tool of this user.

The broker runs the device authorization grant (RFC 8628) and streams its progress; this file says
what the person has to do and know, and `prompt.py` does what a terminal needs. When the command
ends early, its connection closes and the broker drops the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import account_words, duration, say
from copilot_broker.cli.prompt import follow, is_interactive
from copilot_broker.cli.report import Refusal, printable
from copilot_broker.cli.token_source import token_from_environment, token_from_stdin
from copilot_broker.errors import ErrorClass, error_from
from copilot_broker.wire.messages import ErrorInfo


if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping


__all__ = ["add", "login"]

LOGIN_TIMEOUT = 30.0
"""Seconds until the broker begins to answer: it may first wait for GitHub or a keyring."""

DESCRIPTION = """\
Sign in to GitHub, by default with a code that you enter in a browser (on any device).

GitHub will show the app whose client id is used (--client-id), not copilot-broker: you approve
that app. copilot-broker is unofficial, not made or endorsed by GitHub. One login is one person:
do not share or pool it. Requests count against your quota, and automated bulk use can get an
account suspended. The approval is listed, and revoked, under "Applications" in your GitHub
settings.
"""

EPILOG = """\
stores:
  auto            the Secret Service (GNOME Keyring, KWallet, KeePassXC); never a lesser one
  secret-service  the same, by name
  file            a file readable by this user only, not encrypted
  memory          forgotten when the broker stops

examples:
  copilot-cred login
  copilot-cred login --with-token < token.txt
  GH_TOKEN=... copilot-cred login --from-env --store file
"""

TERMS = (
    "Unofficial: not made or endorsed by GitHub. One login is one person: do not share or pool it."
    " Requests count against your quota; automated bulk use can get the account suspended."
)


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "login", help="sign in to GitHub", description=DESCRIPTION, epilog=EPILOG
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--with-token", action="store_true", help="read a GitHub token from stdin")
    source.add_argument(
        "--from-env",
        action="store_true",
        help="use COPILOT_GITHUB_TOKEN, GH_TOKEN or GITHUB_TOKEN, the first that is usable",
    )
    parser.add_argument("--account", metavar="NAME", help="name for this login (default: default)")
    parser.add_argument("--host", help="GitHub's host (default: github.com)")
    parser.add_argument(
        "--client-id", metavar="ID", help="the app to approve: vscode, copilot or a literal id"
    )
    parser.add_argument(
        "--store",
        choices=("auto", "secret-service", "file", "memory"),
        help="where to keep the login",
    )
    parser.add_argument(
        "--no-input", action="store_true", help="ask nothing and do not offer to open the browser"
    )
    parser.set_defaults(run=login)


def login(args: argparse.Namespace) -> int:
    """Sign in; returns when the login is saved."""
    token = None
    if args.with_token:
        token = token_from_stdin()
    elif args.from_env:
        token = token_from_environment()
    options = {
        "host": args.host,
        "client_id": args.client_id,
        "store": args.store,
        "token": token,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with Client(name="copilot-cred", timeout=LOGIN_TIMEOUT) as client:
        progress = client.login(args.account, **given)
        if is_interactive() and not args.no_input:
            done = follow(progress, announce)
        else:
            done = _wait(progress)
    if done is None:
        raise Refusal(
            ErrorClass.INTERNAL,
            "no_outcome",
            "the broker ended the sign-in without saying how it went",
            "see whether you are signed in: copilot-cred status",
        )
    account = done.get("account") or {}
    say(f"Signed in as {account_words(account)}.")
    store = account.get("store")
    if store:
        say(f"The login is kept in: {printable(store)}.")
    if store == "memory":
        say("It is forgotten when the broker stops.")
    if token is not None:
        say(TERMS)
    error = account.get("error")
    if error:  # the login is kept all the same: it is Copilot that says no
        raise error_from(ErrorInfo.from_wire(error))
    return 0


def announce(chunk: Mapping[str, Any]) -> None:
    """Say what to do and what it means; once per user code."""
    app = chunk.get("app") or "the app of this client id"
    uri = printable(chunk.get("verification_uri", ""))
    site = "/".join(uri.split("/")[:3])
    say("Sign in to GitHub:")
    say()
    say(f"  open   {uri}")
    say(f"  enter  {printable(chunk.get('user_code', ''))}")
    say()
    say(f"You approve the app: {printable(app)}")
    say("GitHub shows this name, not copilot-broker, because its client id is used to sign in;")
    say(f"you can revoke it at any time under {site}/settings/applications")
    say(printable(chunk.get("notice") or TERMS))
    say()


def _wait(progress: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Follow the sign-in without a terminal: print the code once and wait."""
    for chunk in progress:
        if chunk.get("event") == "user_code":
            announce(chunk)
            say(f"Waiting for the approval, at most {duration(chunk.get('expires_in'))} ...")
        elif chunk.get("event") == "done":
            return chunk
    return None
