"""The person's seat and what is left of its quotas: `GET /copilot_internal/user`.

Undocumented, and asked with the GitHub token. GitHub shows it to logins of some apps only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.quota import seat as reader
from brokerd.upstream.bodies import fields_of
from brokerd.upstream.http import Manner
from brokerd.upstream.refusals import RETRY_HINT, bad_answer


if TYPE_CHECKING:
    from brokerd.core.quota import Report
    from brokerd.core.tokens import GitHubToken
    from brokerd.errors import BrokerError
    from brokerd.upstream.http import Answer
    from brokerd.upstream.side import Side


__all__ = ["AGAIN_HINT", "MANNER", "about_quota", "seat"]

AGAIN = "copilot-cred quota --fresh"
"""Without `--fresh` a failure is told once more as it is kept, and nobody is asked."""
AGAIN_HINT = f"Ask again: {AGAIN}"
HIDDEN_HINT = (
    "A personal access token may read the plan: copilot-cred quota set-pat. Or sign in with "
    "another client_id in config.toml: copilot-cred login"
)
MANNER = Manner(network_hint=f"Check the network, then ask again: {AGAIN}", again=AGAIN)
HIDDEN = frozenset({"not_found", "forbidden"})


async def seat(side: Side, token: GitHubToken) -> Report:
    """Ask once; see `brokerd.ports.GitHub.seat`."""
    answer = await side.http.get(
        side.urls.api, "/copilot_internal/user", side.identity.for_copilot_user(token), MANNER
    )
    if answer.status != 200:
        raise _refusal(side, answer)
    fields = fields_of(answer)
    if fields is None:
        raise bad_answer(answer, "is not JSON", AGAIN_HINT)
    return reader.read(fields)


def _refusal(side: Side, answer: Answer) -> BrokerError:
    error = side.refusal(answer)
    failure = error.failure
    if failure.code in HIDDEN:
        text = "GitHub does not show the seat to logins made with this app"
        hidden = replace(failure, code="seat_hidden", message=text, hint=HIDDEN_HINT)
        return type(error)(hidden)
    return about_quota(error)


def about_quota(error: BrokerError) -> BrokerError:
    """Let the next step be to ask for the quota again: no login is tried again by itself here."""
    failure = error.failure
    if failure.code == "bad_credentials":
        return error
    hint = failure.hint.replace(RETRY_HINT, AGAIN_HINT)
    hint = hint.replace("copilot-cred refresh", AGAIN)
    return type(error)(replace(failure, hint=hint))
