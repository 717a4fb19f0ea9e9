"""A GitHub login that another tool keeps: whose, of what kind, and whether it can be taken.

Readers yield `Login`s, what a file says; `Found` adds where it was and how that file stands. The
token is in no repr, no table and no JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from copilot_broker.cli.imports.reading import printable_word


__all__ = [
    "APP_NAMES",
    "APP_OF_COPILOT_CLI",
    "APP_OF_GH",
    "APP_OF_OPENCODE",
    "COPILOT_PLUGIN",
    "GITHUB",
    "WHY_NOT",
    "Found",
    "Kind",
    "Login",
    "host_of",
    "judge",
]

GITHUB = "github.com"

COPILOT_PLUGIN = "Iv1.b507a08c87ecfe98"
"""Client id of the GitHub Copilot Plugin, which most editors and tools sign in with."""
APP_OF_COPILOT_CLI = "Ov23ctDVkRmgkPke0Mmm"
APP_OF_GH = "178c6fc778ccc68e1d6a"
APP_OF_OPENCODE = "Ov23li8tweQw6odWQebz"

APP_NAMES = {
    COPILOT_PLUGIN: "GitHub Copilot Plugin",
    APP_OF_COPILOT_CLI: "GitHub Copilot CLI",
    APP_OF_GH: "GitHub CLI",
    APP_OF_OPENCODE: "opencode",
    "01ab8ac9400c4e429b23": "Visual Studio Code",
}
"""What GitHub's own pages call them."""

MAX_TOKEN = 1024
"""Characters; GitHub tokens have 40 to 255."""

NO_HOST = "it is one of a host that has no Copilot"


class Kind(StrEnum):
    """What a token is by its looks (GitHub: "About authentication", token formats)."""

    OAUTH = "gho_"
    APP = "ghu_"
    FINE_GRAINED = "github_pat_"
    INSTALLATION = "ghs_"
    CLASSIC = "ghp_"
    REFRESH = "ghr_"
    OLD = "raw"
    """Forty hex digits: the tokens of before 2021, which have no prefix."""
    COPILOT = "copilot"
    """What the exchange hands out: lives for minutes and is no login."""
    UNREAD = "-"
    """There is a login, but its token was not read."""
    UNKNOWN = "unknown"


WHY_NOT = {
    Kind.CLASSIC: "a classic personal access token, which Copilot does not accept",
    Kind.REFRESH: "a refresh token: only the tool's own app can use it",
    Kind.COPILOT: "a short-lived token only, nothing to take",
    Kind.UNKNOWN: "not a GitHub token",
}
"""Kinds that nobody can sign in with."""

_TAKEN_KINDS = (
    Kind.OAUTH,
    Kind.APP,
    Kind.FINE_GRAINED,
    Kind.INSTALLATION,
    Kind.CLASSIC,
    Kind.REFRESH,
)
_HOST = re.compile(r"github\.com|[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.ghe\.com")


@dataclass(frozen=True)
class Login:
    """What one entry of a file says."""

    token: str = field(default="", repr=False)
    host: str = GITHUB
    """As the file has it; see `host_of`."""
    user: str = ""
    app: str = ""
    """Client id of the app that the token was made for; "" where nobody knows."""
    problem: str = ""
    """Why it cannot be taken, where the reader knows that."""
    program: tuple[str, ...] = ()
    """The command that prints the token, where only the tool itself can read it."""


@dataclass(frozen=True)
class Found:
    """One login, or a file that should hold one and cannot be read."""

    tool: str
    place: str
    """The file's path, or the name of an environment variable with a `$`."""
    token: str = field(default="", repr=False)
    host: str = ""
    user: str = ""
    kind: Kind = Kind.UNREAD
    app: str = ""
    age: float | None = None
    """Seconds since the file was written; None for what is no file."""
    mode: int | None = None
    """Permission bits of the file."""
    problem: str = ""
    """Why it cannot be taken; empty: it can."""
    warning: str = ""
    """What its taker should know."""
    program: tuple[str, ...] = ()
    fights: bool = False
    """Whether that tool uses it for Copilot on its own, beside the broker."""

    def to_map(self, number: int) -> dict[str, object]:
        """Return what `--json` shows; never the token."""
        return {
            "number": number,
            "tool": self.tool,
            "place": self.place,
            "host": self.host,
            "user": self.user,
            "kind": self.kind.value,
            "client_id": self.app,
            "age": self.age,
            "mode": None if self.mode is None else f"{self.mode:04o}",
            "can_take": not self.problem,
            "runs": list(self.program),
            "problem": self.problem,
            "warning": self.warning,
        }


def host_of(text: str) -> str:
    """Return the host that a file names, without scheme and path, in lower case."""
    return text.strip().lower().removeprefix("https://").partition("/")[0]


def judge(login: Login) -> tuple[Kind, str]:
    """Tell the token's kind and why it cannot be taken, or ""."""
    kind = _kind_of(login.token)
    problem = login.problem or WHY_NOT.get(kind, "")
    if not problem and not _HOST.fullmatch(host_of(login.host)):
        problem = NO_HOST  # nor is it ever shown to one
    if not problem and kind is Kind.UNREAD and not login.program:
        problem = "no login in it"
    return kind, problem


def _kind_of(token: str) -> Kind:
    if not token:
        return Kind.UNREAD
    if token.startswith("tid=") or (";" in token and "exp=" in token):
        return Kind.COPILOT
    if len(token) > MAX_TOKEN or not token.isascii() or not printable_word(token):
        return Kind.UNKNOWN
    if re.fullmatch(r"[0-9a-f]{40}", token):
        return Kind.OLD
    return next((kind for kind in _TAKEN_KINDS if token.startswith(kind.value)), Kind.UNKNOWN)
