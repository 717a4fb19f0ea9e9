"""Where `login` takes a ready-made GitHub token from: stdin or the environment, never argv.

Argv is world-readable in /proc; an environment variable is read only when asked for. No message
ever quotes what was read, not even a part of it.
"""

from __future__ import annotations

import getpass
import os
import sys

from copilot_broker.cli.report import Refusal, note
from copilot_broker.errors import ErrorClass


__all__ = ["VARIABLES", "token_from_environment", "token_from_stdin"]

VARIABLES = ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN")
"""In the order in which GitHub's own Copilot CLI reads them (docs.github.com, Copilot CLI)."""

MAX_TOKEN_BYTES = 1024
"""GitHub tokens have 40 to 255 characters; more than this is a wrong file."""

CLASSIC_PREFIX = "ghp_"


def token_from_stdin() -> str:
    """Read one token: from a pipe as it stands, from a terminal without echo."""
    if sys.stdin is None:
        raise _unusable("stdin is closed, so no token can be read from it")
    if sys.stdin.isatty():
        try:
            text = getpass.getpass("GitHub token (not shown): ", stream=sys.stderr)
        except EOFError:
            text = ""
    else:
        try:
            text = sys.stdin.buffer.read(MAX_TOKEN_BYTES + 1).decode("ascii", "replace")
        except OSError as error:
            raise _unusable(f"stdin cannot be read: {error.strerror}") from None
    token = text.strip()
    why_not = _why_unusable(token)
    if why_not:
        raise _unusable(f"what stdin holds {why_not}")
    return token


def token_from_environment() -> str:
    """Return the first usable token of `VARIABLES`; unusable ones before it are told of."""
    reasons: list[str] = []
    for name in VARIABLES:
        token = os.environ.get(name, "").strip()
        if not token:
            continue
        why_not = _why_unusable(token)
        if not why_not:
            for reason in reasons:
                note(reason)
            note(f"using {name}")
            return token
        reasons.append(f"{name} {why_not}")
    if reasons:
        raise _unusable("; ".join(reasons))
    raise _unusable(f"none of {', '.join(VARIABLES)} is set")


def _why_unusable(token: str) -> str:
    """Return what is wrong with a token as the end of a sentence, or nothing."""
    if not token:
        return "is empty"
    if token.startswith(CLASSIC_PREFIX):
        return (
            "is a classic personal access token (ghp_), which Copilot does not accept:"
            ' use a fine-grained one with the permission "Copilot Requests"'
        )
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or not token.isprintable():
        return "is not a GitHub token"
    if " " in token:
        return "is not a single token"
    return ""


def _unusable(message: str) -> Refusal:
    hint = "sign in with a browser instead: copilot-cred login"
    return Refusal(ErrorClass.USAGE, "token_unusable", message, hint)
