"""One GitHub host and the way there: what every question needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokerd.upstream.refusals import refusal


if TYPE_CHECKING:
    from brokerd.errors import BrokerError
    from brokerd.upstream.hosts import OriginAllowList, Urls
    from brokerd.upstream.http import Answer, HttpClient
    from brokerd.upstream.identity import Identity


__all__ = ["Side"]


@dataclass(frozen=True)
class Side:
    """GitHub's side of a question."""

    urls: Urls
    http: HttpClient
    permitted: OriginAllowList
    identity: Identity

    def refusal(self, answer: Answer) -> BrokerError:
        """Return the error that an answer other than the hoped-for one means."""
        return refusal(answer, self.permitted)

    def demand_success(self, answer: Answer) -> None:
        """Raise that error for anything but 200."""
        if answer.status != 200:
            raise self.refusal(answer)
