"""Who we say we are: the headers of every request to GitHub and Copilot, in one table.

We give our own name wherever that is accepted. `Copilot-Integration-Id` is the one borrowed value:
it selects the integrator for exchanged tokens, and only ids known to GitHub are served.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from brokerd.core.tokens import CopilotToken, GitHubToken


__all__ = [
    "VERSION",
    "for_copilot",
    "for_exchange",
    "for_login",
    "for_user",
    "headers_for_client",
    "is_presentable",
]


def _version() -> str:
    try:
        return metadata.version("copilot-broker")
    except metadata.PackageNotFoundError:
        return "0"


VERSION = _version()
NAME = f"copilot-broker/{VERSION}"
INTEGRATION_ID = "vscode-chat"
# The versions the official client sends to each; a withdrawn one is answered with 466.
EXCHANGE_API_VERSION = "2025-04-01"
COPILOT_API_VERSION = "2025-05-01"
# Longer than any token of GitHub's; longer than this is no token.
MAX_TOKEN_LENGTH = 8192

_EDITOR = {
    "User-Agent": NAME,
    "Editor-Version": NAME,
    "Editor-Plugin-Version": NAME,
    "Copilot-Integration-Id": INTEGRATION_ID,
}


def for_login() -> dict[str, str]:
    """Headers for github.com; without `Accept` it answers in forms."""
    return {"User-Agent": NAME, "Accept": "application/json"}


def for_user(token: GitHubToken) -> dict[str, str]:
    """Headers for `GET /user`."""
    return for_login() | {"Authorization": f"token {_presentable(token.value)}"}


def for_exchange(token: GitHubToken) -> dict[str, str]:
    """Headers for the exchange."""
    return for_user(token) | _EDITOR | {"X-GitHub-Api-Version": EXCHANGE_API_VERSION}


def for_copilot(token: CopilotToken, intent: str) -> dict[str, str]:
    """Headers for the Copilot API; `intent` is what `OpenAI-Intent` says."""
    return headers_for_client() | {
        "Accept": "application/json",
        "Authorization": f"Bearer {_presentable(token.value)}",
        "OpenAI-Intent": intent,
        "X-Interaction-Type": intent,
    }


def headers_for_client() -> dict[str, str]:
    """Headers that whoever uses a Copilot token should send with it, `Authorization` apart."""
    return _EDITOR | {"X-GitHub-Api-Version": COPILOT_API_VERSION}


def is_presentable(token: str) -> bool:
    """Whether it can stand in a header: visible ASCII without spaces (RFC 6750 §2.1)."""
    return 0 < len(token) <= MAX_TOKEN_LENGTH and all("!" <= letter <= "~" for letter in token)


def _presentable(token: str) -> str:
    if is_presentable(token):
        return token
    raise PermanentError(
        Failure(
            ErrorClass.LOGIN_REQUIRED,
            "bad_credentials",
            "the stored token has characters that no token has",
            "Run: copilot-cred login",
        )
    )
