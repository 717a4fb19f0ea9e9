"""`copilot-cred api`: one raw request to Copilot, with the account's credential and nothing else.

What `gh api` is to GitHub: the body goes up and the answer comes down as they are. The broker
decides what may be asked; here is only how a shell says it.
"""

from __future__ import annotations

import http
import os
import sys
from typing import TYPE_CHECKING, Any

from copilot_broker import Client
from copilot_broker.calls.completion import MAX_BODY
from copilot_broker.cli.output import Bytes
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.cli.stdin import read_stdin
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


__all__ = ["add", "api"]

DESCRIPTION = """\
Send one request (POST) to a path of the Copilot API and print the answer's body
as it is. Paths: /chat/completions, /responses, /v1/messages, /embeddings,
/models/session and /v1/engines/MODEL/completions (fill-in-the-middle; its body
has to say "stream": true); the broker refuses others. (For the models:
copilot-cred models --json.)

The body is sent untouched: --body TEXT, or what stdin holds. The credential and
the headers that name the broker are added by it and cannot be changed. Every
request counts against your quota.
"""

EPILOG = """\
Headers that may be given: accept, anthropic-beta, anthropic-version,
copilot-session-token, copilot-vision-request, openai-intent, x-agent-task-id,
x-initiator, x-interaction-id, x-interaction-type, x-request-id.

exit codes: 0 for 2xx. For any other status the body is on stdout all the same,
stderr says what it means, and the code is the class of that: 2 change the
request, 4 sign in, 5 refused, 7 temporary.

examples:
  copilot-cred api /chat/completions < request.json
  copilot-cred api --stream /responses < request.json
  copilot-cred api -i /embeddings --body '{"model": "text-embedding-3-small",
    "input": ["one", "two"]}'
  copilot-cred api /v1/messages --header 'anthropic-version: 2023-06-01' <m.json
"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "api",
        help="send one raw request to Copilot",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("path", metavar="PATH", help="of the Copilot API")
    parser.add_argument(
        "--body", metavar="TEXT", help="what to send; without it, or for -, what stdin holds"
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header to send besides; may be repeated",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="print the answer as it comes; to have it streamed, the body has to ask too",
    )
    parser.add_argument(
        "-i", "--include", action="store_true", help="print the status and the headers first"
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.set_defaults(run=api)


def api(args: argparse.Namespace) -> int:
    """Send the request, print the answer on stdout; raise what it means unless it is 2xx."""
    if args.path.strip("/").removeprefix("v1/") == "models":
        message = "the list of models is no completion, and the broker keeps it"
        raise Refusal(ErrorClass.USAGE, "usage", message, f"have it with: {PROGRAM} models --json")
    headers = _headers(args.header)
    body = _body(args.body)
    ask = {"path": args.path, "account": args.account, "headers": headers}
    with Client(name=PROGRAM) as client, Bytes() as out:
        if args.stream:
            with client.stream(body, **ask) as stream:
                if args.include:
                    out.write(_head(stream.status, stream.headers))
                for chunk in stream:
                    out.write(chunk)
                refusal = stream.refusal  # of the status, or of an error among the events
        else:
            answer = client.complete(body, **ask)
            if args.include:
                out.write(_head(answer.status, answer.headers))
            out.write(answer.body)
            refusal = answer.refusal
    if refusal is not None:
        raise refusal
    return 0


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    """Return status line and headers in the form of HTTP/1.1, the broker's own ones included."""
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    lines = [f"HTTP/1.1 {status} {reason}".rstrip()]
    lines += [printable(f"{name}: {value}") for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _headers(given: Sequence[str]) -> dict[str, str] | None:
    """Return the headers by name. Raises Refusal (usage); the broker knows which are allowed."""
    headers: dict[str, str] = {}
    for line in given:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or not name:
            raise _usage("bad_header", "--header takes a name, a colon and a value")
        if name in headers:
            raise _usage("bad_header", f"--header {name} is given twice")
        headers[name] = value.strip()
    return headers or None


def _body(text: str | None) -> bytes:
    """Return what to send. Raises Refusal (usage)."""
    if text is not None and text != "-":
        body = os.fsencode(text)
    elif text is None and sys.stdin is not None and sys.stdin.isatty():
        body = b""
    else:
        body = read_stdin(MAX_BODY, "body", _no_body)
    if not body:
        raise _no_body("there is no body: neither --body nor stdin holds one")
    return body


def _no_body(message: str) -> Refusal:
    return _usage("no_body", message)


def _usage(code: str, message: str) -> Refusal:
    return Refusal(ErrorClass.USAGE, code, message, f"see how it is called: {PROGRAM} api --help")
