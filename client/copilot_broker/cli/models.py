"""`copilot-cred models`: what the account may ask, and what a turn with it costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.catalogue import default_model, read_models
from copilot_broker.cli.display import print_table, say


if TYPE_CHECKING:
    import argparse

    from copilot_broker.cli.catalogue import Model


__all__ = ["MODELS_TIMEOUT", "add", "models"]

MODELS_TIMEOUT = 30.0
"""Seconds: the broker asks Copilot, perhaps after it has fetched a token."""

DESCRIPTION = """\
List the models that Copilot offers this account: those that chat and are meant to be chosen.

premium is the number of premium requests that one turn costs (0: none), context the tokens that
prompt and answer may have together. The default is what `copilot-cred chat` asks without --model.
A policy other than "enabled" has to be accepted first: https://github.com/settings/copilot
"""

EPILOG = """\
examples:
  copilot-cred models
  copilot-cred models --json | jq -r '.[].id'
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "models", help="list the models and what they cost", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument(
        "--all", action="store_true", help="also those for other uses, or not for choosing"
    )
    parser.add_argument(
        "--json", action="store_true", help="all of GitHub's own entries as one line of JSON"
    )
    parser.set_defaults(run=models)


def models(args: argparse.Namespace) -> int:
    """Print the models on stdout."""
    with Client(name="copilot-cred", timeout=MODELS_TIMEOUT) as client:
        entries = client.models(args.account)
    if args.json:
        print(json.dumps(entries))
        return 0
    found = read_models(entries)
    default = default_model(found)
    shown = [model for model in found if args.all or model.is_for_people]
    if shown:
        headings = ("id", "name", "vendor", "context", "premium", "endpoints", "can", "notes")
        print_table(headings, [_row(model, model == default) for model in shown])
    if len(shown) < len(found):
        say(f"{len(found) - len(shown)} not shown; to see them too: copilot-cred models --all")
    elif not found:
        say("Copilot lists no models for this account; to ask anew: copilot-cred refresh")
    return 0


def _row(model: Model, default: bool) -> tuple[str, ...]:
    can = [word for word, does in (("vision", model.vision), ("tools", model.tools)) if does]
    notes = [model.type] if model.type not in {"", "chat"} else []
    notes += [] if model.in_picker else ["not for choosing"]
    notes += ["preview"] if model.preview else []
    notes += [] if model.policy in {"", "enabled"} else [f"policy {model.policy}"]
    return (
        f"{model.id}{' (default)' if default else ''}",
        model.name or "-",
        model.vendor or "-",
        _tokens(model.context),
        "-" if model.multiplier is None else f"{model.multiplier:g}",
        " ".join(_short(path) for path in model.endpoints) or "-",
        " ".join(can) or "-",
        ", ".join(notes) or "-",
    )


def _short(path: str) -> str:
    """Return an endpoint without what all of them have: `chat`, `messages`, `ws:responses`."""
    name = path.removeprefix("/v1").replace("/", "")
    return "chat" if name == "chatcompletions" else name


def _tokens(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count // 1000} k" if count >= 1000 else str(count)
