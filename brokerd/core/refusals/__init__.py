"""What a refusal of the Copilot API means: one table, from an answer to words and a next step.

    400  by code: the model, the endpoint, the length…   USAGE: change the request
    401  the token, a personal one, or an agent's own    DENIED
    402  quota and billing, by code                      DENIED
    403  plan or policy; with a limit's headers: wait    DENIED, or TEMPORARY (limits the account)
    404  413                                             USAGE
    422  content filter                                  DENIED
    429  limits, by code                                 TEMPORARY (limits account or model)
    466  the client's version                            DENIED
    421  408  424  499  5xx                              TEMPORARY (5xx naming a time: the model)
    503  the model's provider                            TEMPORARY (limits the model)

Upstream's own code is the code where it has one (`rate_limited:…` is `rate_limited`), else
`upstream_STATUS`. The status decides what kind of failure it is, whoever answered; that GitHub did
not (no `x-github-request-id`) is part of the hint.
"""

from __future__ import annotations

from brokerd.core.refusals.events import explain_event, explain_whole
from brokerd.core.refusals.explained import Refusal, explain, is_limit, with_terms
from brokerd.core.refusals.rows import MODEL_NOT_SUPPORTED


__all__ = [
    "MODEL_NOT_SUPPORTED",
    "Refusal",
    "explain",
    "explain_event",
    "explain_whole",
    "is_limit",
    "with_terms",
]
