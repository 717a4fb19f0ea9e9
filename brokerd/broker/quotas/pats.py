"""Personal access tokens that may read a person's plan: what they look like, and dead ones.

Several wrong credentials within a short time make GitHub lock the person out, of every other tool
too; a status line that asks for the quota every minute must not do that with a dead token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.core.modes import kind_of
from brokerd.core.tokens import GitHubToken, Pat
from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from brokerd.ports import Clock


__all__ = ["NO_PAT", "RefusedPats", "checked", "fingerprint"]

MAX_LENGTH: Final = 255
"""Characters; GitHub's have 93, classic ones 40."""

AGAIN_AFTER: Final = 300.0
"""Seconds after which a refused one is shown again to who insists: it may have been a mistake."""

MAX_REMEMBERED: Final = 64
"""Tokens; who brings more of them is guessing."""

NO_PAT: Final = Failure(
    ErrorClass.USAGE,
    "no_pat",
    "no personal access token is kept for the account",
    "One that may read the plan is kept by: copilot-cred quota set-pat",
)

_NOT_FOR_PLANS = frozenset({"oauth", "app", "installation", "refresh"})


def checked(text: str) -> Pat:
    """Return what somebody gave as a token; PermanentError USAGE `bad_pat` for what is none.

    Tolerant: one without a prefix that we know may be of a kind to come.
    """
    value = text.strip()
    if not value or len(value) > MAX_LENGTH or not value.isascii() or not value.isprintable():
        raise _bad("this is not a personal access token: those are up to 255 visible characters")
    if " " in value:
        raise _bad("this is not a personal access token: those have no spaces")
    if value.startswith("tid=") or kind_of(value) in _NOT_FOR_PLANS:
        raise _bad("this is a token that some app was given, and not a personal access token")
    return Pat(value)


def _bad(message: str) -> PermanentError:
    hint = (
        "Make a fine-grained one (github_pat_) with the account permission Plan (read-only), "
        "then: copilot-cred quota set-pat"
    )
    return PermanentError(Failure(ErrorClass.USAGE, "bad_pat", message, hint))


class RefusedPats:
    """Those that GitHub has refused as dead, by host; the tokens themselves are not kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._refused: dict[tuple[str, str], tuple[float, Failure]] = {}

    def note(self, host: str, pat: Pat, failure: Failure) -> None:
        """Remember a refusal, if it says so of the token itself."""
        if failure.code != "pat_refused":
            return
        if len(self._refused) >= MAX_REMEMBERED:
            self._refused.clear()
        self._refused[host, fingerprint(pat)] = self._clock.boottime(), failure

    def clear(self, host: str, pat: Pat) -> None:
        """Know that GitHub takes it."""
        self._refused.pop((host, fingerprint(pat)), None)

    def find(self, host: str, pat: Pat, *, insisted: bool) -> Failure | None:
        """Return what GitHub said of it; None: ask. `insisted`: a person wants it asked anew."""
        found = self._refused.get((host, fingerprint(pat)))
        if found is None:
            return None
        at, failure = found
        return None if insisted and self._clock.boottime() - at >= AGAIN_AFTER else failure


def fingerprint(pat: Pat) -> str:
    """Name a token without telling it."""
    return GitHubToken(pat.value).fingerprint
