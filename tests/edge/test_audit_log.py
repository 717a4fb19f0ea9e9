"""The bounded local log: whole, ours alone, and never in the daemon's way."""

import fcntl
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from brokerd.core import audit
from brokerd.host.logs import audit_log, journal, redaction
from brokerd.host.logs.audit_log import ROTATE_AT, AuditLog
from brokerd.host.logs.journal import configure


CANARY = "Canary/+=c4n4ry!hush"
AT = 1_800_000_000.25


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "copilot-broker" / "audit.jsonl"


@pytest.fixture
def trail(path):
    return AuditLog(path)


@pytest.fixture
def warnings(caplog):
    """What was said of the log itself."""
    return lambda: [
        record.REASON for record in caplog.records if record.message == "audit log not written"
    ]


@pytest.fixture
def clean_logging():
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in journal._CHATTY}
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def append(trail, number=0, **fields):
    trail.append(AT, "signed-out", "signed out", {"ACCOUNT": f"a{number}", **fields})


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def rotated(path):
    return path.with_name("audit.jsonl.1")


def test_a_line_is_one_object(trail, path):
    append(trail, HOST="github.com")
    assert path.read_text() == (
        '{"ts": "2027-01-15T08:00:00.250000Z", "event": "signed-out", "message": "signed out", '
        '"fields": {"ACCOUNT": "a0", "HOST": "github.com"}}\n'
    )


def test_it_is_ours_alone_whatever_the_umask(trail, path):
    before = os.umask(0)
    try:
        append(trail)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    append(trail)
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_renamed_when_full_and_the_one_before_is_replaced(trail, path):
    append(trail)
    for number in range(1, 300):
        append(trail, number, MORE="x" * 8_000)
    first, second = entries(rotated(path)), entries(path)
    assert rotated(path).stat().st_size <= ROTATE_AT
    assert path.stat().st_size <= ROTATE_AT
    assert sorted(each.name for each in path.parent.iterdir()) == ["audit.jsonl", "audit.jsonl.1"]
    numbers = [int(entry["fields"]["ACCOUNT"][1:]) for entry in first + second]
    assert numbers == list(range(numbers[0], 300)), "none lost between the two"
    assert numbers[0] > 0


def test_who_cannot_have_the_lock_does_not_rename(trail, path, warnings):
    append(trail)
    with path.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.truncate(ROTATE_AT)
        append(trail, 1)
        assert not rotated(path).exists()
        assert path.stat().st_size > ROTATE_AT
        other.truncate(2 * ROTATE_AT)
        append(trail, 2)
        assert path.stat().st_size == 2 * ROTATE_AT, "bounded all the same"
        assert warnings() == ["the file is full and cannot be renamed"]
    append(trail, 3)
    assert [entry["fields"]["ACCOUNT"] for entry in entries(path)] == ["a3"]


def test_a_file_that_is_new_is_not_renamed_by_who_came_late(trail, path, monkeypatch):
    """Another daemon renames the full file between our look at it and our lock."""
    append(trail)
    os.truncate(path, ROTATE_AT)
    flock = fcntl.flock

    def late(fd, how):
        monkeypatch.setattr(audit_log.fcntl, "flock", flock)
        append(AuditLog(path), 1)
        flock(fd, how)

    monkeypatch.setattr(audit_log.fcntl, "flock", late)
    append(trail, 2)
    assert [entry["fields"]["ACCOUNT"] for entry in entries(path)] == ["a1", "a2"]


