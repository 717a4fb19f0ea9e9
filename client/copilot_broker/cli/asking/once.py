"""One question, one answer, and no memory of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker import Client
from copilot_broker.cli.asking.answering import print_answer, warn_of_ending
from copilot_broker.cli.asking.attachments import check_seen
from copilot_broker.cli.asking.choosing import chosen, offered
from copilot_broker.cli.asking.options import manner_of
from copilot_broker.cli.asking.question import read_question
from copilot_broker.cli.asking.request import write_request
from copilot_broker.cli.asking.spent import tell_spent
from copilot_broker.cli.output import Text
from copilot_broker.cli.report import PROGRAM


if TYPE_CHECKING:
    import argparse


__all__ = ["ask_once"]


def ask_once(args: argparse.Namespace) -> int:
    """Ask, and print the answer on stdout. What is wrong with the question costs nothing."""
    manner = manner_of(args)
    question = read_question(args.prompt, args.attach, args.verb)
    models = offered(args.account, needed=args.model is None)
    model = chosen(models, args.model)
    check_seen(question.images, model)
    request = write_request(model, (question,), manner)
    with Client(name=PROGRAM) as client, Text() as out:
        spent = print_answer(client, request, args.account, out.write, as_json=args.json)
    if not args.json:
        warn_of_ending(spent, args.verb)
    if args.verbose:
        tell_spent(spent, model)
    return 0
