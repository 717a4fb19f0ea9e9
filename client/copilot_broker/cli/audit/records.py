"""One record of the audit log, wherever it was kept, and what is looked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.audit.events import BY_NAME, FIELDS, NUMBERS, Event


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Query", "Record", "of_broker"]


@dataclass(frozen=True)
class Record:
    """What happened, when, and all that was told of it."""

    at: float
    """Unix seconds."""
    event: Event
    fields: Mapping[str, str]
    """By their names in the journal: in capitals."""
    source: str
    """`journal` or `file`."""
    recorded_by: str = ""
    """The unit that wrote it, by the journal's own word; "" where it has none."""
    vouched: bool | None = None
    """Whether that is the broker's unit; None of a file, where nobody can tell."""

    def get(self, name: str) -> str:
        """Return a field, "" if it is missing."""
        return self.fields.get(name, "")

    def to_map(self) -> dict[str, Any]:
        """Return it for `--json`: the same keys for each record of one event."""
        time = datetime.fromtimestamp(self.at, UTC).isoformat(timespec="microseconds")
        told = {name.lower(): _typed(name, value) for name, value in sorted(self.fields.items())}
        return {
            "time": time.replace("+00:00", "Z"),
            "event": self.event.name,
            **told,
            "source": self.source,
            "recorded_by": self.recorded_by,
            "vouched": self.vouched,
        }


@dataclass(frozen=True)
class Query:
    """Which records are wanted."""

    since: str | None = None
    """In the words of systemd.time(7)."""
    account: str | None = None
    events: frozenset[str] = field(default=frozenset(BY_NAME))
    """Their names."""
    unit: str | None = None
    """A glob; a record of nobody's connection has no unit and matches none."""

    def wants(self, record: Record) -> bool:
        """Whether a record is one of these; its time is for the source to look at."""
        return (
            record.event.name in self.events
            and (self.account is None or record.get("ACCOUNT") == self.account)
            and (self.unit is None or self._is_of_unit(record.get("PEER_UNIT")))
        )

    def _is_of_unit(self, unit: str) -> bool:
        return bool(unit) and fnmatchcase(unit, self.unit or "*")


def of_broker(fields: Mapping[str, object]) -> dict[str, str]:
    """Return the fields that are the broker's; what is no text is left out."""
    return {
        name: value for name, value in fields.items() if name in FIELDS and isinstance(value, str)
    }


def _typed(name: str, value: str) -> str | int | bool | None:
    """Return a number where it is one; None for a number that nobody can read."""
    if name not in NUMBERS:
        return value
    try:
        return bool(int(value)) if name == "PEER_WEAK" else int(value)
    except ValueError:
        return None
