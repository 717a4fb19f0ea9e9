"""What was read of an account's quota, and what has to be read anew: seldom, once at a time.

An answer is good for five minutes; a failure is remembered as long as GitHub wants, or for a
moment. What was read a moment ago is told to who wants it fresh, too. The callers of one account
take turns (`Quotas`), so whoever comes second finds what the first has read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from brokerd.broker.failures import error_for
from brokerd.broker.quotas.pats import NO_PAT, RefusedPats, fingerprint
from brokerd.core.machine.refresh import INTERCEPTED
from brokerd.core.quota import SOURCES, Report, Told, is_enough
from brokerd.core.retry_after import MIN_SECONDS
from brokerd.errors import BrokerError, ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from brokerd.broker.quotas.sources import QuotaSources
    from brokerd.core.quota import Source
    from brokerd.core.tokens import IndexEntry, Pat
    from brokerd.ports import Clock


__all__ = [
    "AGAIN_AFTER",
    "FRESH_FOR",
    "MIN_AGE",
    "Asking",
    "Kept",
    "QuotaReader",
    "Reading",
    "told_by",
]

FRESH_FOR = 300.0
"""Seconds; users of the seat's page advise against asking more often."""
AGAIN_AFTER = 30.0
"""Seconds until a source that failed is asked again, where GitHub named no time."""
MIN_AGE = 10.0
"""Seconds within which no source is asked twice, not even for `fresh`: each time is a request with
the person's login, a plan does not change so fast, and a tool may ask in a loop."""

_GOOD_FOR: dict[ErrorClass | None, float] = {
    ErrorClass.TEMPORARY: AGAIN_AFTER,
    # Whoever mends these looks at once whether it helped.
    ErrorClass.LOCKED: 0.0,
    ErrorClass.LOGIN_REQUIRED: 0.0,
}

_HOLDS_ALL = frozenset({"rate_limited", "login_locked_out"})
"""Codes of failures by which GitHub wants no requests of the person, whatever about."""


@dataclass(frozen=True)
class Reading:
    """What a source told, or why it did not."""

    at: float
    """CLOCK_BOOTTIME."""
    report: Report | None = None
    failure: Failure | None = None
    not_before: float = 0.0
    """GitHub's own limit."""
    login: str | None = None
    """The fingerprint of the login whose failure it is; None: there was none to ask with."""


@dataclass
class Kept:
    """What is known of an account's plan."""

    login: tuple[object, ...]
    """The person and the app: another app's login may see what this one's does not."""
    readings: dict[str, Reading] = field(default_factory=dict)
    """By source, and for billing by the token it was asked with."""
    held_until: float = 0.0
    held: Failure | None = None
    """Why GitHub wants no requests of the person until then."""
    reread_at: float | None = None


@dataclass(frozen=True)
class Asking:
    """One wish to know."""

    name: str
    entry: IndexEntry
    kept: Kept
    pat: Pat | None
    """The account's own token, or the one brought along."""
    store_failure: Failure | None
    """Why the account's own is not known."""
    began: float
    min_age: float | None
    """Seconds that a reading is good for although a fresh one is wanted; None: none is."""


