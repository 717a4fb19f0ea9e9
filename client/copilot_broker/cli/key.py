"""`copilot-cred key create|list|revoke`: one key for each program that uses the HTTP door."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import print_table, say
from copilot_broker.cli.http_places import base_urls
from copilot_broker.cli.limits import amount, apart, count, length
from copilot_broker.cli.report import PROGRAM, printable
from copilot_broker.errors import CopilotBrokerError


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


__all__ = ["add", "key_create", "key_list", "key_revoke"]

DESCRIPTION = """\
Make, list and revoke keys for the HTTP door of the broker.

A program that speaks OpenAI's or Anthropic's API sends its key like any API
key. By TCP ([http] tcp in config.toml) nobody gets anything without one; over
the Unix socket http.sock none is needed, and one that is sent still limits. A
key lets its holder have completions made, within its limits, and never get at
a token. The broker keeps only a digest of it.
"""

EPILOG = """\
served by POST:  chat/completions  responses  messages  messages/count_tokens
                 embeddings  completions  engines/MODEL/completions
served by GET:   models  models/MODEL  healthz  metrics
with /v1 in front or without; docs/http.md says all of it
"""

CREATE_DESCRIPTION = """\
Make a key and print it, alone, on stdout. It is shown this once: the broker
itself does not know it afterwards. What else there is to say, the addresses to
use it at among it, goes to stderr. Make one for each program, so that you see
what each has used and can revoke one without the others.

A key only takes away: rules in config.toml ([[grant]]) hold as well, and one
may be about a key (key = "NAME"). What is not limited here is not limited by
the key.
"""

CREATE_EPILOG = """\
examples:
  copilot-cred key create editor
  copilot-cred key create ci --models 'gpt-4.1*' 'o4-*' --rpm 30 --expires 30d
  (umask 077; copilot-cred key create cron --budget 500k > ~/.cron-key)
  export OPENAI_API_KEY=$(copilot-cred key create aider --account work)

lengths of time: 90s, 15min, 12h, 30d, 2w, 6M (months), 1y, or '1d 12h'
"""

LIST_DESCRIPTION = """\
Show the keys on stdout: when each was made, when it ends, what it is limited
to, and the prompt and completion tokens that it has used today (UTC). The
keys themselves are kept nowhere.

run:NAME is the key of a command that copilot-cred exec has started, and ends
with its process; get:NAME one that copilot-cred get --model has asked for.
"""

REVOKE_DESCRIPTION = """\
End a key for good, at once: connections that use it are closed. There is no
way back; make another one: copilot-cred key create NAME
"""

USE = """\
This is the only time that it is shown. Programs send it as their API key
(Authorization: Bearer KEY, or x-api-key: KEY).
"""

HEADINGS = ("name", "created", "expires", "limits", "spent today")
SPARE = ("created",)
"""What a narrow terminal has to do without."""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "key",
        help="make, list and revoke keys for the HTTP door",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    creating = actions.add_parser(
        "create",
        help="make a key and print it, once",
        description=CREATE_DESCRIPTION,
        epilog=CREATE_EPILOG,
    )
    creating.add_argument("name", metavar="NAME", help="who will use it, for you to know it by")
    creating.add_argument(
        "--models",
        metavar="GLOB",
        nargs="+",
        action="extend",
        help="only models that match one of these patterns; put it after NAME",
    )
    creating.add_argument("--account", metavar="NAME", help="only this account, always this one")
    creating.add_argument(
        "--rpm", type=count, metavar="N", help="at most so many requests a minute"
    )
    creating.add_argument(
        "--budget",
        type=amount,
        metavar="TOKENS",
        help="at most so many tokens a day (UTC), prompts and answers: 500k, 2M",
    )
    creating.add_argument(
        "--expires",
        type=length,
        metavar="DURATION",
        help="how long it holds: 12h, 30d (default: for good)",
    )
    creating.set_defaults(run=key_create)
    listing = actions.add_parser("list", help="show the keys", description=LIST_DESCRIPTION)
    listing.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    listing.set_defaults(run=key_list)
    revoking = actions.add_parser("revoke", help="end a key", description=REVOKE_DESCRIPTION)
    revoking.add_argument("name", metavar="NAME", help="as copilot-cred key list shows it")
    revoking.set_defaults(run=key_revoke)


def key_create(args: argparse.Namespace) -> int:
    """Print a new key on stdout, and how to use it on stderr."""
    with Client(name=PROGRAM) as client:
        answer = client.create_key(
            args.name,
            models=apart(args.models),
            account=args.account,
            requests_per_minute=args.rpm,
            budget=args.budget,
            expires_in=args.expires,
        )
        print(answer["key"])
        sys.stdout.flush()  # before anything is asked or said of it
        try:
            places = base_urls(client.status())
        except CopilotBrokerError:  # the key is made: whatever ails the broker now
            places = ""
    name = printable(answer.get("name") or args.name)
    say(f"{USE}{places}To end it: {PROGRAM} key revoke {name}")
    return 0


def key_list(args: argparse.Namespace) -> int:
    """Print the keys on stdout."""
    with Client(name=PROGRAM) as client:
        keys = client.keys()
    if args.json:
        print(json.dumps({"keys": keys}))
    elif keys:
        now = time.time()
        print_table(HEADINGS, [_row(key, now) for key in keys], SPARE)
    else:
        say("There are no keys. To make one: copilot-cred key create NAME")
    return 0


def key_revoke(args: argparse.Namespace) -> int:
    """End a key."""
    with Client(name=PROGRAM) as client:
        answer = client.revoke_key(args.name)
    cut = answer.get("connections")
    closed = f" Connections that were closed: {cut}." if cut else ""
    say(f"Revoked: {printable(args.name)}.{closed}")
    return 0


def _row(key: Mapping[str, Any], now: float) -> tuple[str, ...]:
    expires = key.get("expires_at")
    if key.get("kind") == "run":
        ends = f"with process {key.get('pid', '-')}"
    elif expires is None:
        ends = "never"
    else:
        ends = "expired" if expires <= now else _day(expires, "%Y-%m-%d %H:%M")
    return (
        str(key.get("name", "-")),
        _day(key.get("created_at"), "%Y-%m-%d"),
        ends,
        _limits(key),
        f"{key.get('spent_today') or 0} tokens",
    )


def _limits(key: Mapping[str, Any]) -> str:
    said = []
    if isinstance(key.get("models"), list):
        said.append(f"models {' '.join(str(each) for each in key['models'])}")
    if key.get("account"):
        said.append(f"account {key['account']}")
    if key.get("requests_per_minute"):
        said.append(f"{key['requests_per_minute']} a minute")
    if key.get("budget"):
        said.append(f"{key['budget']} tokens a day")
    return ", ".join(said) or "-"


def _day(at: object, form: str) -> str:
    try:
        return time.strftime(form, time.localtime(float(str(at))))
    except (OverflowError, ValueError, OSError):  # beyond what the C library's calendar holds
        return "-"
