"""Direct mode: which Copilot host takes the GitHub token itself as bearer.

Two places at GitHub tell, one after the other; where neither does, the plan or the host for
everybody must do. A dead login ends it at the first question: several bad ones in a row make
GitHub lock the person out of every tool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.upstream import bases, parsing


if TYPE_CHECKING:
    from brokerd.core.tokens import CopilotToken, GitHubToken
    from brokerd.upstream.http import Answer
    from brokerd.upstream.side import Side


__all__ = ["direct"]

# On tenants it is assumed at the same path of their API host; a 404 there costs nothing.
GRAPHQL_PATH = "/graphql"
QUERY = "{viewer{copilotEndpoints{api} login}}"
# What GitHub says to tokens that may not look: of apps that are not on its list, of no person.
# Which kinds those are is contradictory between sources, so neither is a verdict on the login.
NOT_TOLD = frozenset({"not_found", "forbidden"})


async def direct(side: Side, token: GitHubToken, plan: str) -> CopilotToken:
    """Return the token as its own bearer; see `brokerd.ports.GitHub.direct`."""
    answer = await side.http.get(
        side.urls.api, "/copilot_internal/user", side.identity.for_copilot_user(token)
    )
    endpoints, told_plan, sku = bases.Endpoints(), "auto", ""
    if _tells(side, answer):
        endpoints, told_plan, sku = parsing.copilot_user(answer)
    if not endpoints.api:
        answer = await side.http.post_json(
            side.urls.api, GRAPHQL_PATH, side.identity.for_graphql(token), {"query": QUERY}
        )
        if _tells(side, answer):
            api = parsing.viewer_endpoints(answer).api
            endpoints = bases.Endpoints(api=api, proxy=endpoints.proxy)
    chosen = bases.choose(
        endpoints, told_plan if plan == "auto" else plan, side.urls, side.permitted
    )
    return parsing.direct_token(token, chosen, sku)


def _tells(side: Side, answer: Answer) -> bool:
    """Whether it has an answer in it; raises what is neither that nor GitHub's "not for you"."""
    if answer.status == 200:
        return True
    error = side.refusal(answer)
    if error.failure.code in NOT_TOLD:
        return False
    raise error
