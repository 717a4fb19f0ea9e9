"""What is left of a plan, by whoever tells: one reader a source, one value for all.

    billing       GitHub's billing pages, which a personal access token may read: what was used
    seat          the person's seat (`/copilot_internal/user`): all there is, of most plans
    headers       what Copilot told beside its last answer
    token_fields  what the exchange says of a free plan

`compose` puts them together. Nothing here is sure to be there, and no number is sure to make
sense: what cannot be meant counts as not told.
"""

from __future__ import annotations

from brokerd.core.quota.compose import Composed, Told, compose, is_enough
from brokerd.core.quota.values import SOURCES, Quota, Report, Source


__all__ = [
    "SOURCES",
    "Composed",
    "Quota",
    "Report",
    "Source",
    "Told",
    "compose",
    "is_enough",
]