class QuotaReader:
    """Asks the sources for what is not known."""

    def __init__(self, sources: QuotaSources, clock: Clock) -> None:
        self._sources = sources
        self._clock = clock
        self._refused_pats = RefusedPats(clock)

    async def read_all(self, ask: Asking) -> dict[Source, Reading | None]:
        """Ask one after the other while something is missing; None: it was not asked."""
        readings: dict[Source, Reading | None] = {}
        for source in SOURCES:
            told = told_by(readings)
            readings[source] = None if is_enough(told) else await self._read(source, ask)
        return readings

    async def prove(self, name: str, entry: IndexEntry, pat: Pat, kept: Kept) -> None:
        """Ask for the bill with a token that is to be kept, and keep what it says.

        Raises as `brokerd.ports.GitHub.billing`; one that was shown a moment ago is not shown
        again, nor is any while GitHub wants no requests.
        """
        now, key = self._clock.boottime(), billing_key(pat)
        failure = self._refused_pats.find(entry.host, pat, insisted=True)
        held = self._held(name, kept)
        if failure is None and held is not None:
            failure = replace(held, retry_after=max(MIN_SECONDS, kept.held_until - now))
        known = kept.readings.get(key)
        is_known = known is not None and now - known.at < MIN_AGE
        if failure is None and known is not None and is_known:
            failure = known.failure
        if failure is not None:
            raise error_for(failure)
        if is_known:
            return
        self._forget_bills(kept, key)
        try:
            report = await self._billing(entry, pat)
        except BrokerError as error:
            # A limit holds for whoever asks next.
            kept.readings[key] = self._failed(kept, error.failure)
            raise
        kept.readings[key] = Reading(self._clock.boottime(), report)

    async def _read(self, source: Source, ask: Asking) -> Reading:
        match source:
            case "headers":
                return Reading(self._clock.boottime(), self._sources.headers(ask.name))
            case "token":
                report, age = self._sources.token(ask.name)
                return Reading(self._clock.boottime() - (age or 0.0), report)
            case "seat":
                asked, mark = self._sources.seat, self._sources.login_mark
                return await self._asked(
                    "seat", ask, lambda: asked(ask.name, ask.entry), lambda: mark(ask.name)
                )
            case "billing":
                return await self._read_billing(ask)

    async def _read_billing(self, ask: Asking) -> Reading:
        pat, now = ask.pat, self._clock.boottime()
        if pat is None:
            return Reading(now, failure=ask.store_failure or NO_PAT)
        failure = self._refused_pats.find(ask.entry.host, pat, insisted=ask.min_age is not None)
        if failure is not None:
            return Reading(now, failure=failure)
        key = billing_key(pat)
        self._forget_bills(ask.kept, key)
        return await self._asked(key, ask, lambda: self._billing(ask.entry, pat))

    def _forget_bills(self, kept: Kept, key: str) -> None:
        """Drop what other tokens than `key`'s have read, but for what would be asked twice."""
        old = self._clock.boottime() - MIN_AGE
        for other, reading in list(kept.readings.items()):
            if other not in (key, "seat") and reading.at <= old and reading.not_before <= old:
                del kept.readings[other]

    async def _billing(self, entry: IndexEntry, pat: Pat) -> Report:
        try:
            report = await self._sources.billing(entry, pat)
        except BrokerError as error:
            self._refused_pats.note(entry.host, pat, error.failure)
            raise
        self._refused_pats.clear(entry.host, pat)
        return report

    async def _asked(
        self,
        key: str,
        ask: Asking,
        question: Callable[[], Awaitable[Report]],
        login: Callable[[], str | None] = lambda: None,
    ) -> Reading:
        """Return the reading that there is, or a new one; `login` tells what it is asked with."""
        kept, now = ask.kept, self._clock.boottime()
        reading = kept.readings.get(key)
        if reading is not None and self._is_good(reading, ask, login()):
            return reading
        held = self._held(ask.name, kept)
        if held is not None:
            return Reading(now, failure=held, not_before=kept.held_until)
        try:
            report = await question()
        except BrokerError as error:
            reading = replace(self._failed(kept, error.failure), login=login())
        else:
            reading = Reading(self._clock.boottime(), report)
        kept.readings[key] = reading
        return reading

    def _is_good(self, reading: Reading, ask: Asking, login: str | None) -> bool:
        now = self._clock.boottime()
        if now < reading.not_before or reading.at >= ask.began:  # or somebody has just asked
            return True
        error_class = None if reading.failure is None else reading.failure.error_class
        good_for = _GOOD_FOR.get(error_class, FRESH_FOR)
        if error_class is ErrorClass.LOGIN_REQUIRED and login is not None:
            # That login lives and has just been refused here: it would be shown each time.
            good_for = MIN_AGE if login == reading.login else 0.0
        return now - reading.at < min(good_for, FRESH_FOR if ask.min_age is None else ask.min_age)

    def _held(self, name: str, kept: Kept) -> Failure | None:
        """Return why GitHub wants no requests now, whoever was told so: we or the exchange."""
        told = self._sources.limit(name)
        if told is not None and told[0].code in _HOLDS_ALL and told[1] > kept.held_until:
            kept.held, kept.held_until = told
        return kept.held if self._clock.boottime() < kept.held_until else None

    def _failed(self, kept: Kept, failure: Failure) -> Reading:
        now = self._clock.boottime()
        not_before = 0.0
        if failure.code == INTERCEPTED:  # that time is our guess: who mends it looks at once
            failure = replace(failure, retry_after=None)
        if failure.retry_after is not None:
            not_before = now + failure.retry_after
            if failure.code in _HOLDS_ALL:
                kept.held, kept.held_until = failure, not_before
        return Reading(now, failure=failure, not_before=not_before)


def told_by(readings: Mapping[Source, Reading | None]) -> list[Told]:
    """Return the reports of those who answered, in the order in which they were asked."""
    return [
        Told(source, reading.report)
        for source, reading in readings.items()
        if reading is not None and reading.report is not None
    ]


def billing_key(pat: Pat) -> str:
    return f"billing {fingerprint(pat)}"
