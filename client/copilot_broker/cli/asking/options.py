"""What `complete` and `chat` let a person say about an answer."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from typing import Any

from copilot_broker.cli.asking.attachments import read_bounded, unusable
from copilot_broker.cli.asking.request import Manner
from copilot_broker.cli.limits import count
from copilot_broker.cli.stdin import MIB


__all__ = ["add_options", "manner_of"]

MAX_SCHEMA = MIB
"""Bytes of a JSON Schema; models take far less."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the words of the question and all that goes with them."""
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; - for stdin")
    parser.add_argument("--model", metavar="ID", help="who answers, by id")
    parser.add_argument("--system", metavar="TEXT", help="how to answer: the system message")
    parser.add_argument(
        "--attach",
        action="append",
        default=[],
        metavar="FILE",
        help="a picture or text that goes with the question; may be repeated",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json-mode",
        action="store_true",
        help="have the model answer in JSON; the question has to say so, too",
    )
    form.add_argument(
        "--schema", metavar="FILE", help="have it answer in JSON that keeps to this JSON Schema"
    )
    parser.add_argument(
        "--temperature", type=_temperature, metavar="T", help="0 (steady) to 2 (wild)"
    )
    parser.add_argument("--max-tokens", type=count, metavar="N", help="how long the answer may be")
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end the answer before this text; may be repeated",
    )
    parser.add_argument(
        "--no-stream", action="store_true", help="wait for the whole answer, then print it"
    )
    parser.add_argument("--json", action="store_true", help="print Copilot's JSON, not the text")
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say on stderr what an answer has cost"
    )


def manner_of(args: argparse.Namespace) -> Manner:
    """Return how to answer. Raises Refusal (usage) for a schema that is none."""
    return Manner(
        system=args.system,
        temperature=args.temperature,
        max_tokens=args.max_tokens,
        stop=tuple(args.stop),
        is_json=args.json_mode,
        schema=None if args.schema is None else _schema(args.schema),
        stream=not args.no_stream,
        count=args.verbose,
    )


def _schema(name: str) -> dict[str, Any]:
    try:
        found = json.loads(read_bounded(name, MAX_SCHEMA))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unusable(f"{name} is no JSON Schema: it holds no JSON object")
    return found


def _temperature(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= 2:
            return value
    raise argparse.ArgumentTypeError("takes a number from 0 to 2")
