"""What one look has found, in the shape that `broker.doctor` answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


__all__ = ["Finding", "Verdict"]


class Verdict(StrEnum):
    """How a thing stands."""

    OK = "ok"
    WARNING = "warning"
    """It works, with less protection or comfort than it could have."""
    ERROR = "error"
    """Something that is promised or needed does not hold."""


@dataclass(frozen=True)
class Finding:
    """One line."""

    name: str
    """What was looked at; the same in all versions."""
    verdict: Verdict
    told: str
    """How it stands, without a full stop."""
    mend: str = ""
    """What to do, ending in a command; empty where there is nothing to do."""

    @classmethod
    def from_map(cls, check: object) -> Finding | None:
        """Read one check of `broker.doctor` (PROTOCOL.md); None when it is none.

        A verdict that this version does not know counts as a warning.
        """
        if not isinstance(check, Mapping) or not isinstance(check.get("name"), str):
            return None
        said = check.get("verdict")
        verdict = Verdict(said) if said in set(Verdict) else Verdict.WARNING
        return cls(
            check["name"], verdict, str(check.get("told", "")), str(check.get("mend") or "")
        )

    def to_map(self) -> dict[str, str]:
        """Return the shape that it has on the wire."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "told": self.told,
            "mend": self.mend,
        }
