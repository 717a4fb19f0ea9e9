"""A bad day of GitHub's, by script: what goes wrong when, and when all has been well again.

An episode lies in wait from its time on and begins with the first request that it concerns, so
that none passes unnoticed: the exchange is asked twice an hour only.
"""

import asyncio
import hashlib
import math
from dataclasses import dataclass
from email.utils import formatdate

from brokerd.simulator import connections
from brokerd.simulator.faults import Fault
from brokerd.simulator.refusals import named, rate_limit
from fakes.simulated import EXCHANGE


__all__ = ["COMPLETION", "Trouble"]

RECOVERY = 600.0
"""Seconds after the last trouble in which everything must work again: more than any backoff."""

LATER = 1.1
"""We may come so much later than asked (`refresh.RETRY_AFTER_JITTER`)."""

COMPLETION = "/chat/completions"

SPARES_REPLAYS = ("401", "slow")
"""What would have a fresh token refused, or let it die on its way: then a 401 is the answer."""

MINUTE, HOUR = 60.0, 3600.0


@dataclass
class Episode:
    """Faults of one kind for `length` seconds, or for one request only (0)."""

    path: str
    name: str
    at: float
    length: float
    make: object
    """(now) → Fault, or None: not now."""
    is_for_proxied: bool = False
    """Whether it spares those who use a token themselves."""
    ends_at: float | None = None


