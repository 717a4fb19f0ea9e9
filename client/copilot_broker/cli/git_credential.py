"""`copilot-cred git-credential`: a credential helper of git's for the Copilot API and no other.

git says on stdin what it wants to reach and takes what it understands from stdout
(git-credential(1), gitcredentials(7)). A bearer is answered only to a git that knows what that is,
and only for the origins that the account's token is made for; for all else this helper is as good
as absent, so it may stand among others. It keeps nothing and can lose nothing: `store` does
nothing, and `erase` has the broker replace the token that was refused, if it is still the current
one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.get import ask
from copilot_broker.cli.lease_formats import CAPABILITY, git_answer, git_attributes
from copilot_broker.cli.report import Refusal
from copilot_broker.wire import mini


if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping


__all__ = ["Question", "add", "git_credential", "read_question"]

DESCRIPTION = """\
Answer git, as its credential helper: a short-lived bearer for the Copilot API
of the account, and nothing for any other host. Needs git 2.46, which knows
bearers; an older one gets no answer and asks its other helpers.

get         print the credential that is asked for on stdin, or nothing
store       do nothing: there is nothing to be kept
erase       have the broker replace the token, if it is the one given; the login
            stays
capability  print what this helper can do

Other operations are ignored, as git wants it.
"""

EPILOG = """\
examples:
  git config --global credential.https://api.githubcopilot.com.helper \\
    '!copilot-cred git-credential'
"""

MIN_VALID = 60.0
"""Seconds, as `get` has it."""
MAX_LINE = 64 * 1024
"""Bytes: git itself takes no longer one (git-credential(1))."""
MAX_LINES = 256
"""A question of git's has a dozen."""
NAME_PART = "copilot"
"""In every host name that GitHub gives this API; for others not even the broker is asked."""
DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "git-credential",
        help="answer git, as its credential helper",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("operation", metavar="get|store|erase|capability")
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.set_defaults(run=git_credential)


@dataclass(frozen=True)
class Question:
    """What git has said of the place it wants to reach."""

    origin: str
    """As `api_base` has it; empty when it is none that could be Copilot's."""
    knows_bearers: bool
    refused: str = field(repr=False)
    """The bearer that was answered before, where git gives one back; a secret."""


def git_credential(args: argparse.Namespace) -> int:
    """Carry out one operation; raise Refusal when the broker has no token to lend."""
    if args.operation == "capability":
        print(f"version 0\ncapability {CAPABILITY}")
    elif args.operation == "get":
        question = read_question(_stdin())
        if question.origin and question.knows_bearers:
            lease = ask(mini.encode_get(MIN_VALID, args.account))
            if question.origin in _origins(lease):
                sys.stdout.write(git_attributes(git_answer(lease)))
    elif args.operation == "erase":
        _erase(read_question(_stdin()), args.account)
    return 0


def _erase(question: Question, account: str | None) -> None:
    """Have a refused token replaced; git is told nothing, whatever comes of it."""
    if question.origin and question.refused:
        with contextlib.suppress(Refusal):
            ask(mini.encode_get(0.0, account, question.refused))


def read_question(lines: Iterable[bytes]) -> Question:
    """Read attributes up to an empty line or the end; a later one replaces an earlier one."""
    told: dict[str, str] = {}
    capabilities: set[str] = set()
    for line, _ in zip(lines, range(MAX_LINES), strict=False):
        text = line.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
        if not text:
            break
        key, _, value = text.partition("=")
        if key != "capability[]":
            told[key] = value
        elif value:
            capabilities.add(value)
        else:
            capabilities.clear()  # git's way to begin a list anew
    origin = _origin(told.get("protocol", ""), told.get("host", ""))
    refused = told.get("credential", "") if told.get("authtype") == "Bearer" else ""
    return Question(origin, CAPABILITY in capabilities, refused)


def _origin(protocol: str, host: str) -> str:
    """Return the origin in the form of `api_base`, nothing when it cannot be Copilot's."""
    host = host.lower().removesuffix(DEFAULT_PORTS.get(protocol, "/"))
    if protocol == "https" and NAME_PART in host:
        return f"https://{host}"
    if protocol in DEFAULT_PORTS and _is_loopback(host):  # a simulator's
        return f"{protocol}://{host}"
    return ""


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host[-1:].isdigit() and ":" in host else host
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name == "localhost"


def _origins(lease: Mapping[str, Any]) -> set[object]:
    """Return where the token may go: nowhere but where the broker itself would send it."""
    return {lease.get("api_base"), lease.get("completions_base")}


def _stdin() -> Iterable[bytes]:
    if sys.stdin is None:
        return ()
    return iter(lambda: sys.stdin.buffer.readline(MAX_LINE), b"")
