"""`copilot-cred audit`: what it asks journalctl, what it reads of the local log, how it looks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from datetime import datetime

import pytest

from brokerd.core import audit as broker_side
from brokerd.host.logs.audit_log import ROTATE_AT, AuditLog
from client.cli.running import COMMAND, PATIENCE, Terminal, run
from copilot_broker.cli.audit import events as client_side
from copilot_broker.cli.audit import since
from copilot_broker.cli.audit.local_log import LocalLog, Tail, log_path
from copilot_broker.cli.audit.records import Query
from fakes.wire_server import HANG_UP, SILENCE, WireServer


NOW = time.time()

JOURNALCTL = """#!/bin/sh
printf '%s\\n' "$@" -- >> "$FAKE/argv"
case "$*" in
  *--follow*) exec cat "$FAKE/fifo" ;;
  *--output=short*) cat "$FAKE/stderr" >&2; exit 0 ;;
esac
cat "$FAKE/stderr" >&2
cat "$FAKE/out"
exit "$(cat "$FAKE/code")"
"""


class FakeJournal:
    """A journalctl on the PATH that gives what it was told to, and notes what it was asked."""

    def __init__(self, folder):
        self.folder = folder / "fake"
        self.folder.mkdir()
        os.mkfifo(self.folder / "fifo")
        program = self.folder / "journalctl"
        program.write_text(JOURNALCTL)
        program.chmod(0o755)
        self.has()

    def has(self, *entries, stderr="", code=0):
        """As `--reverse` gives them: the newest first."""
        lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
        (self.folder / "out").write_text("".join(f"{line}\n" for line in reversed(lines)))
        (self.folder / "stderr").write_text(stderr)
        (self.folder / "code").write_text(str(code))

    def asked(self):
        """The command lines."""
        calls = (self.folder / "argv").read_text().split("\n--\n")
        return [call.split("\n") for call in calls if call]


@pytest.fixture
def env(tmp_path):
    """A home of one's own, and no journalctl."""
    return {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path / "fake"),
        "FAKE": str(tmp_path / "fake"),
        "TZ": "UTC",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "COPILOT_BROKER_SOCKET": str(tmp_path / "no.sock"),
    }


@pytest.fixture
def journal(tmp_path, env):
    env["PATH"] += ":/usr/bin:/bin"
    return FakeJournal(tmp_path)


@pytest.fixture
def local(env):
    return AuditLog(log_path(env))


PEER = {
    "LISTENER": "rpc",
    "SCOPE": "admin",
    "PEER_PID": "4711",
    "PEER_UID": "1000",
    "PEER_UNIT": "build.service",
    "PEER_LABEL": "",
    "PEER_SANDBOX": "none",
    "PEER_COMM": "make",
    "PEER_EXE": "/usr/bin/make",
    "PEER_WEAK": "0",
}


def entry(name, at=NOW, **fields):
    """As the journal has it."""
    return {
        "__REALTIME_TIMESTAMP": str(int(at * 1e6)),
        "__CURSOR": f"s=1;i={int(at)}",
        "_SYSTEMD_USER_UNIT": "copilot-broker.service",
        "_PID": "99",
        "MESSAGE_ID": client_side.BY_NAME[name].message_id,
        **fields,
    }


def granted(at=NOW, **fields):
    more = {"OPERATION": "token.get", "ACCOUNT": "default", "TOKEN_FP": "1f46af82"}
    return entry("token-granted", at, **{**PEER, **more, **fields})


def write(local, name, at=NOW, **fields):
    local.append(at, name, "x", fields)


def shown(done):
    """The lines of a table, each split at its columns."""
    assert done.returncode == 0, done.stderr
    return [re.split(r"\s{2,}", line) for line in done.stdout.splitlines()[1:]]


