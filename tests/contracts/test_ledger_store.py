"""The ledger at rest: everything counted is told, once, whoever is killed when and whatever breaks."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest

from brokerd.core.keys import day_of
from brokerd.core.ledger.asked import Asked
from brokerd.core.ledger.counts import Counts
from brokerd.core.ledger.lines import CLIENTS_MAX, Line
from brokerd.core.ledger.record import heading_of
from brokerd.errors import BrokerError
from brokerd.stores.ledger import Ledger, database, ledger
from brokerd.stores.ledger.journal import HEADER, Journal


NOW = 1_790_000_000.0
TODAY = day_of(NOW)
ALL = Asked(0, 10**6)
ONE = Counts(1, 1, 0, 0, 0, 100, 20, 10, 250, 0)


def a_line(client: str = "editor", model: str = "m") -> Line:
    return Line("key", client, "", "default", model)


class Book:
    """A ledger whose clock stands still, in a folder of its own."""

    def __init__(self, folder, keep=30):
        self.folder, self.keep, self.now = folder, keep, NOW
        self.ledger = self.opened()

    def opened(self) -> Ledger:
        opened = Ledger(self.folder, keep=lambda: self.keep, wall=lambda: self.now)
        opened.open()
        return opened

    def count(self, times=1, line=None, counts=ONE):
        line = line or a_line()
        for _ in range(times):
            self.ledger.count(line, heading_of(line), *counts)

    async def told(self, asked=ALL) -> dict:
        report = await self.ledger.report(asked)
        return dict(report.rows)

    async def requests(self) -> int:
        return sum(counts.requests for counts in (await self.told()).values())

    def forsake(self) -> None:
        """Leave it as a kill does: nothing is written any more."""
        if self.ledger._timer is not None:
            self.ledger._timer.cancel()
        if self.ledger._journal is not None:
            self.ledger._journal.close()
        self.ledger = self.opened()


@pytest.fixture
async def book(tmp_path):
    book = Book(tmp_path / "state")
    yield book
    await book.ledger.close()


async def test_what_was_counted_is_told_in_sums(book):
    book.count(3)
    book.count(2, a_line("ci", "other"))
    key = TODAY, *a_line()
    assert await book.told() == {
        key: Counts(3, 3, 0, 0, 0, 300, 60, 30, 750, 0),
        (TODAY, *a_line("ci", "other")): Counts(2, 2, 0, 0, 0, 200, 40, 20, 500, 0),
    }
    by_model = await book.told(Asked(TODAY, TODAY, ("model",)))
    assert list(by_model) == [("m",), ("other",)], "the largest first"
    assert list(await book.told(Asked(TODAY, TODAY, ()))) == [()]
    assert await book.told(Asked(TODAY, TODAY, (), ("work",))) == {}
    assert await book.told(Asked(TODAY + 1, TODAY + 9)) == {}


async def test_nothing_is_made_and_no_sqlite_is_loaded_before_anything_is_counted(tmp_path):
    script = f"""
import asyncio, sys
from pathlib import Path
from brokerd.core.ledger.lines import Line
from brokerd.core.ledger.record import heading_of
from brokerd.stores.ledger import Ledger
async def main():
    folder = Path({str(tmp_path / "state")!r})
    ledger = Ledger(folder, keep=lambda: 30)
    ledger.open()
    assert not folder.exists()
    line = Line("key", "a", "", "b", "c")
    ledger.count(line, heading_of(line), *[1] * 10)
    assert "sqlite3" not in sys.modules
    await ledger.close()
    assert "sqlite3" in sys.modules
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


async def test_its_files_are_ours_alone(book):
    book.count()
    await book.told()
    names = {each.name: stat.S_IMODE(each.stat().st_mode) for each in book.folder.iterdir()}
    assert names == {"usage.db": 0o600, "usage.journal": 0o600}
    assert stat.S_IMODE(book.folder.stat().st_mode) == 0o700


async def test_a_killed_broker_has_forgotten_nothing(book):
    for _ in range(3):
        book.count(7)
        book.forsake()
    assert await book.requests() == 21
    book.count(4)
    await book.ledger.close()
    book.ledger = book.opened()
    assert await book.requests() == 25


async def test_a_stop_takes_all_of_it_in(book):
    book.count(5)
    await book.ledger.close()
    assert (book.folder / "usage.journal").stat().st_size == HEADER
    database = sqlite3.connect(book.folder / "usage.db")
    assert database.execute("SELECT sum(requests) FROM usage").fetchall() == [(5,)]
    database.close()


async def test_a_start_takes_in_what_was_left(book):
    book.count(5)
    book.forsake()
    async with asyncio.timeout(20):
        while book.ledger._timer is not None or book.ledger._task is not None:
            await asyncio.sleep(0)
    assert (book.folder / "usage.journal").stat().st_size == HEADER


