"""Have GitHub kill a login for good: `POST /credentials/revoke`, meant for exposed credentials.

It takes no credential of who asks, and no app's secret. Where it does not work, the person can do
the same by hand on GitHub's settings page, which every failure here names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.modes import kind_of
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from brokerd.core.tokens import GitHubToken
    from brokerd.upstream.http import Answer
    from brokerd.upstream.side import Side


__all__ = ["revoke"]

ACCEPTED = 202
# Statuses of GitHub's own that refuse this request, whatever else they say elsewhere.
REFUSED = frozenset({"upstream_refused", "forbidden", "not_found", "bad_credentials"})


async def revoke(side: Side, token: GitHubToken) -> None:
    """Kill the token and its refresh token; irreversible. See `brokerd.ports.GitHub.revoke`."""
    if kind_of(token.value) == "installation":
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "not_revocable",
                "GitHub revokes no installation tokens (ghs_) on request: they die within an hour",
                "Leave out --revoke: copilot-cred logout",
            )
        )
    credentials = [token.value] + ([token.refresh_token] if token.refresh_token else [])
    answer = await side.http.post_json(
        side.urls.api,
        "/credentials/revoke",
        side.identity.for_revocation(),
        {"credentials": credentials},
    )
    if answer.status != ACCEPTED:
        raise _refusal(side, answer, token)


def _refusal(side: Side, answer: Answer, token: GitHubToken) -> BrokerError:
    error = side.refusal(answer)
    path = "personal-access-tokens" if kind_of(token.value) == "fine_grained" else "applications"
    page = f"{side.urls.login}/settings/{path}"
    failure = replace(
        error.failure,
        hint=f"Revoke it by hand at {page}, or try again; without: copilot-cred logout",
        url=side.permitted.shown_page(page),
    )
    if failure.code in REFUSED:
        failure = replace(
            failure,
            error_class=ErrorClass.DENIED,  # nobody's login was asked about
            code="revocation_refused",
            message=f"GitHub does not revoke this token ({answer.status})",
        )
    return type(error)(failure)
