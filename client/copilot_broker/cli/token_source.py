"""Where a ready-made GitHub token is taken from: stdin or the environment, never argv.

`login` takes one that may use Copilot, `quota set-pat` one that may read the plan. Argv is
world-readable in /proc; an environment variable is read only when asked for. No message ever
quotes what was read, not even a part of it.
"""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass

from copilot_broker.cli.report import Refusal, note
from copilot_broker.errors import ErrorClass


__all__ = [
    "PLAN_TOKEN",
    "VARIABLES",
    "Kind",
    "token_from_environment",
    "token_from_stdin",
    "why_unusable",
]

VARIABLES = ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN")
"""In the order in which GitHub's own Copilot CLI reads them (docs.github.com, Copilot CLI)."""

MAX_TOKEN_BYTES = 1024
"""GitHub tokens have 40 to 255 characters; more than this is a wrong file."""

CLASSIC_PREFIX = "ghp_"
FINE_GRAINED_PREFIX = "github_pat_"


@dataclass(frozen=True)
class Kind:
    """A kind of token, and what to tell those who bring another one."""

    name: str
    classic: str
    """What to do instead of using a classic personal access token."""
    hint: str
    """What to do when there is no usable token."""
    only_fine_grained: bool = False


LOGIN_TOKEN = Kind(
    "GitHub token",
    'which Copilot does not accept: use a fine-grained one with the permission "Copilot Requests"',
    "sign in with a browser instead: copilot-cred login",
)
PLAN_TOKEN = Kind(
    "fine-grained token",
    'which may do more than is needed: use a fine-grained one with the permission "Plan" (read)',
    "see how to make one: copilot-cred quota set-pat --help",
    only_fine_grained=True,
)


def token_from_stdin(kind: Kind = LOGIN_TOKEN) -> str:
    """Read one token: from a pipe as it stands, from a terminal without echo."""
    if sys.stdin is None:
        raise _unusable("stdin is closed, so no token can be read from it", kind)
    if sys.stdin.isatty():
        prompt = f"{kind.name[0].upper()}{kind.name[1:]} (not shown): "
        try:
            text = getpass.getpass(prompt, stream=sys.stderr)
        except EOFError:
            text = ""
    else:
        try:
            text = sys.stdin.buffer.read(MAX_TOKEN_BYTES + 1).decode("ascii", "replace")
        except OSError as error:
            raise _unusable(f"stdin cannot be read: {error.strerror}", kind) from None
    token = text.strip()
    why_not = why_unusable(token, kind)
    if why_not:
        raise _unusable(f"what stdin holds {why_not}", kind)
    return token


def token_from_environment() -> str:
    """Return the first usable token of `VARIABLES`; unusable ones before it are told of."""
    reasons: list[str] = []
    for name in VARIABLES:
        token = os.environ.get(name, "").strip()
        if not token:
            continue
        why_not = why_unusable(token, LOGIN_TOKEN)
        if not why_not:
            for reason in reasons:
                note(reason)
            note(f"using {name}")
            return token
        reasons.append(f"{name} {why_not}")
    if reasons:
        raise _unusable("; ".join(reasons), LOGIN_TOKEN)
    raise _unusable(f"none of {', '.join(VARIABLES)} is set", LOGIN_TOKEN)


def why_unusable(token: str, kind: Kind) -> str:
    """Return what is wrong with a token as the end of a sentence, or nothing."""
    if not token:
        return "is empty"
    if token.startswith(CLASSIC_PREFIX):
        return f"is a classic personal access token (ghp_), {kind.classic}"
    if len(token) > MAX_TOKEN_BYTES or not token.isascii() or not token.isprintable():
        return "is not a GitHub token"
    if " " in token:
        return "is not a single token"
    if kind.only_fine_grained and not token.startswith(FINE_GRAINED_PREFIX):
        return f"is not a fine-grained personal access token ({FINE_GRAINED_PREFIX})"
    return ""


def _unusable(message: str, kind: Kind) -> Refusal:
    return Refusal(ErrorClass.USAGE, "token_unusable", message, kind.hint)
