"""`copilot-cred grants`: what a program may ask of the broker, and which rule says so."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import print_table, wrapped
from copilot_broker.cli.grant_words import rule_words, summary, verbs
from copilot_broker.cli.report import PROGRAM, Refusal, printable, words
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["add", "grants"]

DESCRIPTION = """\
Explain what a program may ask of the broker, and by which rules: this command
itself, a running process (--pid), or any that would be as you say. The broker
decides once for each connection, and again when the rules change.

The socket that a program comes through (the listener) says how much it may do
at most: rpc everything (admin), http completions (complete), any further one
only the status. Rules in config.toml ([[grant]]) take away from that, by unit,
label, sandbox, user, group or key; a rule that names nothing but a listener
sets what that one gives. Rights are what is left after all rules that apply, so
their order plays no part.

scopes, each with all before it:
  status    see how the broker is: status, models, quota, usage,
            doctor
  complete  have completions made: chat, api, the HTTP door
  token     be lent Copilot tokens: get, watch
  admin     sign in and out, choose accounts, see these rules

The explanation is data: it exits 0 also for a program that may do nothing. To
explain others than this command itself takes the scope admin.
"""

EPILOG = """\
examples:
  copilot-cred grants
  copilot-cred grants --pid "$(pgrep -n code)"
  copilot-cred grants --unit app-code-1.scope --listener http
  copilot-cred grants --uid 1001 --json | jq -r .scope
  copilot-cred grants --key ci --listener http
  copilot-cred grants --list
"""

ABOUT_OTHERS = ("pid", "unit", "label", "sandbox", "uid", "gid", "listener", "key")
"""Options that say whom it is about, by their names on the wire (PROTOCOL.md, grant.explain)."""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "grants",
        help="explain what a program may do, and by which rule",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    about = parser.add_argument_group("about whom (default: this command itself)")
    about.add_argument("--pid", type=_number, metavar="N", help="this process")
    about.add_argument("--unit", metavar="NAME", help="one in this systemd unit")
    about.add_argument("--label", metavar="NAME", help="one with this security label")
    about.add_argument(
        "--sandbox",
        choices=("flatpak", "snap", "container", "none"),
        help="one in such a sandbox, or in none",
    )
    about.add_argument("--uid", type=_number, metavar="N", help="one of this user")
    about.add_argument("--gid", type=_number, metavar="N", help="one of this group")
    about.add_argument(
        "--listener", metavar="NAME", help="through this socket: rpc (default), http, ..."
    )
    about.add_argument(
        "--key", metavar="NAME", help="one that shows the key of this name to the HTTP door"
    )
    parser.add_argument(
        "--list", action="store_true", help="show the rules in force and the listeners instead"
    )
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    parser.set_defaults(run=grants)


def grants(args: argparse.Namespace) -> int:
    """Print the explanation, or the rules, on stdout."""
    about = {name: getattr(args, name) for name in ABOUT_OTHERS}
    given = [name for name, value in about.items() if value is not None]
    if args.list and given:
        raise _usage(f"--list shows all rules; --{given[0]} asks about one program")
    if given == ["listener"]:
        about["pid"] = os.getpid()  # this very process, if it came through another door
    with Client(name=PROGRAM) as client:
        answer = client.grants() if args.list else client.explain_grant(**about)
    if args.json:
        print(json.dumps(answer))
    elif args.list:
        _print_rules(answer)
    else:
        _print_explanation(answer, asked_for_caller=given in ([], ["listener"]))
    return 0


def _print_explanation(answer: Mapping[str, Any], *, asked_for_caller: bool) -> None:
    print(wrapped(f"{summary(answer, asked_for_caller=asked_for_caller)}."))
    error = Refusal.from_map(answer.get("error"))
    if error is not None and error.hint:
        print("\n".join(words(error)[1:]))
    print()
    for line in verbs(answer):
        print(wrapped(line, hanging=" " * 10))
    steps = [
        (str(step.get("where") or "-"), str(step.get("effect") or "-"))
        for step in _maps(answer.get("steps"))
    ]
    if steps:
        print()
        print_table(("because", "effect"), steps)


def _print_rules(answer: Mapping[str, Any]) -> None:
    listeners = answer.get("listeners")
    names = [printable(name) for name in listeners] if isinstance(listeners, list) else []
    print(f"listeners: {', '.join(names) or '-'}; connections: {answer.get('connections', '-')}")
    rules = [
        (
            str(rule.get("where") or "-"),
            rule_words(rule.get("who"), "everybody"),
            rule_words(rule.get("what"), "-"),
        )
        for rule in _maps(answer.get("rules"))
    ]
    if rules:
        print_table(("rule", "who", "at most"), rules)
    else:
        print("no rules: rpc gives admin, http and http-tcp complete, any further listener status")


def _maps(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _number(text: str) -> int:
    """Read a process, user or group id."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(2**32))):
        raise argparse.ArgumentTypeError("takes a number")
    return int(text)


def _usage(message: str) -> Refusal:
    return Refusal(ErrorClass.USAGE, "usage", message, f"see: {PROGRAM} grants --help")
