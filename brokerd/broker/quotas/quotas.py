"""What is left of each account's plan, and the personal access token that may read the bill.

The sources are asked in order, seldom, and for one caller at a time (`readings`). One that
fails costs nothing but its own word: there is an error only if no source answers, and then the one
that says most about what to do (`answers`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from brokerd.broker.failures import error_for
from brokerd.broker.quotas.answers import QuotaTeller
from brokerd.broker.quotas.pats import checked
from brokerd.broker.quotas.readings import MIN_AGE, Asking, Kept, QuotaReader
from brokerd.broker.quotas.sources import QuotaSources
from brokerd.core.quota.tiers import tier_named
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from brokerd.broker.dead_logins import DeadLogins
    from brokerd.broker.roster import Roster
    from brokerd.core.quota_header import QuotaSnapshot
    from brokerd.core.tokens import IndexEntry, Pat
    from brokerd.errors import Failure
    from brokerd.ports import GitHub, LoginStores
    from brokerd.views import QuotaView


__all__ = ["REREAD_PAUSE", "Quotas"]

log = logging.getLogger(__name__)

REREAD_PAUSE = 60.0
"""Seconds between two readings because Copilot said that the quota is used up."""


class Quotas:
    """All accounts' quotas; every method is for the broker's event loop."""

    def __init__(
        self,
        roster: Roster,
        *,
        github: Callable[[str], GitHub],
        stores: LoginStores,
        dead_logins: Callable[[str], DeadLogins],
    ) -> None:
        self._roster = roster
        self._clock = roster.clock
        self._stores = stores
        self._sources = QuotaSources(roster, github=github, dead_logins=dead_logins)
        self._reader = QuotaReader(self._sources, roster.clock)
        self._kept: dict[str, Kept] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def watch_headers(self, seen: Callable[[str], Mapping[str, QuotaSnapshot]]) -> None:
        """Take from there what Copilot tells beside its answers, by account."""
        self._sources.headers_seen = seen

    async def get(
        self,
        account: str | None = None,
        *,
        fresh: bool = False,
        pat: str | None = None,
        tier: str | None = None,
    ) -> QuotaView:
        """Return what is left of the plan, at most five minutes old, or asked anew (`fresh`).

        What was asked less than ten seconds ago is told as it is even so. `pat` is a personal
        access token that somebody brings along for this once; the account's own comes first.
        `tier` is their word for the plan, for an entitlement that no source states. Raises
        PermanentError LOGIN_REQUIRED for an account without a login, and when no source answers
        what says most about it.
        """
        return await self._get(account, MIN_AGE if fresh else None, pat, tier)

    async def _get(
        self,
        account: str | None,
        min_age: float | None,
        pat: str | None = None,
        tier: str | None = None,
    ) -> QuotaView:
        """See `get`. `min_age`: what is younger is not asked anew; None: nor is what is good."""
        brought = None if pat is None else checked(pat)
        began = self._clock.boottime()
        await self._roster.opened(None)
        self._roster.must_be_unlocked()
        name = self._roster.resolve(account)
        self._entry(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            self._roster.must_be_unlocked()
            entry = self._entry(name)  # waiting for others may have taken a while
            kept = self._kept_of(name, entry)
            own, store_failure = await self._own_pat(entry)
            ask = Asking(name, entry, kept, own or brought, store_failure, began, min_age)
            readings = await self._reader.read_all(ask)
        teller = QuotaTeller(ask, self._roster.addressed, self._clock.boottime())
        return teller.view(readings, tier_named(tier), has_pat=own is not None)

    async def set_pat(self, pat: str, account: str | None = None) -> QuotaView:
        """Keep a token beside the login, once GitHub has shown it the person's bill.

        Returns what is left of the plan, as it tells now. Raises PermanentError USAGE `bad_pat`,
        what is wrong with it (see `brokerd.ports.GitHub.billing`), and what the store raises.
        """
        given = checked(pat)
        await self._roster.opened(None)
        self._roster.must_be_unlocked()
        name = self._roster.resolve(account)
        entry = self._entry(name)
        with self._about(name):
            async with self._locks.setdefault(name, asyncio.Lock()):
                await self._reader.prove(name, entry, given, self._kept_of(name, entry))
            now = self._entry(name)
            if (now.key, now.store) != (entry.key, entry.store):  # another login by now
                raise error_for(self._roster.no_login(name))
            await self._stores.get(entry.store).save_pat(entry.key, given)
        log.info("personal access token kept", extra={"ACCOUNT": name})
        return await self.get(name)

    async def forget_pat(self, account: str | None = None) -> tuple[str, bool]:
        """Forget the account's token; return the account's name, and whether there was one."""
        await self._roster.opened(None)
        name = self._roster.resolve(account)
        entry = self._entry(name)
        store = self._stores.get(entry.store)
        try:
            was_there = await store.load_pat(entry.key) is not None
        except BrokerError:
            was_there = True  # though it cannot be read
        await store.delete_pat(entry.key)
        log.info("personal access token forgotten", extra={"ACCOUNT": name})
        return name, was_there

    def used_up(self, account: str) -> None:
        """Know that Copilot says so: what was told before holds no more.

        It is read again at once where somebody has wanted to know it, once a minute at most;
        otherwise whoever asks is told what is true then.
        """
        kept, now = self._kept.get(account), self._clock.boottime()
        if kept is None:
            return
        if kept.reread_at is not None and now - kept.reread_at < REREAD_PAUSE:
            return
        kept.reread_at = now
        task = asyncio.get_running_loop().create_task(self._reread(account))
        self._tasks.add(task)  # the loop itself would let it be collected
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what nobody waits for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reread(self, account: str) -> None:
        with contextlib.suppress(BrokerError):  # whoever asks next is told
            await self._get(account, 0.0)  # what was read a moment ago is known to be wrong

    def _entry(self, name: str) -> IndexEntry:
        entry = self._roster.index.entries().get(name)
        if entry is None:
            raise error_for(self._roster.no_login(name))
        return entry

    def _kept_of(self, name: str, entry: IndexEntry) -> Kept:
        kept, login = self._kept.get(name), (entry.key, entry.client_id, entry.source)
        if kept is None or kept.login != login:
            kept = self._kept[name] = Kept(login)
        return kept

    async def _own_pat(self, entry: IndexEntry) -> tuple[Pat | None, Failure | None]:
        try:
            return await self._stores.get(entry.store).load_pat(entry.key), None
        except BrokerError as error:
            return None, error.failure

    @contextlib.contextmanager
    def _about(self, name: str) -> Iterator[None]:
        """Let the next steps of failures name the account."""
        failure: Failure | None = None
        try:
            yield
        except BrokerError as error:
            failure = self._roster.addressed(name, error.failure)
            if failure == error.failure:
                raise
        if failure is not None:
            raise error_for(failure)
