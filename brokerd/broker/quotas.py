"""What is left of each account's plan: the sources in order, seldom, and once at a time.

An answer is good for five minutes; a failure is remembered as long as GitHub wants, or for a
moment. One source that fails costs nothing but its own word: there is an error only if no source
answers, and then the one that says most about what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from brokerd.broker.failures import error_for
from brokerd.broker.pats import NO_PAT, RefusedPats, checked, fingerprint
from brokerd.broker.quota_sources import QuotaSources
from brokerd.core.quota import SOURCES, Report, Told, compose, is_enough
from brokerd.core.quota.tiers import tier_named
from brokerd.core.retry_after import MIN_SECONDS
from brokerd.errors import BrokerError, ErrorClass, Failure
from brokerd.views import QuotaAttempt, QuotaView


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from brokerd.broker.dead_logins import DeadLogins
    from brokerd.broker.roster import Roster
    from brokerd.core.quota import Source
    from brokerd.core.quota_header import QuotaSnapshot
    from brokerd.core.tokens import AccountKey, IndexEntry, Pat
    from brokerd.ports import GitHub, LoginStores
    from brokerd.views import QuotaOutcome


__all__ = ["FRESH_FOR", "REREAD_PAUSE", "Quotas"]

log = logging.getLogger(__name__)

FRESH_FOR = 300.0
"""Seconds; users of the seat's page advise against asking more often."""
AGAIN_AFTER = 30.0
"""Seconds until a source that failed is asked again, where GitHub named no time."""
REREAD_PAUSE = 60.0
"""Seconds between two readings because Copilot said that the quota is used up."""

_HOLDS_ALL = frozenset({"rate_limited", "login_locked_out"})
"""Codes of failures by which GitHub wants no requests of the person, whatever about."""

_NOTHING: Mapping[Source, Failure] = {
    "billing": Failure(
        ErrorClass.TEMPORARY,
        "nothing_billed",
        "GitHub's billing pages list no use of Copilot this month: there was none, or an "
        "organization pays for it",
        "Without its token the seat alone is asked: copilot-cred quota forget-pat",
    ),
    "seat": Failure(
        ErrorClass.TEMPORARY,
        "seat_untold",
        "the seat tells no numbers",
        "Ask again later: copilot-cred quota",
    ),
    "headers": Failure(
        ErrorClass.TEMPORARY,
        "no_headers_seen",
        "no answer of Copilot's has told a quota since the broker was started",
        "Ask for one: copilot-cred chat",
    ),
    "token": Failure(
        ErrorClass.TEMPORARY,
        "not_in_token",
        "the Copilot token tells a quota for free plans only",
        "Ask again: copilot-cred quota",
    ),
}
"""What a source that had nothing to say is told as."""

_NO_ACCESS = Failure(
    ErrorClass.DENIED,
    "no_access",
    "GitHub says that this person has no Copilot",
    "When that has changed: copilot-cred refresh",
)
_NOT_NEEDED = Failure(
    ErrorClass.TEMPORARY, "not_needed", "it was not asked: nothing is missing without it"
)


@dataclass(frozen=True)
class _Reading:
    """What a source told, or why it did not."""

    at: float
    """CLOCK_BOOTTIME."""
    report: Report | None = None
    failure: Failure | None = None
    not_before: float = 0.0
    """GitHub's own limit."""


