"""Who we say we are: the headers of every request to GitHub and Copilot, in one table.

The values are `[identity]` of the configuration. By default we give our own name wherever that is
accepted; the integration id is the one borrowed value.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from brokerd.core.settings import IdentitySettings
from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from brokerd.core.tokens import GitHubToken, Pat


__all__ = ["VERSION", "Identity", "is_presentable", "presentable"]


def _version() -> str:
    try:
        return metadata.version("copilot-broker")
    except metadata.PackageNotFoundError:
        return "0"


VERSION = _version()
# Longer than any token of GitHub's; longer than this is no token.
MAX_TOKEN_LENGTH = 8192
# For what is in GitHub's REST documentation; the version is the one described there.
REST = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


class Identity:
    """The table, filled once; each method returns a fresh dict of headers."""

    def __init__(self, settings: IdentitySettings = IdentitySettings()) -> None:  # noqa: B008 - frozen
        self._agent = _filled({"User-Agent": settings.user_agent})
        editor = self._agent | _filled(
            {
                "Editor-Version": settings.editor_version,
                "Editor-Plugin-Version": settings.editor_plugin_version,
            }
        )
        # Only an exchanged token belongs to an integration: in direct mode the app decides that
        # has issued the GitHub token, and naming another would be a false claim.
        integration = _filled({"Copilot-Integration-Id": settings.integration_id})
        internal = _filled({"X-GitHub-Api-Version": settings.exchange_api_version})
        copilot = _filled({"X-GitHub-Api-Version": settings.copilot_api_version})
        self._direct_internal = editor | internal
        self._exchange = editor | integration | internal
        self._direct_copilot = editor | copilot
        self._copilot = editor | integration | copilot
        completions = {"OpenAI-Intent": "copilot-ghost"} | _filled(
            {
                "X-GitHub-Api-Version": settings.completions_api_version,
                "Openai-Organization": settings.completions_organization,
            }
        )
        self._direct_completions = editor | completions
        self._completions = editor | integration | completions

    def for_login(self) -> dict[str, str]:
        """Headers for github.com; without `Accept` it answers in forms."""
        return self._agent | {"Accept": "application/json"}

    def for_user(self, token: GitHubToken) -> dict[str, str]:
        """Headers for `GET /user`, which is documented."""
        return self._agent | REST | _authorization("token", token)

    def for_exchange(self, token: GitHubToken) -> dict[str, str]:
        """Headers for the exchange."""
        return self.for_login() | _authorization("token", token) | self._exchange

    def for_copilot_user(self, token: GitHubToken) -> dict[str, str]:
        """Headers for `GET /copilot_internal/user`, in direct mode."""
        return self.for_login() | _authorization("token", token) | self._direct_internal

    def for_graphql(self, token: GitHubToken) -> dict[str, str]:
        """Headers for GraphQL, which is documented with `Bearer`."""
        return self.for_login() | _authorization("Bearer", token)

    def for_billing(self, pat: Pat, version: str) -> dict[str, str]:
        """Headers for the billing pages, which are documented with `Bearer`; `version` of the API.

        Raises PermanentError (USAGE) for a token that could not stand in a header.
        """
        return self._agent | REST | _billing(pat) | {"X-GitHub-Api-Version": version}

    def for_revocation(self) -> dict[str, str]:
        """Headers for `POST /credentials/revoke`, which takes no credential of who asks."""
        return self._agent | REST

    def for_copilot(self, token: str, intent: str, *, is_direct: bool = False) -> dict[str, str]:
        """Headers for small calls to the Copilot API; `intent` is what `OpenAI-Intent` says."""
        return self.for_client(is_direct=is_direct) | {
            "Accept": "application/json",
            "Authorization": f"Bearer {presentable(token)}",
            "OpenAI-Intent": intent,
            "X-Interaction-Type": intent,
        }

    def for_client(self, *, is_direct: bool = False) -> dict[str, str]:
        """Headers that whoever uses a Copilot token should send with it, without credentials."""
        return dict(self._direct_copilot if is_direct else self._copilot)

    def for_completions(self, *, is_direct: bool = False) -> dict[str, str]:
        """Headers for the host of fill-in-the-middle completions, without credentials."""
        return dict(self._direct_completions if is_direct else self._completions)


def _authorization(scheme: str, token: GitHubToken) -> dict[str, str]:
    return {"Authorization": f"{scheme} {presentable(token.value)}"}


def _billing(pat: Pat) -> dict[str, str]:
    if not is_presentable(pat.value):
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "bad_pat",
                "the personal access token has characters that no token has",
                "Give it again: copilot-cred quota set-pat",
            )
        )
    return {"Authorization": f"Bearer {pat.value}"}


def _filled(headers: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("{version}", VERSION) for name, value in headers.items() if value}


def is_presentable(token: str) -> bool:
    """Whether it can stand in a header: visible ASCII without spaces (RFC 6750 §2.1)."""
    return (
        0 < len(token) <= MAX_TOKEN_LENGTH
        and token.isascii()
        and token.isprintable()
        and " " not in token
    )


def presentable(token: str) -> str:
    """Return `token`; PermanentError (LOGIN_REQUIRED) for what could not stand in a header."""
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
