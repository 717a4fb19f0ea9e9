"""Reads a line, has it done, until the person leaves; nothing that goes wrong between ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker import Client
from copilot_broker.cli.asking.attachments import check_seen, read_attachment
from copilot_broker.cli.asking.choosing import chosen, offered
from copilot_broker.cli.asking.options import manner_of
from copilot_broker.cli.display import say, wrapped
from copilot_broker.cli.report import PROGRAM, Refusal, words
from copilot_broker.cli.talk.opening import open_lines
from copilot_broker.cli.talk.talk import Talk
from copilot_broker.errors import CopilotBrokerError


if TYPE_CHECKING:
    import argparse

    from copilot_broker.cli.talk.lines import Lines


__all__ = ["talk"]


def talk(args: argparse.Namespace) -> int:
    """Talk until the person leaves. What is wrong before it begins ends it, as everywhere."""
    manner = manner_of(args)
    files = [read_attachment(name) for name in args.attach]
    models = offered(args.account, needed=args.model is None)
    model = chosen(models, args.model)
    with Client(name=PROGRAM) as client:
        talking = Talk(client, args.account, models, model, manner, is_verbose=args.verbose)
        for file in files:
            talking.attach(file)
        check_seen(talking.images, model)
        lines = open_lines(talking.model_names, is_kept=args.history)
        _greet(talking, is_kept=args.history)
        _go_on(talking, lines)
    return 0


def _greet(talking: Talk, *, is_kept: bool) -> None:
    multiplier = talking.model.multiplier
    cost = "" if multiplier is None else f", premium requests {multiplier:g} a question"
    kept = "" if is_kept else " Nothing of it is kept."
    say(wrapped(f"Talking with {talking.model.id}{cost}. /help explains, Ctrl-D leaves.{kept}"))


def _go_on(talking: Talk, lines: Lines) -> None:
    leaving = False
    while not leaving:
        try:
            leaving = _take_one(talking, lines)
        except KeyboardInterrupt:  # clears the line; an answer that it stops is at its end before
            say()


def _take_one(talking: Talk, lines: Lines) -> bool:
    """Do what the next line says; return whether the person leaves."""
    try:
        line = lines.read()
    except EOFError:
        say()
        return True
    try:
        return talking.take(line)
    except CopilotBrokerError as error:
        _tell(Refusal.of(error))
    except Refusal as refusal:
        _tell(refusal)
    return False


def _tell(refusal: Refusal) -> None:
    say("\n".join(words(refusal)))