@dataclass
class _Kept:
    """What is known of an account's plan."""

    key: AccountKey
    readings: dict[str, _Reading] = field(default_factory=dict)
    """By source, and for billing by the token it was asked with."""
    held_until: float = 0.0
    held: Failure | None = None
    """Why GitHub wants no requests of the person until then."""
    reread_at: float | None = None


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
        self._refused_pats = RefusedPats(roster.clock)
        self._kept: dict[str, _Kept] = {}
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

        `pat` is a personal access token that somebody brings along for this once; the account's
        own comes first. `tier` is their word for the plan, for an entitlement that no source
        states. Raises PermanentError LOGIN_REQUIRED for an account without a login, and when no
        source answers what says most about it.
        """
        brought = None if pat is None else checked(pat)
        began = self._clock.boottime()
        await self._roster.opened(None)
        name = self._roster.resolve(account)
        self._entry(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            entry = self._entry(name)  # waiting for others may have taken a while
            kept = self._kept.get(name)
            if kept is None or kept.key != entry.key:
                kept = self._kept[name] = _Kept(entry.key)
            own, store_failure = await self._own_pat(entry)
            ask = _Asking(name, entry, kept, own or brought, store_failure, began, fresh)
            readings = await self._read_all(ask)
        return self._view(ask, readings, tier_named(tier), has_pat=own is not None)

    async def set_pat(self, pat: str, account: str | None = None) -> QuotaView:
        """Keep a token beside the login, once GitHub has shown it the person's bill.

        Returns what is left of the plan, as it tells now. Raises PermanentError USAGE `bad_pat`,
        what is wrong with it (see `brokerd.ports.GitHub.billing`), and what the store raises.
        """
        given = checked(pat)
        await self._roster.opened(None)
        name = self._roster.resolve(account)
        entry = self._entry(name)
        with self._about(name):
            failure = self._refused_pats.find(entry.host, given, insisted=True)
            if failure is not None:
                raise error_for(failure)
            report = await self._billing(entry, given)
            if self._entry(name) != entry:  # somebody else is signed in under that name by now
                raise error_for(self._roster.no_login(name))
            await self._stores.get(entry.store).save_pat(entry.key, given)
        log.info("personal access token kept", extra={"ACCOUNT": name})
        kept = self._kept[name] = _Kept(entry.key)
        kept.readings[_billing_key(given)] = _Reading(self._clock.boottime(), report)
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
        self._kept.pop(name, None)
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
            await self.get(account, fresh=True)

    def _entry(self, name: str) -> IndexEntry:
        entry = self._roster.index.entries().get(name)
        if entry is None:
            raise error_for(self._roster.no_login(name))
        return entry

    async def _own_pat(self, entry: IndexEntry) -> tuple[Pat | None, Failure | None]:
        try:
            return await self._stores.get(entry.store).load_pat(entry.key), None
        except BrokerError as error:
            return None, error.failure

    # -- reading --------------------------------------------------------------------------------

    async def _read_all(self, ask: _Asking) -> dict[Source, _Reading | None]:
        """Ask one after the other while something is missing; None: it was not asked."""
        readings: dict[Source, _Reading | None] = {}
        for source in SOURCES:
            told = _told(readings)
            readings[source] = None if is_enough(told) else await self._read(source, ask)
        return readings

    async def _read(self, source: Source, ask: _Asking) -> _Reading:
        match source:
            case "headers":
                return _Reading(self._clock.boottime(), self._sources.headers(ask.name))
            case "token":
                report, age = self._sources.token(ask.name)
                return _Reading(self._clock.boottime() - (age or 0.0), report)
            case "seat":
                asked = self._sources.seat
                return await self._asked("seat", ask, lambda: asked(ask.name, ask.entry))
            case "billing":
                return await self._read_billing(ask)

    async def _read_billing(self, ask: _Asking) -> _Reading:
        pat, now = ask.pat, self._clock.boottime()
        if pat is None:
            return _Reading(now, failure=ask.store_failure or NO_PAT)
        failure = self._refused_pats.find(ask.entry.host, pat, insisted=ask.fresh)
        if failure is not None:
            return _Reading(now, failure=failure)
        key = _billing_key(pat)
        for other in [each for each in ask.kept.readings if each not in (key, "seat")]:
            del ask.kept.readings[other]
        return await self._asked(key, ask, lambda: self._billing(ask.entry, pat))

    async def _billing(self, entry: IndexEntry, pat: Pat) -> Report:
        try:
            return await self._sources.billing(entry, pat)
        except BrokerError as error:
            self._refused_pats.note(entry.host, pat, error.failure)
            raise

    async def _asked(
        self, key: str, ask: _Asking, question: Callable[[], Awaitable[Report]]
    ) -> _Reading:
        """Return the reading that there is, or a new one."""
        kept, now = ask.kept, self._clock.boottime()
        reading = kept.readings.get(key)
        if reading is not None and self._is_good(reading, ask):
            return reading
        if kept.held is not None and now < kept.held_until:
            return _Reading(now, failure=kept.held, not_before=kept.held_until)
        try:
            report = await question()
        except BrokerError as error:
            reading = self._failed(kept, error.failure)
        else:
            reading = _Reading(self._clock.boottime(), report)
        kept.readings[key] = reading
        return reading

    def _is_good(self, reading: _Reading, ask: _Asking) -> bool:
        now = self._clock.boottime()
        if now < reading.not_before or reading.at >= ask.began:  # or somebody has just asked
            return True
        if ask.fresh:
            return False
        is_passing = reading.failure is not None and reading.failure.error_class in (
            ErrorClass.TEMPORARY,
            ErrorClass.LOCKED,
        )
        return now - reading.at < (AGAIN_AFTER if is_passing else FRESH_FOR)

    def _failed(self, kept: _Kept, failure: Failure) -> _Reading:
        now = self._clock.boottime()
        not_before = 0.0
        if failure.retry_after is not None:
            not_before = now + failure.retry_after
            if failure.code in _HOLDS_ALL:
                kept.held, kept.held_until = failure, not_before
        return _Reading(now, failure=failure, not_before=not_before)

    # -- telling --------------------------------------------------------------------------------

    def _view(
        self,
        ask: _Asking,
        readings: Mapping[Source, _Reading | None],
        tier: str,
        *,
        has_pat: bool,
    ) -> QuotaView:
        told = _told(readings)
        if not any(each.report.tells or each.source in ("billing", "seat") for each in told):
            raise self._nobody_tells(ask, readings)
        composed = compose(told, tier)
        used, now = readings[composed.source], self._clock.boottime()
        is_dated = used is not None and composed.source != "headers"
        return QuotaView(
            account=ask.name,
            host=ask.entry.host,
            login=ask.entry.login,
            source=composed.source,
            kinds=composed.kinds,
            tried=[
                self._attempt(ask, source, reading, composed.source, composed.added)
                for source, reading in readings.items()
            ],
            age=max(0.0, now - used.at) if used is not None and is_dated else None,
            plan=composed.plan,
            sku=composed.sku,
            models=composed.models,
            tier=tier if composed.is_by_tier else "",
            has_pat=has_pat,
        )

    def _attempt(
        self,
        ask: _Asking,
        source: Source,
        reading: _Reading | None,
        used: Source,
        added: frozenset[Source],
    ) -> QuotaAttempt:
        if reading is None:
            return QuotaAttempt(source, "not_needed", _NOT_NEEDED)
        if reading.failure is not None:
            failure = self._as_of_now(ask, reading)
            is_absent = failure.code == NO_PAT.code
            outcome: QuotaOutcome = "not_configured" if is_absent else "failed"
            return QuotaAttempt(source, outcome, failure)
        if source == used:
            return QuotaAttempt(source, "used")
        if source in added:
            return QuotaAttempt(source, "added")
        failure = _NOTHING[source]
        if reading.report is not None and reading.report.sku == "no_access":
            failure = _NO_ACCESS
        return QuotaAttempt(source, "nothing", self._addressed(ask.name, failure))

    def _nobody_tells(
        self, ask: _Asking, readings: Mapping[Source, _Reading | None]
    ) -> BrokerError:
        """Return the error that says most: sign in, mend the token, or what the seat said."""
        failures = {
            source: self._as_of_now(ask, reading)
            for source, reading in readings.items()
            if reading is not None and reading.failure is not None
        }
        seat, billing = failures.get("seat"), failures.get("billing")
        assert seat is not None
        if seat.error_class is ErrorClass.LOGIN_REQUIRED or billing is None:
            return error_for(seat)
        is_pats = billing.error_class is ErrorClass.DENIED
        return error_for(billing if is_pats and billing.code != NO_PAT.code else seat)

    def _as_of_now(self, ask: _Asking, reading: _Reading) -> Failure:
        """Return the failure with what is left of its time, about this account."""
        failure = reading.failure
        assert failure is not None
        if failure.retry_after is not None:
            left = reading.not_before - self._clock.boottime()
            failure = replace(failure, retry_after=max(MIN_SECONDS, left))
        return self._addressed(ask.name, failure)

    def _addressed(self, name: str, failure: Failure) -> Failure:
        return self._roster.addressed(name, failure)

    @contextlib.contextmanager
    def _about(self, name: str) -> Iterator[None]:
        """Let the next steps of failures name the account."""
        failure: Failure | None = None
        try:
            yield
        except BrokerError as error:
            failure = self._addressed(name, error.failure)
            if failure == error.failure:
                raise
        if failure is not None:
            raise error_for(failure)


@dataclass(frozen=True)
class _Asking:
    """One wish to know."""

    name: str
    entry: IndexEntry
    kept: _Kept
    pat: Pat | None
    """The account's own token, or the one brought along."""
    store_failure: Failure | None
    """Why the account's own is not known."""
    began: float
    fresh: bool


def _told(readings: Mapping[Source, _Reading | None]) -> list[Told]:
    return [
        Told(source, reading.report)
        for source, reading in readings.items()
        if reading is not None and reading.report is not None
    ]


def _billing_key(pat: Pat) -> str:
    return f"billing {fingerprint(pat)}"
