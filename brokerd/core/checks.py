"""One finding of `doctor`: what was looked at, how it stands, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


__all__ = ["Check", "Verdict"]


class Verdict(StrEnum):
    """How a thing stands."""

    OK = "ok"
    WARNING = "warning"
    """It works, with less protection or comfort than it could have."""
    ERROR = "error"
    """Something that is promised or needed does not hold."""


@dataclass(frozen=True)
class Check:
    """One line of `copilot-cred doctor`, and one field of the record at start."""

    name: str
    """What was looked at, stable: `landlock`, `not-dumpable`, `store`."""
    verdict: Verdict
    told: str
    """How it stands, in a sentence without a full stop."""
    mend: str = ""
    """What to do, ending in a command; empty where all is well or nothing can be done."""
    account: str = ""
    """The account that it is about, for who may not know of all of them; empty: it is of none."""

    @property
    def holds(self) -> bool:
        """Whether it is as it should be."""
        return self.verdict is Verdict.OK
