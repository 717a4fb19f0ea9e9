"""Two ways to a bearer for Copilot: exchange the GitHub token, or present it directly.

Which one is a matter of the token's kind: GitHub lets only some apps use the exchange, and hides
it from the others behind a 404; personal and installation tokens are for direct use only. What is
learned of a token (the 404) is remembered with its login; the configuration overrides both.
"""

from __future__ import annotations

from typing import Final, Literal

from brokerd.core import token_string
from brokerd.errors import ErrorClass, Failure


__all__ = [
    "Kind",
    "Mode",
    "Reason",
    "falls_back",
    "kind_of",
    "mode_for",
    "reason_for",
    "refusal_of",
]

Mode = Literal["exchange", "direct"]
Kind = Literal["oauth", "app", "fine_grained", "installation", "classic", "refresh", "unknown"]

Reason = Literal["usual", "configured", "token_kind", "exchange_unknown"]
"""Why: the exchange is the usual way, is or is not configured, the token's kind is for direct use
only, or the exchange was tried and does not know the token."""

EXCHANGE_NOT_FOUND: Final = "exchange_not_found"
"""Code of the failure that says: the exchange does not know this token (404)."""

_KINDS: Final[dict[str, Kind]] = {
    "gho_": "oauth",
    "ghu_": "app",
    "github_pat_": "fine_grained",
    "ghs_": "installation",
    "ghp_": "classic",
    "ghr_": "refresh",
}
"""GitHub's documented prefixes ("About authentication to GitHub", token formats)."""

_DIRECT_ONLY: Final[frozenset[Kind]] = frozenset({"fine_grained", "installation"})


def kind_of(token: str) -> Kind:
    """Tell a token's kind by its prefix."""
    return next((kind for prefix, kind in _KINDS.items() if token.startswith(prefix)), "unknown")


def mode_for(token: str, configured: str, *, is_direct: bool) -> Mode:
    """Choose: what is configured, else what the kind needs, else what was learned."""
    if configured == "exchange":
        return "exchange"
    if configured == "direct" or is_direct or kind_of(token) in _DIRECT_ONLY:
        return "direct"
    return "exchange"


def reason_for(token: str, configured: str, *, is_direct: bool) -> Reason:
    """Say why `mode_for` chooses as it does."""
    if configured != "auto":
        return "configured"
    if kind_of(token) in _DIRECT_ONLY:
        return "token_kind"
    return "exchange_unknown" if is_direct else "usual"


def falls_back(configured: str, failure: Failure) -> bool:
    """Whether a refused exchange means that the token is to be used directly from now on."""
    return configured == "auto" and failure.code == EXCHANGE_NOT_FOUND


def refusal_of(token: str, configured: str) -> Failure | None:
    """Say why a GitHub token that somebody brings along cannot serve; None: it may."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        return _refused(
            "bad_token",
            "this is not a GitHub token: those are visible ASCII characters without spaces",
            "Give another one, or run: copilot-cred login",
        )
    if token.startswith("tid=") or token_string.parse(token).expires_at is not None:
        return _refused(
            "copilot_token_refused",
            "this is a Copilot token (tid=...), which lives for minutes and renews nothing",
            "Give a GitHub token, or run: copilot-cred login",
        )
    kind = kind_of(token)
    if kind == "classic":
        return _refused(
            "classic_token_refused",
            "this is a classic personal access token (ghp_), which Copilot does not accept",
            "Make a fine-grained one with the permission Copilot Requests, or run: "
            "copilot-cred login",
        )
    if kind == "refresh":
        return _refused(
            "refresh_token_refused",
            "this is a refresh token (ghr_), which only renews another one",
            "Give the token that came with it, or run: copilot-cred login",
        )
    if configured == "exchange" and kind in _DIRECT_ONLY:
        return _refused(
            "direct_token_refused",
            "tokens of this kind cannot be exchanged, and this account is set to exchange only",
            'Set mode = "auto" for it in config.toml, then: '
            "systemctl --user reload copilot-broker",
        )
    return None


def _refused(code: str, message: str, hint: str) -> Failure:
    return Failure(ErrorClass.USAGE, code, message, hint)
