"""`copilot-cred doctor`: how everything stands that is promised or needed, a line for each.

The broker examines itself (`broker.doctor`); what only somebody outside of it can see is looked at
here, a file for each family. Without a broker there is still that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.display import say
from copilot_broker.cli.doctor.accounts import accounts
from copilot_broker.cli.doctor.broker import examine
from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.cli.doctor.logins import other_logins
from copilot_broker.cli.doctor.session import environment, linger
from copilot_broker.cli.doctor.shown import print_findings
from copilot_broker.cli.doctor.sockets import sockets
from copilot_broker.cli.report import PROGRAM


if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


__all__ = ["add", "doctor"]

DOCTOR_TIMEOUT = 30.0
"""Seconds: the broker tries what it must not be able to do, and may wait for a keyring."""

EXIT_ERRORS = 1

DESCRIPTION = """\
Look at how everything stands that is promised or needed, a line for each: ok,
warning (it works, with less protection or comfort than it could have) or error
(something does not hold), and below what mends it.

The broker examines itself anew: its configuration, who is signed in and where
that is kept, where it serves HTTP and whether its keys can be read, what keeps
other programs out of its memory and keeps it from the machine. From outside
are looked at its sockets, its memory, its version, your session, this shell's
environment, and the places where other tools keep a Copilot login of their
own. What is left of the plan is asked for, at GitHub if need be, to see who
tells. Nothing is changed, no token is shown.

Exits 0 when there is no error, warnings or not, else 1.
"""

EPILOG = """\
examples:
  copilot-cred doctor
  copilot-cred doctor --json | jq -r '.checks[] | select(.verdict != "ok").name'
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "doctor",
        help="look for what is wrong, and say what mends it",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--json", action="store_true", help="all of it as one line of JSON")
    parser.set_defaults(run=doctor)


def doctor(args: argparse.Namespace) -> int:
    """Print all findings on stdout."""
    with Client(name=PROGRAM, timeout=DOCTOR_TIMEOUT) as client:
        asked = [*examine(client), *accounts(client)]
    found = _each_once([*asked, *sockets(), *linger(), *environment(), *other_logins()])
    if args.json:
        print(json.dumps({"checks": [finding.to_map() for finding in found]}))
    else:
        print_findings(found)
        say(_in_sum(found))
    return EXIT_ERRORS if any(each.verdict is Verdict.ERROR for each in found) else 0


def _each_once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what was looked at before: the broker knows better than we do."""
    once: dict[str, Finding] = {}
    for finding in findings:
        once.setdefault(finding.name, finding)
    return list(once.values())


def _in_sum(findings: Iterable[Finding]) -> str:
    verdicts = [finding.verdict for finding in findings]
    counts = [
        f"{verdicts.count(bad)} {bad.value}{'' if verdicts.count(bad) == 1 else 's'}"
        for bad in (Verdict.ERROR, Verdict.WARNING)
        if bad in verdicts
    ]
    return f"{', '.join(counts)}." if counts else "All is well."
