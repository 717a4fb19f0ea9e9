"""`copilot-cred models enable`: accept the terms of a model, when and only when a person asks.

Some models can be used only after somebody has accepted a policy, once for the account. That is a
person's decision: the terms are shown first, and a terminal asks; a script has to say --yes.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.catalogue import read_models
from copilot_broker.cli.display import say, wrapped
from copilot_broker.cli.prompt import ask, is_interactive
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterable

    from copilot_broker.cli.catalogue import Model


__all__ = ["add", "enable"]

ENABLE_TIMEOUT = 30.0
"""Seconds: the broker asks Copilot, perhaps after it has fetched a token."""

DESCRIPTION = """\
Accept the terms of a model for this account, so that it can be asked.

Shows the terms as GitHub puts them and asks before anything is accepted. GitHub
remembers it for the account, in every tool. What an organization has settled
for its members is not for them to change.
"""

EPILOG = """\
examples:
  copilot-cred models enable claude-sonnet-4
  copilot-cred models enable --yes --account work claude-sonnet-4
"""


def add(actions: Any) -> None:
    """Add the action to `copilot-cred models`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "enable", help="accept the terms of a model", description=DESCRIPTION, epilog=EPILOG
    )
    # no default of its own: it would hide what stands before `enable`
    parser.add_argument(
        "--account",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="instead of the default account",
    )
    parser.add_argument("--yes", action="store_true", help="accept without being asked")
    parser.add_argument("id", metavar="ID", help="the model, as copilot-cred models shows it")
    parser.set_defaults(run=enable)


def enable(args: argparse.Namespace) -> int:
    """Show the terms, ask, and have the broker accept them."""
    with Client(name=PROGRAM, timeout=ENABLE_TIMEOUT) as client:
        model = _find(client, args.id, args.account)
        if model.is_enabled:
            say(f"{printable(model.id)} can be used already; nothing was changed.")
            return 0
        _accept(model, args.yes)
        state = client.enable_model(model.id, args.account)
    if state != "enabled":
        raise Refusal(
            ErrorClass.DENIED,
            "policy_not_enabled",
            f"GitHub took note, and says that the policy of {model.id} is now: {state}",
            "ask whoever administers your organization; then see: copilot-cred models --fresh",
        )
    say(f"Accepted: {printable(model.id)} can be used now.")
    return 0


def _find(client: Client, model_id: str, account: str | None) -> Model:
    """Return the model, from a fresh list where the last one does not have it. Raises Refusal."""
    found: list[Model] = []
    for fresh in (False, True):
        found = read_models(client.model_list(account, fresh=fresh).models)
        for model in found:
            if model.id == model_id:
                return model
    raise _unknown(model_id, (model.id for model in found))


def _accept(model: Model, yes: bool) -> None:
    """Show what is accepted and have that confirmed. Raises Refusal when it is not."""
    say(f"The policy of {printable(model.name or model.id)} is: {printable(model.policy)}")
    say()
    for paragraph in (model.terms or "GitHub names no terms.").splitlines():
        say(wrapped(paragraph, "  "))
    say()
    command = f"{PROGRAM} models enable {model.id}"
    if yes:
        return
    if not is_interactive():
        raise Refusal(
            ErrorClass.USAGE,
            "not_confirmed",
            "nobody is there to be asked, so the terms have to be accepted by an option",
            f"accept them: {command} --yes",
        )
    if not ask("Accept these terms for this account?"):
        raise Refusal(
            ErrorClass.DENIED,
            "not_accepted",
            "the terms were not accepted, so nothing was changed",
            f"think it over, then: {command}",
        )


def _unknown(model_id: str, known: Iterable[str]) -> Refusal:
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes only

    close = get_close_matches(model_id, list(known))
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return Refusal(
        ErrorClass.USAGE,
        "no_such_model",
        f"Copilot does not offer this account a model {model_id}{meant}",
        "see what it offers: copilot-cred models --all",
    )
