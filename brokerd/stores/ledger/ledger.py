"""The ledger of one broker: counts on the loop, folds and reads in a thread.

What a round of the loop has counted is added up and one write(2), before its answers' ends are
passed on. Some time later, when there is much of it, when somebody wants to see it, at a stop and
at a start, a thread takes the journal into the database. Where the database cannot be had the
journal waits for it, and is added up when it grows too long; where not even the journal can be
written, sums are kept in memory. Requests go on in any case: what is wrong is told once in the
log, and for as long as it lasts by `failure`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from operator import add
from typing import TYPE_CHECKING, Final

from brokerd.core.keys import day_of
from brokerd.core.ledger.counts import Counts, Totals
from brokerd.core.ledger.record import heading_of, record_of
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.stores import private_files
from brokerd.stores.ledger.journal import HEADER, Journal


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from brokerd.core.ledger.asked import Asked, Report
    from brokerd.core.ledger.lines import Line
    from brokerd.core.ledger.record import Heading


__all__ = ["FOLD_EVERY", "FOLD_SIZE", "JOURNAL_MAX", "Ledger"]

log = logging.getLogger(__name__)

FOLD_EVERY: Final = 60.0
"""Seconds that a count waits for the database at most, where that can be written."""

FOLD_SIZE: Final = 512 * 1024
"""Bytes of the journal that are not let wait: some four thousand requests, or a blink to fold."""

JOURNAL_MAX: Final = 4 * 1024 * 1024
"""Bytes of a journal that cannot be folded, before it is added up to far fewer."""

OWED_MAX: Final = 2_000
"""Sums that wait in memory while not even the journal can be written; a day has 500."""


class Ledger:
    """See the module's docstring. All of it is the loop's."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: Callable[[], int],
        wall: Callable[[], float] = time.time,
        put_off: Callable[[Callable[[], bool]], None] | None = None,
    ) -> None:
        """`keep` says for how many days, 0: nothing is counted; `wall` gives Unix seconds.

        `put_off` has what it is given called before an answer's end is passed on
        (`sockets.rounds`); without it each count is written at once.
        """
        self._path = folder / "usage.db"
        self._journal_path = folder / "usage.journal"
        self._keep = keep
        self._wall = wall
        self._put_off = put_off
        self._counted: dict[Heading, tuple[Line, tuple[int, ...]]] = {}
        """What is put off, added up: what a round has counted is mostly one tool's."""
        self._journal: Journal | None = None
        self._owed = Totals()
        """What the journal could not be told."""
        self._error: BrokerError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._fold_size = FOLD_SIZE

    @property
    def failure(self) -> Failure | None:
        """Why usage is not kept as it should be; None where it is."""
        return None if self._error is None else self._error.failure

    @property
    def is_on(self) -> bool:
        """Whether anything is counted."""
        return self._keep() > 0

    def open(self) -> None:
        """Take up what a killed broker has left, a little later; `count` begins without it too."""
        if not self.is_on or not self._journal_path.exists():
            return
        if (error := self._begin()) is not None:
            self._fell(error)
        if self._journal is None or not self._journal.is_empty:
            self._arm(0.0)

    def count(self, line: Line, heading: Heading, *counts: int) -> None:
        """Count a completion, given in the order of `Counts`; never raises.

        `heading` is that of `line`, which whoever calls may keep. Before an answer's end is passed
        on the kernel has it, or else, as `failure` says then, we do.
        """
        counted = self._counted
        is_first = not counted
        before = counted.get(heading)
        counted[heading] = line, counts if before is None else tuple(map(add, before[1], counts))
        if self._put_off is None:
            self._write()
        elif is_first:
            self._put_off(self._write)

    async def report(self, asked: Asked) -> Report:
        """Answer a question about all that was counted until now. Raises BrokerError."""
        from brokerd.stores.ledger import database  # noqa: PLC0415 - with SQLite, when wanted

        self._write()
        if self._task is not None:  # it may have begun before the last count
            await asyncio.shield(self._task)
        await asyncio.shield(self._fold_soon())
        if self._error is not None:
            raise self._error
        return await asyncio.to_thread(database.report, self._path, asked)

    async def close(self) -> None:
        """Take in what is in the journal, and let go of it; nothing is counted after that."""
        self._write()
        while self._task is not None:
            await asyncio.shield(self._task)
        if self._owed or not (self._journal is None or self._journal.is_empty):
            await self._fold_soon()
        if self._owed:
            log.warning("usage forgotten", extra={"COUNT": len(self._owed)})
        if self._timer is not None:
            self._timer.cancel()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # -- the journal --------------------------------------------------------------------------

    def _write(self) -> bool:
        """Write what was counted; return whether a clock was set."""
        counted, self._counted = self._counted, {}
        if not counted:
            return False
        journal, has_clock, day = self._journal, self._timer is not None, day_of(self._wall())
        if journal is None or self._owed:
            self._owe(day, counted.values())
            return True
        records = [record_of(day, heading, *counts) for heading, (_, counts) in counted.items()]
        try:
            journal.append(b"".join(records))
        except OSError as error:
            self._fell(self._unwritten(error))
            self._owe(day, counted.values())
            return True
        if not has_clock:
            self._arm(FOLD_EVERY)
        if journal.size > self._fold_size:
            self._fold_soon()
            return True
        return not has_clock

    def _owe(self, day: int, counted: Iterable[tuple[Line, tuple[int, ...]]]) -> None:
        for line, counts in counted:
            self._count_slowly(day, line, counts)

    def _count_slowly(self, day: int, line: Line, counts: tuple[int, ...]) -> None:
        if len(self._owed) < OWED_MAX:
            self._owed.add(day, line, Counts._make(counts))
        if self._error is None and (error := self._begin()) is not None:
            self._fell(error)
        if self._timer is None:
            self._arm(FOLD_EVERY)

    def _begin(self) -> BrokerError | None:
        """Open the journal unless it is, write what is owed to it; return what is in the way."""
        waiting = list(self._owed)
        error: BrokerError | None = None
        try:
            if self._journal is None:
                self._journal = Journal(self._journal_path)
            while waiting:
                day, line, counts = waiting[-1]
                self._journal.append(record_of(day, heading_of(line), *counts))
                waiting.pop()
        except BrokerError as raised:
            error = raised
        except OSError as raised:
            error = self._unwritten(raised)
        self._owed = Totals()
        for each in waiting:
            self._owed.add(*each)
        return error

    def _unwritten(self, error: OSError) -> BrokerError:
        return private_files.failed("write", self._journal_path, error)

    # -- the database -------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self._fold_soon()

    def _fold_soon(self) -> asyncio.Task[None]:
        """Fold in a task of its own, which whoever waits for it cannot cancel."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._fold(), name="fold usage")
        return self._task

    async def _fold(self) -> None:
        try:
            error = await self._folded()
            if error is not None:
                self._fell(error)
                await self._add_up()
            elif self._error is not None:
                log.info("usage kept again")
                self._error = None
        except Exception as error:  # it must not end in silence
            log.exception("usage not folded")
            self._error = PermanentError(_defect(error))
        finally:
            self._task = None
        journal = self._journal
        size = 0 if journal is None else journal.size
        self._fold_size = FOLD_SIZE if self._error is None else size + FOLD_SIZE
        is_owed = bool(self._owed) or not (journal is None or journal.is_empty)
        if self._timer is None and (is_owed or self._error is not None):
            self._arm(FOLD_EVERY)

    async def _folded(self) -> BrokerError | None:
        """Take in all that was counted so far; return what keeps it from that."""
        from brokerd.stores.ledger import database  # noqa: PLC0415 - see above

        error = self._begin()
        if error is not None:
            return error
        journal = self._journal
        assert journal is not None
        part = journal.part
        if part.end == HEADER and self._error is None:
            return None
        try:
            await asyncio.to_thread(database.fold, self._path, part, self._first_day())
            if part.end > HEADER:
                journal.forget(part.end)
        except BrokerError as raised:
            return raised
        except OSError as raised:
            return self._unwritten(raised)
        return None

    async def _add_up(self) -> None:
        """Make a journal that nobody takes in shorter: sums say as much as what they are of."""
        from brokerd.stores.ledger import database  # noqa: PLC0415 - see above

        journal = self._journal
        if journal is None or journal.size <= JOURNAL_MAX:
            return
        part, first_day = journal.part, self._first_day()
        totals = await asyncio.to_thread(lambda: database.totals_of(part.read(HEADER), first_day))
        records = [record_of(day, heading_of(line), *n) for day, line, n in sorted(totals)]
        while sum(map(len, records)) > JOURNAL_MAX // 2:
            del records[: len(records) // 8 + 1]  # the oldest days
        with suppress(OSError):  # `failure` tells already
            journal.forget(part.end, b"".join(records))

    def _first_day(self) -> int:
        return day_of(self._wall()) - max(1, self._keep()) + 1

    def _fell(self, error: BrokerError) -> None:
        """Say once what is wrong."""
        if self._error is None or self._error.failure.code != error.failure.code:
            extra = {"REASON": error.failure.message, "MEND": error.failure.hint}
            log.warning("usage not kept", extra=extra)
        self._error = error


def _defect(error: Exception) -> Failure:
    return Failure(
        ErrorClass.INTERNAL,
        "usage_defect",
        f"usage cannot be taken in: {type(error).__name__}",
        "Look at: systemctl --user status copilot-broker",
    )