def objects(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# The two sides' tables.


def test_the_client_knows_what_the_broker_writes():
    ours = {event.message_id: event.name for event in client_side.BY_ID.values()}
    assert ours == {event.message_id: event.name for event in broker_side.EVENTS}
    fields = {name for event in broker_side.EVENTS for name in event.fields}
    assert fields | set(broker_side.PEER_FIELDS) == client_side.FIELDS


def test_words_are_short_and_tell_one_from_the_other():
    words = [event.words for event in client_side.BY_ID.values()]
    assert len(set(words)) == len(words)
    assert max(map(len, words)) <= 13


# The journal.


def test_it_asks_for_our_records_of_this_user_and_no_others(env, journal):
    journal.has(granted())
    assert len(shown(run("audit", env=env))) == 1
    [argv] = journal.asked()
    ids = {word for word in argv if word.startswith("MESSAGE_ID=")}
    assert ids == {f"MESSAGE_ID={message_id}" for message_id in client_side.BY_ID}
    assert f"_UID={os.getuid()}" in argv
    assert {"--output=json", "--no-pager", "--reverse"} <= set(argv)
    assert all(word.startswith(("--", "_UID=", "MESSAGE_ID=")) for word in argv)


def test_filters_go_to_journalctl_where_it_has_them(env, journal):
    journal.has(granted(ACCOUNT="work; rm -rf /"))
    run("audit", "--account", "work; rm -rf /", "--since", "-2 fortnights", "--denied", env=env)
    [argv] = journal.asked()
    assert "--since=-2 fortnights" in argv
    assert "ACCOUNT=work; rm -rf /" in argv
    assert [word for word in argv if word.startswith("MESSAGE_ID=")] == [
        "MESSAGE_ID=6fc075125b7d4b56ad68edcc147ba400",
        "MESSAGE_ID=99a15f50ce644a25b1a6e3e1129bcfef",
    ]


def test_the_table_says_when_what_who_and_why(env, journal):
    at = time.mktime((time.gmtime().tm_year, 1, 2, 3, 4, 5, 0, 0, 0)) - time.timezone
    lone = {**PEER, "PEER_UNIT": "session-c1.scope", "PEER_WEAK": "1"}
    long = {**PEER, "PEER_UNIT": "app-org.example.Everything-4711.scope"}
    by_tcp = {**PEER, "PEER_PID": "0", "PEER_UNIT": "", "PEER_COMM": "", "PEER_WEAK": "1"}
    journal.has(
        granted(at),
        entry("operation-denied", at, **lone, OPERATION="account.login", REASON="scope_too_low"),
        entry("operation-denied", at, **PEER, OPERATION="token.get", REASON="x", COUNT="1"),
        entry("operation-denied", at, **PEER, OPERATION="token.get", REASON="x", COUNT="12"),
        entry("operation-granted", at, **PEER, OPERATION="grant.list", ACCOUNT="", COUNT="30"),
        entry("peer-denied", at, **PEER, REASON="uid_not_allowed", COUNT="400"),
        entry("token-total", at, **long, ACCOUNT="work", TOKEN_FP="1f46af82", COUNT="12"),
        entry("refreshed", at, ACCOUNT="work", TOKEN_FP="0badcafe", MODE="exchange",
              LIFETIME="1800", LATENCY_USEC="241000"),
        entry("refresh-failed", at, ACCOUNT="work", ERROR_CODE="network_down", LATENCY_USEC="9900000"),
        entry("prompt-ended", at, ACCOUNT="work", HOST="ghe.example", RESULT="denied", LATENCY_USEC="1"),
        entry("confined", at, HOLDS="umask landlock", LACKS="seccomp"),
        entry("operation-denied", at, **PEER, KEY="ci", OPERATION="http.request", REASON="x"),
        entry("operation-denied", at, **{**by_tcp, "LISTENER": "http-tcp"}, REASON="http_host"),
        entry("operation-denied", at, **by_tcp, REASON="http_host"),
        entry("key-created", at, KEY="ci", LIFETIME="2592000"),
        entry("key-created", at, KEY="plain", LIFETIME="0"),
        entry("key-revoked", at, KEY="ci", COUNT="1"),
    )  # fmt: skip
    done = run("audit", env={**env, "TZ": "UTC"})
    when = "01-02 03:04:05"
    assert shown(done) == [
        [when, "token granted", "build", "default", "token.get 1f46af82"],
        [when, "denied", "make 4711?", "-", "account.login: scope_too_low"],
        [when, "denied", "build", "-", "token.get: x"],
        [when, "denied", "build", "-", "token.get: x, 12 times"],
        [when, "granted", "build", "-", "grant.list, 30 times"],
        [when, "peer denied", "build", "-", "uid_not_allowed, uid 1000, rpc, 400 times"],
        [when, "token lent", "app-org.…ng-4711", "work", "1f46af82 12 times"],
        [when, "refreshed", "-", "work", "0badcafe for 30 min, 241 ms"],
        [when, "not refreshed", "-", "work", "network_down, 9 s"],
        [when, "prompt ended", "-", "work", "denied, 0 ms"],
        [when, "confined", "-", "-", "lacks seccomp"],
        [when, "denied", "build", "-", "http.request: x, key ci"],
        [when, "denied", "(by TCP)", "-", ": http_host"],
        [when, "denied", "pid 0?", "-", ": http_host"],
        [when, "key created", "-", "-", "ci for 30 d"],
        [when, "key created", "-", "-", "plain"],
        [when, "key revoked", "-", "-", "ci, 1 connection closed"],
    ]


def test_every_event_can_be_shown(env, journal):
    fields = dict.fromkeys(client_side.FIELDS, "x")
    journal.has(*(entry(name, **fields) for name in client_side.BY_NAME))
    rows = shown(run("audit", env=env))
    assert [row[1] for row in rows] == [event.words for event in client_side.BY_NAME.values()]
    assert all(len(row) == 5 for row in rows)
    bare = [entry(name) for name in client_side.BY_NAME]
    journal.has(*bare)
    assert len(shown(run("audit", env=env))) == len(bare)


def test_json_has_typed_lower_case_keys_and_nothing_of_the_journals_own(env, journal):
    journal.has(granted(1_800_000_000.25, CODE_FILE="x.py"))
    [told] = objects(run("audit", "--json", env=env))
    assert told == {
        "time": "2027-01-15T08:00:00.250000Z",
        "event": "token-granted",
        "account": "default",
        "listener": "rpc",
        "operation": "token.get",
        "peer_comm": "make",
        "peer_exe": "/usr/bin/make",
        "peer_label": "",
        "peer_pid": 4711,
        "peer_sandbox": "none",
        "peer_uid": 1000,
        "peer_unit": "build.service",
        "peer_weak": False,
        "scope": "admin",
        "token_fp": "1f46af82",
        "source": "journal",
        "recorded_by": "copilot-broker.service",
        "vouched": True,
    }


@pytest.mark.parametrize(
    ("writer", "by"),
    [
        ({"_SYSTEMD_USER_UNIT": "evil.service"}, "evil.service"),
        ({"_SYSTEMD_USER_UNIT": None, "_SYSTEMD_UNIT": "session-3.scope"}, "session-3.scope"),
        ({"_SYSTEMD_USER_UNIT": None, "_SYSTEMD_UNIT": "copilot-broker.service"}, None),
        ({"_SYSTEMD_USER_UNIT": ["copilot-broker.service", "x"]}, ""),
        ({"_SYSTEMD_USER_UNIT": None, "SYSTEMD_USER_UNIT": "copilot-broker.service"}, ""),
    ],
)
def test_what_another_unit_wrote_is_marked(env, journal, writer, by):
    journal.has(granted(), granted(**writer), entry("unlocked", **writer))
    ours, *others = objects(run("audit", "--json", env=env))
    assert ours["vouched"] is True
    by = "copilot-broker.service" if by is None else by
    assert [(told["vouched"], told["recorded_by"]) for told in others] == [(False, by)] * 2
    ours, forged, bare = shown(run("audit", env=env))
    words = f"written by {by or 'nobody known'}, not by the broker"
    assert (ours[1], ours[-1]) == ("token granted", "token.get 1f46af82")
    assert (forged[1], forged[-1]) == ("!token granted", f"token.get 1f46af82; {words}")
    assert (bare[1], bare[-1]) == ("!unlocked", words)
    asked_for = next(word for word in journal.asked()[0] if word.startswith("--output-fields="))
    assert {"_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT"} <= set(asked_for.split("=")[1].split(","))


def test_what_the_journal_gives_that_is_no_record_is_passed_over(env, journal):
    odd = {**granted(), "PEER_EXE": [47, 255], "ACCOUNT": None, "MESSAGE_ID": ["a", "b"]}
    journal.has("-- No entries --", "{", "[]", odd, {}, {**granted(), "PEER_EXE": [47, 255]})
    [told] = objects(run("audit", "--json", env=env))
    assert "peer_exe" not in told


def test_nothing_drives_the_terminal(env, journal):
    journal.has(granted(PEER_UNIT="a\x1b[2Jb.service", ACCOUNT="\x9b31m"))
    done = run("audit", env=env)
    assert "\x1b" not in done.stdout
    assert "\x9b" not in done.stdout


def test_units_are_globs_and_n_counts_what_is_shown(env, journal):
    units = ["app-a.scope", "build.service", "app-b.scope", "", "app-c.scope"]
    journal.has(*(granted(NOW + n, PEER_UNIT=unit) for n, unit in enumerate(units)))
    done = run("audit", "--json", "--unit", "app-*", "-n", "2", env=env)
    assert [told["peer_unit"] for told in objects(done)] == ["app-b.scope", "app-c.scope"]
    assert "with the same options: -n 20" in done.stderr
    assert run("audit", "--unit", "app-*", env=env).stderr == ""


def test_bad_words_for_a_time_are_a_usage_error(env, journal):
    journal.has(stderr="Failed to parse timestamp: whenever\n", code=1)
    done = run("audit", "--since", "whenever", env=env)
    assert done.returncode == 2
    assert "Failed to parse timestamp: whenever" in done.stderr
    assert "copilot-cred audit --help" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("-n", "0"),
        ("-n", "-3"),
        ("-n", "many"),
        ("--event", "x"),
        ("--source", "x"),
        ("--denied", "--event", "refreshed"),
    ],
)
def test_bad_arguments_are_usage_errors(env, journal, args):
    assert run("audit", *args, env=env).returncode == 2
    assert not (journal.folder / "argv").exists()


