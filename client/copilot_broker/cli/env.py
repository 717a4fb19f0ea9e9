"""`copilot-cred env`: the settings that make a tool ask the broker, ready to be pasted."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.catalogue import read_models
from copilot_broker.cli.display import say
from copilot_broker.cli.http_places import tcp_door
from copilot_broker.cli.recipes.parts import written
from copilot_broker.cli.recipes.place import EXAMPLES, Place, is_plain, models_for
from copilot_broker.cli.recipes.tools import RECIPES, find
from copilot_broker.cli.recipes.variables import no_proxy
from copilot_broker.cli.report import PROGRAM, Refusal, words
from copilot_broker.errors import CopilotBrokerError, ErrorClass


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "env"]

PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
"""What has a tool ask a proxy for a plain http address."""

USUAL = "127.0.0.1:4141"
"""The address that is written where none is served."""

MODELS_TIMEOUT = 10.0
"""Seconds for the list of models: settings are worth no longer wait, examples do as well."""

SEEN = {"account": "account list", "model": "models"}
"""What lists them."""

DESCRIPTION = """\
Print what makes a tool ask the broker: variables for the shell, files with
their paths, and a command to try it. Nothing is written anywhere, and no key
is made: the lines that make one are printed. The names of models are the
account's own, and the address is the one that the broker serves.

By hand the tool comes by TCP, which has to be on, and needs a key. With
--under-exec it is what a tool needs besides when it is run by
copilot-cred exec -- TOOL, which gives it a door and a key of its own.

A line that begins with ## says where that goes which is below it.
"""

EPILOG = """\
examples:
  copilot-cred env --list
  copilot-cred env --for aider
  copilot-cred env --for claude-code --under-exec
  copilot-cred env --for llm --model gpt-5-mini
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "env",
        help="print a tool's settings for using the broker",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--for",
        dest="tool",
        metavar="TOOL",
        type=_named,
        choices=[each.name for each in RECIPES],
        help="the settings of this tool",
    )
    what.add_argument("--list", action="store_true", help="name the tools")
    parser.add_argument(
        "--under-exec",
        action="store_true",
        help="what it needs besides when run by copilot-cred exec",
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument(
        "--model", metavar="ID", help="name this model, instead of some that the account has"
    )
    parser.set_defaults(run=env)


def env(args: argparse.Namespace) -> int:
    """Print the settings on stdout, and what is in their way on stderr."""
    if args.list:
        width = max(len(each.name) for each in RECIPES)
        for each in RECIPES:
            print(f"{each.name.ljust(width)}  {each.title}: {each.about}")
        return 0
    recipe = find(args.tool)
    assert recipe is not None  # it is one of the choices
    for what, name in (("account", args.account), ("model", args.model)):
        if name is not None and not is_plain(name):
            hint = f"see them: {PROGRAM} {SEEN[what]}"
            raise Refusal(ErrorClass.USAGE, "bad_name", f"no {what} is called {name}", hint)
    place = _place(args)
    print(written(recipe, place, args.under_exec))
    if not args.under_exec:
        _tell_of_proxies()
        say(f"\nWithout a key and a port: {PROGRAM} env --for {recipe.name} --under-exec")
    return 0


def _named(text: str) -> str:
    """Return the name that is meant."""
    recipe = find(text)
    return text if recipe is None else recipe.name


def _tell_of_proxies() -> None:
    """Say how a proxy is kept from seeing requests and keys; `exec` does it by itself."""
    if not any(os.environ.get(name) for name in PROXIES):
        return
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    after = no_proxy(before)
    if after != before:
        say("\nThere is a proxy. So that it is not asked for what is on this machine:")
        say(f"  export no_proxy={shlex.quote(after)} NO_PROXY={shlex.quote(after)}")


def _place(args: argparse.Namespace) -> Place:
    address, listed = USUAL, []
    try:
        with Client(name=PROGRAM, timeout=MODELS_TIMEOUT) as client:
            served, trouble = tcp_door(client.status())
            address = served or USUAL
            if trouble and not args.under_exec:
                say(f"{trouble}What is printed here takes {address}.\n")
            listed = read_models(client.model_list(args.account).models)
    except CopilotBrokerError as error:
        if error.error_class is ErrorClass.USAGE:
            raise
        say("\n".join(words(Refusal.of(error), "what follows is not sure")))
    found = models_for(listed, address, args.account, args.model)
    if found is None:
        say("The names of models are examples; those of the account: copilot-cred models\n")
        found = models_for(EXAMPLES, address, args.account)
    assert found is not None  # there are examples
    return found