@pytest.mark.parametrize("moment", ["before the commit", "after the commit", "after the cut"])
async def test_what_is_folded_when_somebody_is_killed_is_counted_once(book, monkeypatch, moment):
    book.count(5)
    fold, forget = database.fold, Journal.forget
    if moment == "before the commit":
        monkeypatch.setattr(database, "fold", _dies)
    elif moment == "after the commit":
        monkeypatch.setattr(Journal, "forget", _dies)
    else:
        monkeypatch.setattr(Journal, "forget", lambda *given: (forget(*given), _dies())[0])
    with pytest.raises(BrokerError, match="Killed"):
        await book.ledger.report(ALL)
    monkeypatch.setattr(database, "fold", fold)
    monkeypatch.setattr(Journal, "forget", forget)
    book.count(2)
    book.forsake()
    assert await book.requests() == 7


class KilledError(Exception):
    pass


def _dies(*_):
    raise KilledError


async def test_a_process_that_is_killed_in_the_middle_of_it_all_loses_and_doubles_nothing(
    tmp_path,
):
    """It tells each count once that has returned; one more may be there, that it did not get to tell."""
    script = f"""
import asyncio, sys
from pathlib import Path
from brokerd.core.ledger.asked import Asked
from brokerd.core.ledger.lines import Line
from brokerd.core.ledger.record import heading_of
from brokerd.stores.ledger import Ledger
async def main():
    ledger = Ledger(Path({str(tmp_path / "state")!r}), keep=lambda: 30)
    ledger.open()
    line = Line("key", "a", "", "b", "c")
    heading = heading_of(line)
    while True:
        for _ in range(50):
            ledger.count(line, heading, *[1] * 10)
            sys.stdout.write("x")
            sys.stdout.flush()
        ledger._fold_soon()
        await asyncio.sleep(0)
asyncio.run(main())
"""
    dice, told = random.Random(3), 0
    for _ in range(6):
        running = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert running.stdout is not None
        for _ in range(dice.randrange(200, 1500)):
            assert running.stdout.read(1)
            told += 1
        running.send_signal(signal.SIGKILL)
        told += len(running.stdout.read())
        running.stdout.close()
        running.wait(10)
    book = Book(tmp_path / "state")
    counted = await book.requests()
    assert told <= counted <= told + 6
    await book.ledger.close()


async def test_days_that_are_too_old_are_forgotten(book):
    book.count(2)
    assert await book.requests() == 2
    book.now = NOW + 29 * 86_400
    book.count(1)
    assert await book.requests() == 3
    book.now = NOW + 30 * 86_400
    book.count(1)
    assert await book.requests() == 2


async def test_a_day_grows_no_further_than_its_bounds(book):
    for number in range(CLIENTS_MAX + 50):
        book.count(1, a_line(f"c{number}"))
        if number % 40 == 0:
            await book.told()
    rows = await book.told()
    assert len(rows) == CLIENTS_MAX + 1
    (others,) = [counts for place, counts in rows.items() if place[1] == "others"]
    assert others.requests == 50


# -- what breaks ------------------------------------------------------------------------------


def spoilt(book) -> None:
    (book.folder / "usage.db").write_bytes(b"no database at all, and that for many bytes" * 100)


def too_new(book) -> None:
    database = sqlite3.connect(book.folder / "usage.db")
    database.execute("PRAGMA user_version = 99")
    database.close()


def open_to_all(book) -> None:
    (book.folder / "usage.db").chmod(0o644)


def a_link(book) -> None:
    (book.folder / "usage.db").rename(book.folder / "real.db")
    (book.folder / "usage.db").symlink_to("real.db")


def a_folder(book) -> None:
    (book.folder / "usage.db").unlink()
    (book.folder / "usage.db").mkdir()


def foreign(book) -> None:
    os.chown(book.folder / "usage.db", 4242, 4242)


