"""The circuit: an upstream that fails again and again is left alone, then tried with one request.

closed ── TRIP failures in a row ──→ open ── its time is over, one asks ──→ half open
  ↑                                   ↑                                        │
  └──────────── the probe was answered┼────────────────────────────────────────┤
                                      ├── the probe failed: twice as long ─────┤
                                      └── it was given up: the next one tries ─┘
"""

from __future__ import annotations

from typing import Literal


__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "TRIP", "Circuit"]

TRIP = 10
"""Failures in a row: a bad minute of one model's provider is shorter."""

FIRST_PAUSE = 5.0
"""Seconds; about what a restart of something in between takes."""

LONGEST_PAUSE = 60.0
"""Seconds; a recovered upstream is found within a minute."""


class Circuit:
    """Whether upstream works; of one account, whose requests all go to one host."""

    __slots__ = ("_failures", "_is_probing", "_pause", "_until")

    def __init__(self) -> None:
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._is_probing = False

    @property
    def is_closed(self) -> bool:
        """Whether requests pass."""
        return not self._pause

    @property
    def has_failures(self) -> bool:
        """Whether a success would change anything."""
        return self._failures > 0

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """Half open: one request is out to try."""
        if not self._pause:
            return "closed"
        return "half_open" if self._is_probing else "open"

    def rest(self, now: float) -> float | None:
        """Seconds until one may try; None: now, or all may.

        While one is out to try nobody can know: as long as a pause that follows right now.
        """
        if not self._pause:
            return None
        if self._is_probing:
            return FIRST_PAUSE
        return self._until - now if now < self._until else None

    def admit(self) -> bool:
        """Let one pass; True when it is the one that tries. Ask `rest` before."""
        if not self._pause:
            return False
        self._is_probing = True
        return True

    def succeeded(self, *, is_probe: bool) -> None:
        """Know that upstream answered; while it is left alone only the probe's word counts."""
        if not self._pause or is_probe:
            self._failures = 0
            self._pause = 0.0
            self._is_probing = False

    def abandoned(self) -> None:
        """Know that the probe was given up: that says nothing, so the next one tries at once."""
        self._is_probing = False

    def failed(self, now: float, *, is_probe: bool) -> bool:
        """Know that upstream failed; True when it is to be left alone from now on."""
        if self._pause:
            if not is_probe:
                return False
            self._is_probing = False
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._failures += 1
            if self._failures < TRIP:
                return False
            self._pause = FIRST_PAUSE
        self._until = now + self._pause
        return True