# No journal.

UNREADABLE = "No journal files were opened due to insufficient permissions.\n"


@pytest.mark.parametrize("why", ["absent", "unreadable", "empty", "missing"])
def test_without_a_journal_the_local_log_is_read(env, tmp_path, local, why):
    if why != "missing":
        env["PATH"] += ":/usr/bin:/bin"
        journal = FakeJournal(tmp_path)
        if why == "absent":
            journal.has(stderr="No journal files were found.\n")
        elif why == "unreadable":
            journal.has(stderr=UNREADABLE, code=1)
    write(local, "signed-in", ACCOUNT="work", HOST="github.com", STORE="file")
    [told] = objects(run("audit", "--json", env=env))
    assert (told["event"], told["source"], told["recorded_by"]) == ("signed-in", "file", "")
    assert told["vouched"] is None
    assert told["store"] == "file"


@pytest.mark.parametrize("stderr", [UNREADABLE, "No journal files were found.\n"])
def test_neither_is_an_error_that_says_what_to_do(env, journal, stderr):
    journal.has(stderr=stderr, code=int(stderr == UNREADABLE))
    done = run("audit", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert stderr.strip(".\n").lower() in done.stderr.lower()
    assert re.search(r"hint: .*(systemctl --user start|sudo )", done.stderr)
    for source in ("journal", "file"):
        assert run("audit", "--source", source, env=env).returncode == 1


def test_an_empty_journal_is_no_error(env, journal):
    done = run("audit", env=env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing of that kind" in done.stderr


def test_both_places_are_merged_by_time(env, journal, local):
    journal.has(granted(NOW - 30), granted(NOW - 10))
    for ago in (40, 20, 0):
        write(local, "signed-out", NOW - ago, ACCOUNT="a", HOST="h")
    done = run("audit", "--json", env=env)
    assert [told["source"] for told in objects(done)] == [
        "file", "journal", "file", "journal", "file",
    ]  # fmt: skip
    last = objects(run("audit", "--json", "-n", "2", env=env))
    assert [told["source"] for told in last] == ["journal", "file"]
    for source in ("journal", "file"):
        only = objects(run("audit", "--json", "--source", source, env=env))
        assert {told["source"] for told in only} == {source}


def test_the_local_log_is_filtered_like_the_journal(env, local):
    write(local, "signed-out", NOW - 7200, ACCOUNT="old", HOST="h")
    write(local, "operation-denied", **PEER, OPERATION="token.get", REASON="scope_too_low")
    write(local, "signed-out", ACCOUNT="work", HOST="h")

    def found(*args):
        return [told["event"] for told in objects(run("audit", "--json", *args, env=env))]

    assert len(found()) == 3
    assert found("--since", "-1h") == ["operation-denied", "signed-out"]
    assert found("--since=1h ago", "--account", "work") == ["signed-out"]
    assert found("--denied") == ["operation-denied"]
    assert found("--unit", "buil?.service") == ["operation-denied"]
    assert found("--event", "signed-out", "-n", "1") == ["signed-out"]
    assert run("audit", "--since", "whenever", env=env).returncode == 2


def test_the_file_before_it_is_read_too(env, local):
    for number in range(140):
        write(local, "signed-out", NOW + number, ACCOUNT=str(number), HOST="x" * 8000)
    assert local.path.with_name("audit.jsonl.1").stat().st_size > ROTATE_AT // 2
    told = objects(run("audit", "--json", "-n", "1000", env=env))
    assert [each["account"] for each in told] == [str(number) for number in range(140)]


def test_broken_lines_are_skipped_and_counted(env, local):
    write(local, "signed-out", ACCOUNT="a", HOST="h")
    with local.path.open("ab") as file:
        file.write(b'\n{"ts": "x", "event": "signed-out", "fields": {}}\n[]\n\xff\xfe\n{}\n')
        file.write(b"[" * 100_000 + b'\n{"ts": 1e999}\n{"torn')
    write(local, "signed-out", ACCOUNT="b", HOST="h")
    done = run("audit", "--json", env=env)
    assert [told["account"] for told in objects(done)] == ["a", "b"]
    assert "7 lines" in done.stderr


def test_an_event_of_a_newer_broker_is_no_broken_line(env, local):
    write(local, "something-new", ACCOUNT="a")
    done = run("audit", env=env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "skipped" not in done.stderr


@pytest.mark.parametrize("planted", ["symlink", "fifo", "folder"])
def test_a_planted_log_is_not_read(env, local, tmp_path, planted):
    local.path.parent.mkdir(parents=True)
    if planted == "symlink":
        write(AuditLog(tmp_path / "other"), "signed-out", ACCOUNT="a", HOST="h")
        local.path.symlink_to(tmp_path / "other")
    elif planted == "fifo":
        os.mkfifo(local.path)
    else:
        local.path.mkdir()
    done = run("audit", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"mv {local.path}" in done.stderr


def test_where_the_state_folder_is(env, tmp_path):
    below = "copilot-broker/audit.jsonl"
    assert log_path({"HOME": "/h"}).as_posix() == f"/h/.local/state/{below}"
    assert log_path({"HOME": "/h", "XDG_STATE_HOME": "/s"}).as_posix() == f"/s/{below}"
    assert log_path({"HOME": "/h", "XDG_STATE_HOME": "s"}).as_posix() == f"/h/.local/state/{below}"


# The file that the running broker names.


@pytest.fixture
def elsewhere(env, tmp_path):
    """The log of a broker with another state folder."""
    log = AuditLog(tmp_path / "simulated" / "audit.jsonl")
    write(log, "signed-out", NOW - 10, ACCOUNT="simulated", HOST="h")
    return log


def with_broker(env, file):
    server = WireServer({"broker.status": {"audit": {"file": file}}})
    env["COPILOT_BROKER_SOCKET"] = server.path
    return server


def test_the_file_that_the_broker_names_is_read_too(env, local, elsewhere):
    write(local, "signed-out", NOW - 20, ACCOUNT="mine", HOST="h")
    with with_broker(env, str(elsewhere.path)):
        told = objects(run("audit", "--json", env=env))
        assert [each["account"] for each in told] == ["mine", "simulated"]
        assert run("audit", "--source", "journal", env=env).returncode == 1
    with with_broker(env, str(local.path)):
        assert len(objects(run("audit", "--json", env=env))) == 1, "it is the same"


@pytest.mark.parametrize("file", [None, "", "relative", 7, "/\0", "/nonexistent/audit.jsonl"])
def test_a_broker_that_names_none_changes_nothing(env, local, file):
    write(local, "signed-out", ACCOUNT="mine", HOST="h")
    with with_broker(env, file):
        assert len(objects(run("audit", "--json", env=env))) == 1


@pytest.mark.parametrize("answer", [SILENCE, HANG_UP, {}, {"audit": "x"}])
def test_a_broker_that_does_not_say_is_not_waited_for(env, local, answer):
    write(local, "signed-out", ACCOUNT="mine", HOST="h")
    with WireServer({"broker.status": answer}) as server:
        env["COPILOT_BROKER_SOCKET"] = server.path
        began = time.monotonic()
        assert len(objects(run("audit", "--json", env=env))) == 1
        assert time.monotonic() - began < PATIENCE / 2


def test_a_planted_file_is_not_read_whoever_names_it(env, elsewhere, tmp_path):
    planted = tmp_path / "planted.jsonl"
    planted.symlink_to(elsewhere.path)
    with with_broker(env, str(planted)):
        done = run("audit", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"mv {planted}" in done.stderr


def test_the_file_that_the_broker_names_is_followed(env, following, elsewhere):
    with with_broker(env, str(elsewhere.path)):
        process = following()
        assert json.loads(process.stdout.readline())["account"] == "simulated"
        write(elsewhere, "signed-out", ACCOUNT="later", HOST="h")
        assert json.loads(process.stdout.readline())["account"] == "later"
        end(process)


# Times.

AT = datetime(2026, 11, 21, 14, 30).astimezone().timestamp()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("now", AT),
        ("-1h", AT - 3600),
        ("-1h30min", AT - 5400),
        ("-90", AT - 90),
        ("10 min ago", AT - 600),
        ("2 hours ago", AT - 7200),
        ("1 day 2h ago", AT - 93_600),
        ("1 week ago", AT - 604_800),
        ("today", AT - 14.5 * 3600),
        ("yesterday", AT - 38.5 * 3600),
        ("14:00", AT - 1800),
        ("9:00", AT - 5.5 * 3600),
        ("14:29:59", AT - 1),
        ("2026-11-21", AT - 14.5 * 3600),
        ("2026-11-21 14:30", AT),
        ("2026-11-21 14:30:05", AT + 5),
        ("2026-11-21T14:30", AT),
        ("2027-01-15 08:00:00 UTC", 1_800_000_000.0),
        ("2027-01-15T08:00:00Z", 1_800_000_000.0),
        ("@1800000000", 1_800_000_000.0),
    ],
)
def test_moments(words, expected):
    assert since.moment(words, AT) == pytest.approx(expected)


@pytest.mark.parametrize(
    "words",
    [
        *("", "whenever", "-", "-h", "-1 fortnight", "x ago", " ago", "@x", "25:00", "-1h x"),
        *("2026-13-01", "-" + "9" * 400, "@nan", "@inf", "@" + "9" * 400),
    ],
)
def test_no_moments(words):
    assert since.moment(words, AT) is None


# Following.


def lines_of(process, count):
    return [process.stdout.readline() for _ in range(count)]


@pytest.fixture
def following(env):
    """Starts `copilot-cred audit --follow --json`."""
    argv, pipe = [*COMMAND, "audit", "--follow", "--json"], subprocess.PIPE
    started = []

    def follow(*args):
        process = subprocess.Popen([*argv, *args], env=env, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield follow
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def end(process):
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "")


def test_following_the_journal_goes_on_where_the_list_has_ended(following, journal):
    journal.has(granted(NOW - 60), granted(NOW))
    process = following("--unit", "build.*")
    assert len(lines_of(process, 2)) == 2
    with (journal.folder / "fifo").open("w") as fifo:
        fifo.write(json.dumps(granted(PEER_UNIT="other.service")) + "\n")
        big = granted(TOKEN_FP="0badcafe", PEER_EXE="x" * 200_000)  # comes in several pieces
        fifo.write(json.dumps(big) + "\n")
        fifo.flush()
        assert json.loads(process.stdout.readline())["token_fp"] == "0badcafe"
        end(process)
    _, argv = journal.asked()
    assert {"--follow", "--no-tail", f"--after-cursor=s=1;i={int(NOW)}"} <= set(argv)


def test_following_an_empty_journal_misses_nothing(following, journal):
    process = following()
    with (journal.folder / "fifo").open("w") as fifo:
        fifo.write(json.dumps(granted()) + "\n")
        fifo.flush()
        assert json.loads(process.stdout.readline())["event"] == "token-granted"
        end(process)
    [since_when] = [word for word in journal.asked()[-1] if word.startswith("--since=@")]
    assert NOW < float(since_when.removeprefix("--since=@")) < time.time()


def test_a_journal_that_ends_is_told(following, journal):
    journal.has(granted())
    process = following("--source", "journal")
    lines_of(process, 1)
    with (journal.folder / "fifo").open("w"):
        pass
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert "cannot be followed any more" in err
    assert "copilot-cred audit --follow" in err


def accounts(records):
    return [record.get("ACCOUNT") for record in records]


def test_the_tail_waits_for_the_end_of_a_line(local):
    write(local, "signed-out", ACCOUNT="before", HOST="h")
    tail = Tail(LocalLog(local.path))
    write(local, "signed-out", ACCOUNT="whole", HOST="h")
    line = local.path.read_bytes().splitlines(keepends=True)[-1]
    with local.path.open("ab", buffering=0) as file:
        file.write(line[:30])
        assert accounts(tail.read(Query())) == ["whole"]
        file.write(line[30:])
        assert accounts(tail.read(Query())) == ["whole"]
    assert tail.read(Query()) == []
    tail.close()


def test_the_tail_loses_nothing_while_the_file_is_replaced(local, monkeypatch):
    write(local, "signed-out", ACCOUNT="before", HOST="h")
    tail = Tail(LocalLog(local.path))
    is_replaced = Tail._is_replaced

    def just_now(self):
        monkeypatch.setattr(Tail, "_is_replaced", is_replaced)
        write(local, "signed-out", ACCOUNT="last of the old", HOST="h")
        local.path.rename(local.path.with_name("audit.jsonl.1"))
        write(local, "signed-out", ACCOUNT="first of the new", HOST="h")
        return self._is_replaced()

    monkeypatch.setattr(Tail, "_is_replaced", just_now)
    assert accounts(tail.read(Query())) == ["last of the old", "first of the new"]
    tail.close()


def test_following_the_local_log_through_a_new_file(following, local):
    write(local, "signed-out", ACCOUNT="first", HOST="h")
    process = following()
    assert json.loads(process.stdout.readline())["account"] == "first"
    for number in range(200):
        write(local, "signed-out", ACCOUNT=str(number), HOST="x" * 8000)
    told = [json.loads(line)["account"] for line in lines_of(process, 200)]
    assert told == [str(number) for number in range(200)]
    end(process)


def test_a_local_log_that_comes_later_is_followed(following, journal, local):
    process = following()
    with (journal.folder / "fifo").open("w"):
        write(local, "signed-out", ACCOUNT="late", HOST="h")
        assert json.loads(process.stdout.readline())["account"] == "late"
        end(process)


def test_following_on_a_terminal_has_lines_in_columns_and_ends_quietly(env, local):
    write(
        local, "token-granted", **PEER, OPERATION="token.get", ACCOUNT="work", TOKEN_FP="1f46af82"
    )
    with Terminal("audit", "--follow", env=env) as terminal:
        terminal.wait_for(r"token granted +build +work +token.get 1f46af82")
        write(local, "signed-out", ACCOUNT="work", HOST="github.com")
        terminal.wait_for("signed out +- +work +github.com")
        terminal.press("\x03")
        assert terminal.ends() == 130
    lines = terminal.shown.splitlines()
    assert lines[0].index("account") == lines[1].index("work")
    assert max(map(len, lines)) <= 80
    assert "Traceback" not in terminal.shown


def test_the_table_fits_80_columns_on_a_terminal(env, local):
    long = {**PEER, "PEER_UNIT": "app-org.example.Everything-4711.scope"}
    write(
        local, "token-granted", **long, OPERATION="token.get", ACCOUNT="work", TOKEN_FP="1f46af82"
    )
    write(local, "operation-denied", **long, OPERATION="account.login", REASON="scope_too_low")
    with Terminal("audit", env={**env, "COLUMNS": "80"}) as terminal:
        assert terminal.ends() == 0
    assert max(len(line.rstrip()) for line in terminal.shown.splitlines()) <= 80
    heading, first, second, folded = terminal.shown.splitlines()
    assert heading.split() == ["time", "event", "who", "account", "what"]
    assert first.rstrip().endswith("  app-org.…ng-4711  work     token.get 1f46af82")
    assert "account.login:" in second
    assert folded.split() == ["scope_too_low"]


def test_a_narrow_terminal_still_shows_what_it_was(env, local):
    write(
        local, "token-granted", **PEER, OPERATION="token.get", ACCOUNT="work", TOKEN_FP="1f46af82"
    )
    with Terminal("audit", env={**env, "COLUMNS": "40"}) as terminal:
        assert terminal.ends() == 0
    assert terminal.shown.splitlines()[1].endswith("work     token.get 1f46af82")


def test_more_is_offered_up_to_what_there_may_be(env, local):
    for _ in range(2):
        write(local, "signed-out", ACCOUNT="work", HOST="github.com")
    done = run("audit", "-n", "1", env=env)
    assert done.stderr.endswith("The last 1 are shown. For more, with the same options: -n 10\n")


def test_a_reader_that_has_enough_is_no_error(following, local):
    write(local, "signed-out", ACCOUNT="a", HOST="h")
    process = following()
    process.stdout.readline()
    process.stdout.close()
    for _ in range(2):
        write(local, "signed-out", ACCOUNT="b", HOST="h")
    assert process.wait(PATIENCE) == 141
    assert process.stderr.read() == ""