TROUBLES = {
    spoilt: ("usage_broken", "mv {0} {0}.old"),
    too_new: ("store_newer", "pip install --upgrade copilot-broker"),
    open_to_all: ("store_unsafe", "chmod 600 {0}"),
    a_link: ("store_unsafe", "rm {0}"),
    a_folder: ("store_unwritable", "ls -ld {1}"),
    foreign: ("store_unsafe", "mv {0} {0}.old"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_database_that_cannot_be_had_is_told_once_and_counting_goes_on(
    book, trouble, caplog
):
    if trouble is foreign and os.geteuid() != 0:
        pytest.skip("only root may give a file away")
    code, mend = TROUBLES[trouble]
    path = book.folder / "usage.db"
    book.count(3)
    assert await book.requests() == 3
    kept = path.read_bytes()
    trouble(book)
    book.count(4)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        with pytest.raises(BrokerError) as raised:
            await book.ledger.report(ALL)
        assert raised.value.failure == book.ledger.failure
    assert book.ledger.failure.code == code
    assert book.ledger.failure.hint.endswith(mend.format(path, book.folder))
    (record,) = [each for each in caplog.records if each.message == "usage not kept"]
    assert record.levelno == logging.WARNING
    assert book.ledger.failure.hint == record.MEND
    book.count(2)
    assert book.ledger.failure is not None
    path.rmdir() if path.is_dir() else path.unlink()
    path.touch(0o600)
    path.write_bytes(kept)
    book.count(1)
    assert await book.requests() == 10
    assert book.ledger.failure is None
    assert [each.message for each in caplog.records][-1] == "usage kept again"


async def test_somebody_who_writes_into_it_is_waited_for_and_then_told_of(book, monkeypatch):
    monkeypatch.setattr(database, "_BUSY", 0.05)
    book.count(2)
    await book.told()
    other = sqlite3.connect(book.folder / "usage.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    book.count(1)
    with pytest.raises(BrokerError) as raised:
        await book.ledger.report(ALL)
    assert raised.value.failure.code == "usage_busy"
    other.execute("ROLLBACK")
    other.close()
    assert await book.requests() == 3


async def test_a_full_disk_under_the_database_is_told_and_mends_itself(book, monkeypatch):
    book.count(2)
    await book.told()
    prepare = database._prepare

    def full(opened, path):
        prepare(opened, path)
        (pages,) = opened.execute("PRAGMA page_count").fetchone()
        opened.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(database, "_prepare", full)
    for number in range(90):
        book.count(1, a_line("c" * 100 + str(number), "m" * 100))
    with pytest.raises(BrokerError) as raised:
        await book.ledger.report(ALL)
    assert raised.value.failure.code == "store_io_failed"
    assert raised.value.failure.hint.endswith(f"df -h {book.folder}")
    monkeypatch.setattr(database, "_prepare", prepare)
    assert await book.requests() == 92


async def test_a_journal_that_takes_a_part_keeps_whole_records_only(book, monkeypatch, caplog):
    book.count(2)
    write, room = os.write, [30, 0]

    def short(fd, data):
        if not room:
            return write(fd, data)
        if not (most := room.pop(0)):
            raise OSError(28, "No space left on device")
        return write(fd, data[:most])

    monkeypatch.setattr("brokerd.stores.ledger.journal.os.write", short)
    book.count(1)
    assert book.ledger.failure.code == "store_io_failed"
    book.count(3)
    assert await book.requests() == 6
    assert book.ledger.failure is None
    assert [each.message for each in caplog.records].count("usage not kept") == 1


async def test_without_any_place_to_write_sums_wait_in_memory(tmp_path, caplog):
    (tmp_path / "state").write_text("in the way")
    book = Book(tmp_path / "state")
    book.count(1_000)
    assert book.ledger.failure is not None
    assert [each.message for each in caplog.records] == ["usage not kept"]
    (tmp_path / "state").unlink()
    assert await book.requests() == 1_000
    await book.ledger.close()


async def test_a_journal_that_nobody_takes_in_is_added_up(book, monkeypatch):
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 20_000)
    monkeypatch.setattr(ledger, "FOLD_SIZE", 5_000)
    book.count(1)
    await book.told()
    kept = (book.folder / "usage.db").read_bytes()
    spoilt(book)
    sizes = []
    for _ in range(40):
        book.count(50)
        while book.ledger._task is not None:
            await asyncio.sleep(0)
        sizes.append((book.folder / "usage.journal").stat().st_size)
    assert max(sizes) < 20_000 + 2 * 50 * 130
    (book.folder / "usage.db").write_bytes(kept)
    assert await book.requests() == 2_001


async def test_a_reader_never_holds_up_who_counts(book, monkeypatch):
    """While a report is under way in its thread the loop goes on, and what it counts is kept."""
    book.count(1)
    began, may_end = threading.Event(), threading.Event()
    report = database.report

    def slow(*given):
        began.set()
        assert may_end.wait(20)
        return report(*given)

    monkeypatch.setattr(database, "report", slow)
    asking = asyncio.create_task(book.ledger.report(ALL))
    while not began.is_set():
        await asyncio.sleep(0)
    book.count(500)
    assert not asking.done()
    may_end.set()
    assert sum(counts.requests for _, counts in (await asking).rows) == 1
    assert await book.requests() == 501


async def test_a_caller_that_leaves_takes_no_fold_with_it(book):
    book.count(3)
    asking = asyncio.create_task(book.ledger.report(ALL))
    while book.ledger._task is None:
        await asyncio.sleep(0)
    asking.cancel()
    assert await book.requests() == 3
