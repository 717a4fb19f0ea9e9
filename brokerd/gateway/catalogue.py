"""What is known of an account's models while requests pass: seldom waited for.

The first request of an account waits for the list; from then on an older one is good enough, and a
newer one is asked for behind it. Where there is no list to be had, nobody is held up for want of
it: upstream itself says then what it has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brokerd.proxy import Proxy


__all__ = ["ASK_EVERY", "Catalogue"]

log = logging.getLogger(__name__)

ASK_EVERY = 600.0
"""Seconds until a list is asked for again behind the one in use; the official editor's own."""

WAIT = 5.0
"""Seconds that a request waits for the list: it comes in less than one, and who gets an answer
late has more of it than of none."""

WITHOUT = 30.0
"""Seconds for which requests go on without a list that could not be had."""


class Catalogue:
    """Of all accounts, by id."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._known: dict[str, tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]] = {}
        self._ask_at: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def now(self, account: str) -> Mapping[str, Mapping[str, Any]] | None:
        """Return id → GitHub's entry; None: wait for `get` first."""
        models = self._proxy.peek_models(account)
        due = monotonic() >= self._ask_at.get(account, 0.0)
        if not models:  # never had, not to be had, or forgotten with the login that it was had by
            return None if self._known.pop(account, None) or due else {}
        known = self._known.get(account)
        if known is None or known[0] is not models:
            by_id = {each["id"]: each for each in models}
            known = self._known[account] = (models, by_id)
        if due:
            self._ask(account)
        return known[1]

    async def get(self, account: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the same, asked for; empty where it cannot be had, or not soon (`WAIT`)."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._ask(account)), WAIT)
        return self.now(account) or {}

    def close(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()
        self._asking.clear()

    def _ask(self, account: str) -> asyncio.Task[None]:
        task = self._asking.get(account)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._asked(account))
            self._asking[account] = task
        return task

    async def _asked(self, account: str) -> None:
        try:
            await self._proxy.models(account)
            wait = ASK_EVERY
        except BrokerError as error:
            log.info(
                "models not known", extra={"ACCOUNT": account, "ERROR_CODE": error.failure.code}
            )
            wait = WITHOUT
        finally:
            self._asking.pop(account, None)
        self._ask_at[account] = monotonic() + wait
