"""`copilot-cred models`: what the account may ask, and what a turn with it costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli import model_policy
from copilot_broker.cli.catalogue import MODELS_TIMEOUT, default_model, read_models
from copilot_broker.cli.display import print_table, say
from copilot_broker.cli.report import PROGRAM, Refusal, words
from copilot_broker.cli.times import duration


if TYPE_CHECKING:
    import argparse

    from copilot_broker.cli.catalogue import Model


__all__ = ["add", "models"]

NEW_ENOUGH = 60.0
"""Seconds: how old a list may be without a word about it."""

DESCRIPTION = """\
List the models that Copilot offers this account: those that chat and are meant
to be chosen.

limits are tokens: of prompt and answer together, of the prompt, of the answer.
premium is the number of premium requests that one turn costs (0: none). A
model whose policy is neither - nor enabled has to be accepted first, with
copilot-cred models enable. The default is what copilot-cred chat asks without
--model.

The broker asks GitHub every ten minutes at most. If GitHub does not tell, the
last list is shown, and that it is.
"""

EPILOG = """\
examples:
  copilot-cred models
  copilot-cred models --json | jq -r '.[].id'
  copilot-cred models enable claude-sonnet-4
"""

HEADINGS = ("id", "name", "vendor", "limits", "premium", "policy", "endpoints", "can", "notes")
SPARE = ("vendor", "name", "notes", "can", "endpoints", "limits", "premium")
"""What a narrow terminal has to do without."""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "models",
        help="list the models and what they cost, accept one's terms",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="have GitHub asked anew, unless it was within ten seconds",
    )
    parser.add_argument(
        "--all", action="store_true", help="also those for other uses, or not for choosing"
    )
    parser.add_argument(
        "--json", action="store_true", help="all of GitHub's own entries as one line of JSON"
    )
    parser.set_defaults(run=models)
    model_policy.add(parser.add_subparsers(dest="action", metavar="[ACTION]"))


def models(args: argparse.Namespace) -> int:
    """Print the models on stdout."""
    with Client(name=PROGRAM, timeout=MODELS_TIMEOUT) as client:
        listing = client.model_list(args.account, fresh=args.fresh)
    if listing.failure is not None:
        say(f"This list is {duration(listing.age)} old. GitHub was asked anew, in vain:")
        say("\n".join(words(Refusal.of(listing.failure))))
    elif listing.age > NEW_ENOUGH and not args.json:
        say(f"As of {duration(listing.age)} ago; to ask anew: copilot-cred models --fresh")
    if args.json:
        print(json.dumps(listing.models))
        return 0
    found = read_models(listing.models)
    default = default_model(found)
    shown = [model for model in found if args.all or model.is_for_people]
    if shown:
        print_table(HEADINGS, [_row(model, model == default) for model in shown], SPARE)
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
    return (
        f"{model.id}{' (default)' if default else ''}",
        model.name or "-",
        model.vendor or "-",
        _limits(model),
        "-" if model.multiplier is None else f"{model.multiplier:g}",
        model.policy or "-",
        " ".join(_short(path) for path in model.endpoints) or "-",
        " ".join(can) or "-",
        ", ".join(notes) or "-",
    )


def _limits(model: Model) -> str:
    """Return `128k/64k/16k`: context, prompt, output; `-` for what GitHub does not say."""
    limits = (model.context, model.prompt, model.output)
    return "-" if limits == (None, None, None) else "/".join(map(_tokens, limits))


def _short(path: str) -> str:
    """Return an endpoint without what all of them have: `chat`, `messages`, `ws:responses`."""
    name = path.removeprefix("/v1").replace("/", "")
    return "chat" if name == "chatcompletions" else name


def _tokens(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count // 1000}k" if count >= 1000 else str(count)
