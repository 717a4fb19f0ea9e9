"""`copilot-cred login`: sign in once, for every tool of this user.

The broker runs the device authorization grant (RFC 8628) and streams its progress; this file says
what the person has to do and know, and `prompt.py` does what a terminal needs. When the command
ends early, its connection closes and the broker drops the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import account_words, say, sentence, wrapped
from copilot_broker.cli.prompt import follow, is_interactive
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.cli.times import duration
from copilot_broker.cli.token_source import token_from_environment, token_from_stdin
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping


__all__ = ["LOGIN_TIMEOUT", "STORES", "TERMS", "add", "conclude", "login", "wait"]

LOGIN_TIMEOUT = 30.0
"""Seconds until the broker begins to answer: it may first wait for GitHub or a keyring."""

DESCRIPTION = """\
Sign in to GitHub, by default with a code that you enter in a browser (on any
device).

GitHub will show the app whose client id is used (--client-id), not
copilot-broker: you approve that app. copilot-broker is unofficial, not made or
endorsed by GitHub. One login is one person: do not share or pool it. Requests
count against your quota, and automated bulk use can get an account suspended.
The approval is listed, and revoked, under "Applications" in your GitHub
settings, or with: copilot-cred logout --revoke

To take a login that another tool keeps on this machine: copilot-cred import
"""

EPILOG = """\
apps (--client-id):
  vscode          Visual Studio Code, an OAuth app (the default)
  copilot         GitHub Copilot Plugin, a GitHub App
  anything else   is taken for the client id of an app of your own

scopes (--scope) are what the approval lets the login do on GitHub beyond
Copilot, such as read:user: who you are. The default asks for as little as the
app can do with. GitHub Apps ignore scopes: what they may do is settled by
their owner, and shown when you approve them.

stores (--store):
  auto            the Secret Service (GNOME Keyring, KWallet, KeePassXC); never
                  a lesser one
  secret-service  the same, by name
  file            a file readable by this user only, not encrypted
  memory          forgotten when the broker stops

examples:
  copilot-cred login
  copilot-cred login --account work --host acme.ghe.com
  copilot-cred login --client-id copilot
  copilot-cred login --scope "read:user user:email"
  copilot-cred login --with-token < token.txt
  GH_TOKEN=... copilot-cred login --from-env --store file
"""

STORES = ("auto", "secret-service", "file", "memory")

TERMS = (
    "Unofficial: not made or endorsed by GitHub. One login is one person: do not share or pool it."
    " Requests count against your quota; automated bulk use can get the account suspended."
)

WHY_DIRECT = {
    "token_kind": "tokens of this kind are not for Copilot's exchange",
    "exchange_unknown": "Copilot's exchange does not know this app's tokens",
}
"""By the account's `mode_reason`."""


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
    parser.add_argument("--host", help="github.com (the default) or your tenant's NAME.ghe.com")
    parser.add_argument(
        "--client-id",
        metavar="ID",
        help="the app to approve: vscode (Visual Studio Code), copilot (GitHub Copilot Plugin) or"
        " a literal id",
    )
    parser.add_argument(
        "--scope",
        metavar='"A B"',
        help="what else the login may do, see below; GitHub Apps ignore it",
    )
    parser.add_argument(
        "--store",
        choices=STORES,
        help="where to keep the login, see below",
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
        "scope": args.scope,
        "store": args.store,
        "token": token,
    }
    given = {name: value for name, value in options.items() if value is not None}
    with Client(name=PROGRAM, timeout=LOGIN_TIMEOUT) as client:
        progress = client.login(args.account, **given)
        if is_interactive() and not args.no_input:
            done = follow(progress, announce)
        else:
            done = wait(progress)
    return conclude(done, terms=TERMS if token is not None else "")


def conclude(done: Mapping[str, Any] | None, terms: str = "") -> int:
    """Say how a sign-in has ended, by its last chunk. Raises Refusal where Copilot says no."""
    if done is None:
        raise Refusal(
            ErrorClass.INTERNAL,
            "no_outcome",
            "the broker ended the sign-in without saying how it went",
            "see whether you are signed in: copilot-cred status",
        )
    account = done.get("account") or {}
    _congratulate(account)
    if terms:
        say(wrapped(terms))
    error = Refusal.from_map(account.get("error"))
    if error is not None:  # the login is kept all the same: it is Copilot that says no
        raise error
    return 0


def announce(chunk: Mapping[str, Any]) -> None:
    """Say what to do and what it means; once per user code."""
    uri = printable(chunk.get("verification_uri", ""))
    say("Sign in to GitHub:")
    say()
    say(f"  open   {uri}")
    say(f"  enter  {printable(chunk.get('user_code', ''))}")
    say()
    say(wrapped(f"You approve the app: {_app(chunk)}"))
    means = chunk.get("means")
    if isinstance(means, list) and means:
        say("Approving means:")
        for meaning in means:
            say(wrapped(str(meaning), "  - ", "    "))
    else:  # an older broker, which leaves the explaining to us
        site = "/".join(uri.split("/")[:3])
        say("GitHub shows this name, not copilot-broker, because its client id is used to")
        say("sign in; you can revoke it at any time under")
        say(f"{site}/settings/applications")
    say()
    say(wrapped(TERMS))
    say()


def _app(chunk: Mapping[str, Any]) -> str:
    """Return who is approved: `Visual Studio Code (client id vscode)`."""
    app, client = chunk.get("app") or "the app of this client id", chunk.get("client")
    return f"{app} (client id {client})" if client and str(client) not in str(app) else str(app)


def _congratulate(account: Mapping[str, Any]) -> None:
    """Say who is signed in, how that will be used and where it is kept."""
    say(f"Signed in as {account_words(account)}.")
    if account.get("scopes"):
        say(wrapped(f"What it may do on GitHub (scopes): {account['scopes']}"))
    if account.get("mode") == "direct":
        reason = str(account.get("mode_reason"))
        why = WHY_DIRECT.get(reason, "this account is set to that")
        works = "copilot-cred chat works, copilot-cred get has nothing to hand out"
        say(wrapped(f"The login is used directly: {why}. It never leaves the broker: {works}."))
    store = account.get("store")
    if store:
        say(f"The login is kept in: {printable(store)}.")
    if store == "memory":
        say("It is forgotten when the broker stops.")
    if store == "file":
        say(wrapped("It is not encrypted: who reads your files, or a backup of them, has it."))


def wait(progress: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Follow the sign-in without a terminal: print the code, and each advice, once and wait."""
    advised = set()
    for chunk in progress:
        event, advice = chunk.get("event"), chunk.get("advice")
        if event == "user_code":
            announce(chunk)
            say(f"Waiting for the approval, at most {duration(chunk.get('expires_in'))} ...")
        elif event == "waiting" and advice and advice not in advised:
            advised.add(advice)
            say(sentence(advice))
        elif event == "done":
            return chunk
    return None