def test_two_daemons_lose_nothing_and_mix_nothing(path):
    program = f"""
        import sys
        from pathlib import Path
        from brokerd.host.logs.audit_log import AuditLog
        trail = AuditLog(Path({str(path)!r}))
        for number in range(250):
            trail.append(0.0, "x", "x", {{"WHO": sys.argv[1], "N": str(number), "F": "y" * 3000}})
        """
    argv = [sys.executable, "-c", textwrap.dedent(program)]
    daemons = [
        subprocess.Popen([*argv, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")
    ]
    assert [(daemon.communicate(timeout=60)[1], daemon.returncode) for daemon in daemons] == [
        ("", 0)
    ] * 2
    found = [entry["fields"] for entry in [*entries(rotated(path)), *entries(path)]]
    for name in ("a", "b"):
        numbers = [int(fields["N"]) for fields in found if fields["WHO"] == name]
        assert sorted(numbers) == list(range(250))


def test_a_torn_line_spoils_no_other(trail, path):
    append(trail)
    with path.open("a") as file:
        file.write('{"ts": "half')
    append(trail, 1)
    first, torn, last = path.read_text().splitlines()
    assert torn == '{"ts": "half'
    assert json.loads(first)
    assert json.loads(last)["fields"] == {"ACCOUNT": "a1"}


@pytest.mark.parametrize("planted", ["symlink", "hard link", "fifo", "folder"])
def test_what_somebody_has_planted_is_not_written_to(trail, path, tmp_path, planted, warnings):
    path.parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    mode = victim.stat().st_mode
    if planted == "symlink":
        path.symlink_to(victim)
    elif planted == "hard link":
        path.hardlink_to(victim)
    elif planted == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    append(trail)
    append(trail)
    assert victim.read_text() == "mine"
    assert victim.stat().st_mode == mode
    assert len(warnings()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of another user's")
def test_a_file_of_another_user_is_not_written_to(trail, path, warnings):
    append(trail)
    os.chown(path, 4711, 4711)
    append(trail)
    assert len(entries(path)) == 1
    assert warnings() == ["it belongs to somebody else"]


def test_a_disk_that_is_full_is_one_warning_and_another_after_it_was_not(
    trail, path, warnings, monkeypatch
):
    write = os.write
    for _ in range(2):
        append(trail)
        monkeypatch.setattr(audit_log.os, "write", lambda fd, line: write(fd, line[:9]))
        append(trail)
        append(trail)
        monkeypatch.setattr(audit_log.os, "write", write)
    assert warnings() == ["the disk is full"] * 2
    append(trail, 7)
    assert json.loads(path.read_text().splitlines()[-1])["fields"] == {"ACCOUNT": "a7"}


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path, warnings):
    (tmp_path / "file").touch()
    trail = AuditLog(tmp_path / "file" / "audit.jsonl")
    append(trail)
    append(trail)
    assert warnings() == ["File exists"]


def test_a_record_beyond_all_measure_is_not_written(trail, path, warnings):
    append(trail, MORE="x" * 20_000)
    assert warnings() == ["a record is too long"]
    assert not path.exists()


def test_no_descriptor_is_left_open(trail):
    append(trail)
    before = descriptors()
    for _ in range(50):
        append(trail, MORE="x" * 15_000)
        append(trail, MORE="x" * 20_000)
    assert descriptors() == before


# Through the sink.

log = logging.getLogger("audit.test")  # of no logger whose level the tests have set


def told(event=audit.SIGNED_OUT, **fields):
    log.info(event.message, extra=event.extra(**{"ACCOUNT": "a", "HOST": "h", **fields}))


def test_without_a_journal_the_records_go_to_the_file_too(clean_logging, path):
    stream = io.StringIO()
    configure("info", stream, path)
    told()
    log.info("starting", extra={"ACCOUNT": "a"})
    log.info("of another program", extra={"MESSAGE_ID": "ab" * 16})
    [entry] = entries(path)
    assert (entry["event"], entry["fields"]) == ("signed-out", {"ACCOUNT": "a", "HOST": "h"})
    assert stream.getvalue().count("\n") == 3
    assert " signed out (account=a host=h)\n" in stream.getvalue()


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_no_level_silences_the_audit_log(clean_logging, path, level):
    stream = io.StringIO()
    configure(level, stream, path)
    told()
    log.info("chatter")
    assert len(entries(path)) == 1
    assert "signed out" in stream.getvalue()
    assert ("chatter" in stream.getvalue()) == (level in {"debug", "info"})


def test_no_level_silences_the_audit_log_in_the_journal(clean_logging, monkeypatch):
    sent = []
    sink = journal.JournalSink(lambda message, **fields: sent.append((message, fields)))
    monkeypatch.setattr(journal, "_choose", lambda stream: sink)
    configure("error")
    told()
    log.warning("chatter")
    [(message, fields)] = sent
    assert message == "signed out"
    assert fields["MESSAGE_ID"] == audit.SIGNED_OUT.message_id
    assert fields["HOST"] == "h"


def test_where_the_journal_keeps_the_fields_there_is_no_file(clean_logging, path, monkeypatch):
    sink = journal.JournalSink(lambda message, **fields: None)
    monkeypatch.setattr(journal, "_choose", lambda stream: sink)
    configure("info", audit_log=path)
    told()
    assert not path.exists()


def test_a_reload_replaces_the_sink(clean_logging, path):
    for _ in range(3):
        configure("info", io.StringIO(), path)
    told()
    assert len(entries(path)) == 1
    configure("info", io.StringIO())
    told()
    assert len(entries(path)) == 1


def test_it_is_redacted_like_all(clean_logging, path):
    redaction.register_secret(CANARY)
    try:
        configure("info", io.StringIO(), path)
        told(ACCOUNT=CANARY, HOST="tid=C4n4ry;exp=1:C4n4ry")
    finally:
        redaction.forget_secret(CANARY)
    assert CANARY not in path.read_text()
    assert "C4n4ry" not in path.read_text()
    assert redaction.MASK in path.read_text()


def test_a_file_that_fails_is_told_by_the_other_sink(clean_logging, tmp_path):
    (tmp_path / "file").touch()
    stream = io.StringIO()
    configure("info", stream, tmp_path / "file" / "audit.jsonl")
    told()
    told()
    assert stream.getvalue().count("audit log not written") == 1
    assert stream.getvalue().count("signed out") == 2
