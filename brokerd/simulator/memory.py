"""What the simulated Copilot remembers of each account: its terms, its requests, its manners.

It watches manners: when an answer told somebody to wait (`retry-after`), completion requests of
the same account before that moment are recorded as `early`. An account is a person: whatever
token they use, the `tid` of an exchanged one included.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Self

from brokerd.core.pacing import model_of


if TYPE_CHECKING:
    from brokerd.simulator.clock import Clock
    from brokerd.simulator.records import RecordedRequest
    from brokerd.simulator.sending import Outgoing
    from brokerd.simulator.settings import Settings


__all__ = ["CopilotMemory", "Visit"]

MINUTE = 60.0
# What a client that has too many requests under way can do is wait for one of its own.
CONCURRENT_RETRY_AFTER = 1
# Limits of one model; every other one is the account's.
MODEL_CODES = ("user_model_rate_limited", "model_overloaded")
# Statuses that can limit; the `retry-after` of a 402 is when the budget is renewed.
LIMITING = (403, 429, 503)
# Bodies are kept for a page of documentation, which shows some thirty requests.
MAX_KEPT = 1000


class CopilotMemory:
    """One per simulator."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.accepted: defaultdict[str, set[str]] = defaultdict(set)
        """Account → models whose terms were accepted."""
        self.in_flight: defaultdict[str, int] = defaultdict(int)
        self.arrivals: defaultdict[str, deque[float]] = defaultdict(deque)
        """Account → when its requests of the last minute came."""
        self.pauses: dict[tuple[str, str | None], tuple[float, float]] = {}
        """Account and model (None: all) → when it was told to wait, and until when."""
        self._kept = 0

    def clear(self) -> None:
        """Forget all but the terms accepted."""
        self.arrivals.clear()
        self.pauses.clear()
        self._kept = 0

    def may_keep(self) -> bool:
        """Whether the next request's bodies are to be kept; counts it."""
        if not self.settings.keep_bodies or self._kept >= MAX_KEPT:
            return False
        self._kept += 1
        return True

    def visit(self, account: str, body: bytes, recorded: RecordedRequest) -> Visit:
        """Take note of a completion request; empty `account`: of nobody's."""
        model = model_of(body)
        recorded.account, recorded.model = account, model
        now = self.clock.monotonic()
        grace = self.settings.early_grace
        pauses = (self.pauses.get((account, each), (now, now)) for each in (None, model))
        recorded.early = any(told + grace < now < until for told, until in pauses)
        return Visit(self, account, model)


class Visit:
    """One completion request, as long as it is under way."""

    def __init__(self, memory: CopilotMemory, account: str, model: str) -> None:
        self._memory = memory
        self._account = account
        self._model = model

    def __enter__(self) -> Self:
        self._memory.in_flight[self._account] += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.in_flight[self._account] -= 1

    def wait(self) -> int | None:
        """Return in how many seconds it may come again, by the settings; None: it may stay."""
        memory = self._memory
        most, rate = memory.settings.max_concurrent, memory.settings.requests_per_minute
        if most is not None and memory.in_flight[self._account] > most:
            return CONCURRENT_RETRY_AFTER
        if rate is None:
            return None
        now, arrivals = memory.clock.monotonic(), memory.arrivals[self._account]
        while arrivals and arrivals[0] <= now - MINUTE:
            arrivals.popleft()
        if len(arrivals) >= rate:
            return max(1, math.ceil(arrivals[-rate] + MINUTE - now)) if rate else int(MINUTE)
        arrivals.append(now)
        return None

    def told(self, answer: Outgoing) -> None:
        """Remember for how long an answer wants to be left alone, as it is about to go out."""
        if answer.status not in LIMITING or not self._account:
            return
        lower = {name.lower(): value for name, value in answer.headers.items()}
        seconds = self._seconds(lower.get("retry-after"))
        if seconds is None:
            return
        is_model = answer.status == 503 or _code(b"".join(answer.writes)) in MODEL_CODES
        key = (self._account, self._model if is_model else None)
        memory = self._memory
        now = memory.clock.monotonic()
        told, until = memory.pauses.get(key, (now, now))
        if now >= until:  # else it was told already, to others that were under way with it
            told = now
        memory.pauses[key] = (told, max(until, now + seconds))

    def _seconds(self, value: str | None) -> float | None:
        if value is None:
            return None
        if value.isdecimal():
            return float(value)
        try:
            at = parsedate_to_datetime(value).timestamp()
        except ValueError:
            return None
        memory = self._memory
        return at - memory.clock.wall() - memory.settings.clock_offset


def _code(body: bytes) -> str:
    """Read the code of a refusal, without what follows a colon; empty when there is none."""
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    error = told.get("error", told) if isinstance(told, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code.partition(":")[0] if isinstance(code, str) else ""
