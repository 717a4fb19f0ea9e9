"""`copilot-cred get --model`: a short-lived key for the HTTP door instead of a token.

For tools that take a command which prints their API key, and run it again from time to time, or
when a request got a 401. Asking again gives the same key for half of its life. Only `get --model`
loads this file.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.cli.limits import apart
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.cli.times import span
from copilot_broker.errors import CopilotBrokerError, ErrorClass, InternalError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["FORMATS", "rendered_key"]

FORMATS = ("raw", "json", "header", "curl-config")
"""Of those of `get`: the others are about a token."""

LIFE = "1h"
LABEL = "key"
OF_TOKENS = ("--min-valid", "--min-valid-strict", "--reject")

JSON_VERSION = 1
JSON_KEYS = ("key", "name", "expires_at", "models", "account")


def rendered_key(options: Mapping[str, str]) -> str:
    """Ask the broker for the key that these options of `get` mean; return what to print.

    Raises Refusal.
    """
    form = options.get("--format", "raw")
    if form not in FORMATS:
        raise _usage(f"with --model, --format is one of {', '.join(FORMATS)}")
    for option in OF_TOKENS:
        if option in options:
            raise _usage(f"{option} is about a token; --model asks for a key")
    for option in ("--model", "--label"):
        if not options.get(option, "").replace("\n", "").isprintable():
            raise _usage(f"{option} takes text that can be printed")
    lasts = span(options.get("--ttl", LIFE))
    if not lasts:
        raise _usage("--ttl takes a length of time, like 15min or 1h")
    try:
        with Client(name=PROGRAM) as client:
            answer = client.mint_key(
                options.get("--label", LABEL),
                apart(options["--model"].split("\n")) or [],
                expires_in=lasts,
                account=options.get("--account"),
            )
    except CopilotBrokerError as error:
        raise Refusal.of(error) from error
    return _written(answer, form)


def _written(answer: Mapping[str, Any], form: str) -> str:
    key, ends = answer.get("key"), answer.get("expires_at")
    if not (isinstance(key, str) and key.isascii() and key.isprintable()):
        raise Refusal.of(InternalError("bad_answer", "the answer to key.mint holds no key"))
    if form == "json":
        fields = {"version": JSON_VERSION, **{each: answer.get(each) for each in JSON_KEYS}}
        left = None if ends is None else max(0.0, round(ends - time.time(), 3))
        return json.dumps({**fields, "expires_in": left}) + "\n"
    if form == "header":
        return f"Authorization: Bearer {key}\n"
    if form == "curl-config":
        from copilot_broker.cli.lease_formats import as_curl_config  # noqa: PLC0415

        return as_curl_config({"token": key}, {})
    return f"{key}\n"


def _usage(message: str) -> Refusal:
    hint = f"see how it is called: {PROGRAM} get --help"
    return Refusal(ErrorClass.USAGE, "usage", message, hint)
