"""What answers told of an account besides: its last refusal, and what is left of its plan.

Nothing is read of an answer that has nothing to tell, and a quota is parsed when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core import quota_header


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.core.quota_header import QuotaSnapshot
    from brokerd.errors import Failure


__all__ = ["Seen"]

_QUOTA_NAMES = quota_header.NAMES


class Seen:
    """Of all accounts."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._refusals: dict[str, tuple[Failure, float]] = {}
        self._quota_headers: dict[str, Mapping[str, str]] = {}

    def headers(self, account: str, headers: Mapping[str, str]) -> None:
        """Keep an answer's headers if a quota is among them."""
        if not headers.keys().isdisjoint(_QUOTA_NAMES):
            self._quota_headers[account] = headers

    def refusal(self, account: str, failure: Failure) -> None:
        """Keep it as the last one."""
        self._refusals[account] = failure, self._seconds()

    def last_refusal(self, account: str) -> tuple[Failure, float] | None:
        """Return it, and how many seconds ago it was."""
        found = self._refusals.get(account)
        return None if found is None else (found[0], max(0.0, self._seconds() - found[1]))

    def quota(self, account: str) -> dict[str, QuotaSnapshot]:
        """Return what the last answer with a quota told."""
        return quota_header.read(self._quota_headers.get(account, {}))

    def forget(self, account: str) -> None:
        """Start anew with it."""
        self._refusals.pop(account, None)
        self._quota_headers.pop(account, None)
