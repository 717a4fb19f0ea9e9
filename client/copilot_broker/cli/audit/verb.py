"""What `copilot-cred audit` does: read both places, print, and wait for more."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from copilot_broker.cli.audit import COUNT_MAX
from copilot_broker.cli.audit.events import BY_NAME, DENIALS
from copilot_broker.cli.audit.journal import Journal, JournalUnreadableError
from copilot_broker.cli.audit.local_log import LocalLog, Tail, log_path
from copilot_broker.cli.audit.records import Query
from copilot_broker.cli.audit.running import named_log
from copilot_broker.cli.audit.shown import HEADINGS, aligned, line, print_records
from copilot_broker.cli.audit.since import moment
from copilot_broker.cli.display import say
from copilot_broker.cli.report import Refusal, note
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from copilot_broker.cli.audit.journal import Following
    from copilot_broker.cli.audit.records import Record


__all__ = ["audit"]

LOOK_EVERY = 0.5
"""Seconds between two looks into the local log while following."""


def audit(args: argparse.Namespace) -> int:
    """Print records on stdout, the oldest first; with --follow until interrupted."""
    began = time.time()
    sources = _Sources(args.source, _query(args), began)
    found, is_all = sources.read(args.n)
    if args.follow:
        sources.begin_to_follow()
        if not args.json and sys.stdout.isatty():
            print(aligned(HEADINGS))
    _print(found, as_json=args.json, singly=args.follow)
    sources.say_what_was_skipped()
    if args.follow:
        try:
            while True:
                _print(sources.wait(), as_json=args.json, singly=True)
        finally:
            sources.close()
    if not found:
        say("Nothing of that kind has been written down.")
    elif not is_all:
        say(f"The last {len(found)} are shown. {_how_to_see_more(args.n)}")
    return 0


def _how_to_see_more(count: int) -> str:
    """Return the next step; the other options are for the person to keep."""
    if count < COUNT_MAX:
        return f"For more, with the same options: -n {min(count * 10, COUNT_MAX)}"
    return "For older ones there is: man journalctl"


class _Sources:
    """The journal and the local logs, or the one kind that was asked for."""

    def __init__(self, kind: str, query: Query, now: float) -> None:
        self._query = query
        self._now = now
        self._journal = None if kind == "file" else Journal()
        named = named_log()  # in any case: then what it has only counted is written
        self._logs = [] if kind == "journal" else _local_logs(named)
        self._following: Following | None = None
        self._tails: list[Tail] = []

    def read(self, count: int) -> tuple[list[Record], bool]:
        """Return the newest records, the oldest first, and whether these are all there are.

        Raises Refusal where nothing can be read.
        """
        found: list[Record] = []
        why = ""
        if self._journal is not None:
            try:
                found += self._journal.read(self._query, count + 1)
            except JournalUnreadableError as error:
                self._journal, why = None, str(error)
        if self._journal is None or any(log.exists() for log in self._logs):
            found += self._read_logs(count + 1, why)
        found.sort(key=lambda record: record.at)
        return found[max(0, len(found) - count) :], len(found) <= count

    def begin_to_follow(self) -> None:
        """Open what is to be waited for."""
        self._tails = [Tail(log) for log in self._logs]
        if self._journal is not None:
            self._following = self._journal.follow(self._query, self._now)

    def wait(self) -> list[Record]:
        """Return what has come, after `LOOK_EVERY` seconds at the latest."""
        found: list[Record] = []
        watched = [] if self._following is None else [self._following]
        patience = LOOK_EVERY if self._tails else None
        for each in select.select(watched, [], [], patience)[0]:
            try:
                found += each.read()
            except JournalUnreadableError as error:
                hint = "start over: copilot-cred audit --follow"
                text = f"the journal cannot be followed any more: {error}"
                raise Refusal(ErrorClass.INTERNAL, "journal_gone", text, hint) from error
        for tail in self._tails:
            found += tail.read(self._query)
        return found

    def close(self) -> None:
        """Let go of all that was opened."""
        if self._following is not None:
            self._following.close()
        for tail in self._tails:
            tail.close()

    def say_what_was_skipped(self) -> None:
        """Tell of lines that nobody could make sense of."""
        for log in self._logs:
            if log.skipped:
                lines = "line" if log.skipped == 1 else "lines"
                note(f"{log.skipped} {lines} of {log.path} skipped: torn or not ours")

    def _read_logs(self, count: int, why_no_journal: str) -> list[Record]:
        if not self._logs:
            raise _nothing_to_read(why_no_journal, None)
        since = None
        if self._query.since is not None:
            since = moment(self._query.since, self._now)
            if since is None and self._journal is not None:
                paths = ", ".join(str(log.path) for log in self._logs)
                note(f"the local log does not know such a time and is left out: {paths}")
                return []
            if since is None:
                text = f"--since: nobody here knows the time {self._query.since!r}"
                hint = "see what it takes: copilot-cred audit --help"
                raise Refusal(ErrorClass.USAGE, "bad_since", text, hint)
        if not any(log.exists() for log in self._logs):
            raise _nothing_to_read(why_no_journal, self._logs[-1])
        return [record for log in self._logs for record in _read(log, self._query, since, count)]


def _local_logs(named: Path | None) -> list[LocalLog]:
    """Return the log at its default place and, where it is another one, the running broker's."""
    paths = [log_path(os.environ)]
    if named is not None and os.path.realpath(named) != os.path.realpath(paths[0]):
        paths.append(named)
    return [LocalLog(path) for path in paths]


def _read(log: LocalLog, query: Query, since: float | None, count: int) -> list[Record]:
    try:
        return log.read(query, since, count)
    except OSError as error:
        text = f"the local audit log cannot be read: {error.strerror}"
        hint = f"move it away: mv {log.path} {log.path}.old"
        raise Refusal(ErrorClass.INTERNAL, "audit_unreadable", text, hint) from error


def _query(args: argparse.Namespace) -> Query:
    events = frozenset(args.event or BY_NAME)
    if args.denied:
        events &= DENIALS
    if not events:
        text = "none of these events is a denial"
        raise Refusal(ErrorClass.USAGE, "usage", text, "leave out --event or --denied")
    return Query(args.since, args.account, events, args.unit)


def _print(records: Sequence[Record], *, as_json: bool, singly: bool) -> None:
    if as_json:
        for record in records:
            print(json.dumps(record.to_map()), flush=singly)
    elif singly:
        for record in records:
            print(line(record), flush=True)
    elif records:
        print_records(records)


def _nothing_to_read(why: str, log: LocalLog | None) -> Refusal:
    text = f"the journal cannot be read: {why}" if why else "there is no local audit log"
    if why and log is not None:
        text += f"; nor is there a log at {log.path}"
    if log is None:
        hint = "look into both places: copilot-cred audit"
    elif "permission" in why:
        hint = "have a journal kept that you can read: sudo mkdir -p /var/log/journal && "
        hint += "sudo systemctl restart systemd-journald"
    elif not why:
        hint = "where there is a journal the broker writes there: copilot-cred audit"
    else:
        hint = "the broker writes one as soon as it runs: systemctl --user start copilot-broker"
    return Refusal(ErrorClass.INTERNAL, "no_audit_log", text, hint)
