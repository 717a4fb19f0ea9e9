"""GitHub tokens that are given to the daemon from outside: by its environment, or a credential.

An account says so with `source`. What is set but cannot serve is reported and never passed over:
the next variable may be another person's. The daemon never writes such a token anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from brokerd.core.modes import refusal_of
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.core.tokens import GitHubToken
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "CREDENTIAL_MAX",
    "SOURCES",
    "VARIABLES",
    "Given",
    "Source",
    "credential_name",
    "from_credential",
    "from_environment",
    "missing_credential",
    "unusable_credential",
]

Source = Literal["environment", "credential"]

SOURCES: Final[tuple[Source, ...]] = ("environment", "credential")
"""What `source` may say besides `login`; names of the stores of such logins too."""

VARIABLES: Final = ("COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN")
"""In the order of GitHub's own Copilot CLI (its documentation on authentication)."""

CREDENTIAL_MAX: Final = 64 * 1024
"""Bytes of a credential's file; a token has under one hundred. More is not read."""

TOKEN_MAX: Final = 4096
"""Characters; it has to fit into a header."""

_EDIT: Final = "systemctl --user edit copilot-broker"
_RESTART: Final = "systemctl --user restart copilot-broker"


@dataclass(frozen=True)
class Given:
    """What one account was given: a token, or why there is none."""

    source: Source
    place: str
    """Name of the variable or of the credential; of all that were looked at where none is set."""
    token: GitHubToken | None = None
    failure: Failure | None = None
    """Class LOGIN_REQUIRED."""

    @property
    def origin(self) -> str:
        """Say for a person where it comes from."""
        if self.source == "environment":
            return f"the broker's environment ({self.place})"
        return f"the credential {self.place} of the service"

    @property
    def mend(self) -> str:
        """Say how to give another one; ends in the command."""
        if self.source == "environment":
            # Environment= in a unit is shown by systemctl to every program of the user.
            return (
                "Set another one by EnvironmentFile= with a file of mode 0600 (Environment= shows "
                'it to whoever asks systemd), or better use source = "credential": '
                f"{_EDIT}, then: {_RESTART}"
            )
        return (
            f"Give another one with LoadCredential={self.place}:FILE, FILE of mode 0600: "
            f"{_EDIT}, then: {_RESTART}"
        )


def from_environment(environ: Mapping[str, str]) -> Given:
    """Choose the first variable that is set, whether or not it can serve."""
    for name in VARIABLES:
        if name in environ:
            return _judged("environment", name, environ[name])
    looked_at = ", ".join(VARIABLES)
    given = Given("environment", looked_at)
    text = f"none of {looked_at} is set in the broker's environment"
    return _without_token(given, "environment_unset", text)


def credential_name(account: str) -> str:
    """Return the credential's name (systemd.exec(5), LoadCredential=) for an account."""
    return "github-token" if account == DEFAULT_ACCOUNT else f"github-token-{account}"


def from_credential(account: str, content: bytes) -> Given:
    """Judge what a credential holds: one line, with or without its end."""
    name = credential_name(account)
    if len(content) > CREDENTIAL_MAX:
        return unusable_credential(account, f"it is larger than {CREDENTIAL_MAX} bytes")
    text = content.decode(errors="replace").strip()
    if len(text.splitlines()) > 1:
        return unusable_credential(account, "it has more than one line")
    return _judged("credential", name, text)


def missing_credential(account: str) -> Given:
    """Say that the service was given none of that name."""
    name = credential_name(account)
    text = f"the service was given no credential named {name}"
    return _without_token(Given("credential", name), "credential_missing", text)


def unusable_credential(account: str, why: str) -> Given:
    """Say that a credential is there, and cannot be used."""
    name = credential_name(account)
    text = f"the credential {name} cannot be used: {why}"
    return _without_token(Given("credential", name), "credential_unusable", text)


def _judged(source: Source, place: str, text: str) -> Given:
    value, given = text.strip(), Given(source, place)
    why = _fault_of(value)
    if why is None:
        return Given(source, place, GitHubToken(value))
    what = f"{place} is set" if source == "environment" else f"the credential {place} is there"
    return _without_token(given, f"{source}_unusable", f"{what}, but cannot be used: {why}")


def _fault_of(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value) > TOKEN_MAX:
        return f"it is longer than {TOKEN_MAX} characters"
    refusal = refusal_of(value, "auto")
    return refusal.message if refusal is not None else None


def _without_token(given: Given, code: str, text: str) -> Given:
    failure = Failure(ErrorClass.LOGIN_REQUIRED, code, text, given.mend)
    return Given(given.source, given.place, None, failure)