class Trouble:
    """Stands where the simulator looks for faults; `day` tells and is told."""

    def __init__(self, day, rng):
        self.day, self.rng = day, rng
        self.held = 0
        """Requests whose answers wait for virtual time to pass."""
        self.held_names = set()
        self._spans = []
        """(path, begin, end): when it was not well."""
        self._wanted_at = {}
        """Account → from when on its exchange may be asked again."""
        self._told = None
        """For how many seconds the answer in the making wants its exchange left alone."""
        self._episodes = []
        self._accounts = {}
        self._names = set()

    def install(self, monkeypatch):
        """Take the place of queued faults; and let delays take virtual time."""
        trouble, clock = self, self.day.clock

        async def pause(connection, seconds):
            if seconds <= 0 or connection.gone:
                return
            connection._waiter = waiter = asyncio.get_running_loop().create_future()
            clock.call_at(
                clock.boottime() + seconds, lambda: waiter.done() or waiter.set_result(None)
            )
            trouble.held += 1
            try:
                await waiter
            finally:
                trouble.held -= 1
                connection._waiter = None

        monkeypatch.setattr(connections.Connection, "pause", pause)
        self.day.world.take_fault = self._take

    def knows(self, account, github_token):
        self._accounts[hashlib.sha256(github_token.encode()).hexdigest()[:8]] = account

    def note(self, path, begin, end):
        self._spans.append((path, begin, end))

    def end(self):
        """Let nothing new go wrong; what was asked for before is still wanted."""
        self._episodes.clear()

    def was_well(self, begin, end, *paths):
        """Whether upstream was well at these paths from RECOVERY before `begin` to `end`."""
        return not any(
            path in paths and ended >= begin - RECOVERY and began <= end
            for path, began, ended in self._spans
        )

    def _take(self, path):
        now, recorded = self.day.clock.boottime(), self.day.world.requests[-1]
        if path == EXCHANGE:
            self._check_manners(recorded, now)
        name = recorded.headers.get("x-interaction-id", "")
        is_again = bool(name) and name in self._names
        self._names.add(name)
        for each in self._episodes:
            if each.path != path or now < each.at:
                continue
            if name.startswith("taker") and each.is_for_proxied:
                continue
            if is_again and each.name in SPARES_REPLAYS:
                continue
            if each.ends_at is not None and now > each.ends_at:
                continue
            if each.length == 0 and each.ends_at is not None:
                continue
            fault = each.make(now)
            if fault is None:
                continue
            if each.ends_at is None:
                self.day.counts["episodes"] += 1
                self.day.tell(f"{each.name} at {path} for {each.length:.0f} s")
                each.ends_at = now + each.length
                self.note(path, now, each.ends_at)
                if path == EXCHANGE and each.name == "5xx":
                    self._add_refused_token(now)
            if fault.delay:
                self.held_names.add(name)
                self.note(path, now, now + fault.delay)
            if self._told is not None:
                self._limit(self._account_of(recorded), now)
            return fault
        return None

    # Whether we come sooner than we were asked to; of completions the simulator knows itself.

    def _check_manners(self, recorded, now):
        account = self._account_of(recorded)
        early = self._wanted_at.get(account, now) - now
        if early > 1e-6:
            self.day.fail(f"the exchange of {account} is asked {early:.1f} s too early")

    def _limit(self, account, now):
        seconds, self._told = self._told, None
        self._wanted_at[account] = max(now + seconds, self._wanted_at.get(account, 0.0))
        self.note(EXCHANGE, now, now + LATER * seconds)

    def _account_of(self, recorded):
        return self._accounts[recorded.headers["authorization"].rpartition(":")[2]]

    # The script.

    def write(self, length):
        """Spread episodes of all kinds over `length` seconds from now on."""
        rng, now = self.rng, self.day.clock.boottime()

        def spread(path, name, count, seconds, make, **more):
            for _ in range(count):
                at = now + rng.uniform(0.02, 0.97) * length
                self._episodes.append(Episode(path, name, at, seconds(), make, **more))

        def between(low, high):
            return lambda: math.exp(rng.uniform(math.log(low), math.log(high)))

        def once():
            return 0.0

        spread(EXCHANGE, "5xx", 4, between(MINUTE, HOUR), self._broken)
        spread(EXCHANGE, "long 5xx", 1, between(0.4 * HOUR, HOUR), self._broken)
        spread(EXCHANGE, "cut", 3, between(20, 400), self._cut)
        spread(EXCHANGE, "limit", 5, between(1, 90), self._exchange_limit)
        spread(EXCHANGE, "slow", 4, once, self._slow_with_suspend)
        proxied = {"is_for_proxied": True}
        spread(COMPLETION, "limit", 12, once, self._limit_of_account, **proxied)
        spread(COMPLETION, "limit of a model", 8, once, self._limit_of_model, **proxied)
        spread(COMPLETION, "503", 6, between(1, 200), self._overloaded, **proxied)
        spread(COMPLETION, "5xx", 5, between(30, 600), self._broken)
        spread(COMPLETION, "cut", 4, between(10, 200), self._cut_anywhere)
        spread(COMPLETION, "402", 3, once, self._named("402_seconds"), **proxied)
        spread(COMPLETION, "403", 3, once, self._named("403_feature"), **proxied)
        spread(COMPLETION, "401", 5, once, self._refused_token, **proxied)
        spread(COMPLETION, "slow", 12, once, self._slow_with_suspend, **proxied)

    def _broken(self, _now):
        status = self.rng.choice((500, 502, 504))
        return Fault(status, {}, self.rng.choice(("internal server error\n", "<html></html>")))

    def _cut(self, _now):
        return Fault(reset=True, hard=self.rng.random() < 0.5)

    def _cut_anywhere(self, now):
        if self.rng.random() < 0.5:
            return self._cut(now)
        return Fault(cut_after=self.rng.randrange(0, 60), hard=self.rng.random() < 0.5)

    def _exchange_limit(self, _now):
        seconds = self.rng.choice((1, 30, 300, 1200, self.rng.randrange(2, 1800)))
        github = self.day.world.wall()
        at = math.floor(github + seconds)
        form = self.rng.choice(("seconds", "date", "reset", "503"))
        # Dates and resets know whole seconds only.
        self._told = at - github if form in ("date", "reset") else seconds
        if form == "date":
            date = formatdate(at, usegmt=True)
            return Fault(429, {"retry-after": date}, {"message": "Slow down."})
        if form == "reset":
            spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(at)}
            return Fault(403, spent, {"message": "API rate limit exceeded for user ID 1."})
        status = 503 if form == "503" else 429
        return Fault(status, {"retry-after": str(seconds)}, {"message": "Slow down."})

    def _slow_with_suspend(self, now):
        delay = self.rng.uniform(5.0, 80.0)
        if self.rng.random() < 0.7:
            away = math.exp(self.rng.uniform(math.log(2.0), math.log(1200.0)))
            at = now + self.rng.uniform(0.1, 0.9) * delay
            self.day.clock.call_at(at, lambda: self.day.suspend(away))
        return Fault(delay=delay)

    def _limited_for(self, now, seconds):
        self.note(COMPLETION, now, now + LATER * seconds)
        return seconds

    def _limit_of_account(self, now):
        seconds = self._limited_for(now, self.rng.randrange(1, 900))
        name = self.rng.choice(("rate_limited", "user_global_rate_limited", "rate_limited_suffix"))
        fault = rate_limit(name, seconds)
        if self.rng.random() < 0.4:
            date = formatdate(self.day.world.wall() + seconds, usegmt=True)
            fault = Fault(429, {"retry-after": date}, fault.body)
        elif self.rng.random() < 0.2:
            fault = Fault(403, {"retry-after": str(seconds)}, "forbidden\n")
        return fault

    def _limit_of_model(self, now):
        seconds = self._limited_for(now, self.rng.randrange(1, 900))
        return rate_limit(
            self.rng.choice(("user_model_rate_limited", "model_overloaded")), seconds
        )

    def _overloaded(self, now):
        seconds = self._limited_for(now, self.rng.randrange(1, 60))
        headers = {"retry-after": str(seconds)} if self.rng.random() < 0.5 else {}
        return Fault(503, headers, "upstream provider limit reached\n")

    def _named(self, name):
        return lambda _now: named(name, self.day.world.wall())

    def _add_refused_token(self, now):
        """Have a token refused that cannot be replaced for now."""
        self._episodes.append(
            Episode(COMPLETION, "401", now, 0.0, self._refused_token, is_for_proxied=True)
        )

    def _refused_token(self, _now):
        """Refuse a token that still lives; not several in a row, which are replaced slowly."""
        if self.day.has_rejected_lately():
            return None
        return named("401_token_expired", self.day.world.wall())
