"""The audit log under a real user manager: each thing that happens is in the journal, once.

And `copilot-cred audit` finds it there, or in the broker's own file where there is no journal.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from brokerd.core.audit import BY_MESSAGE_ID, EVENTS, PEER_FIELDS, flaws
from brokerd.simulator.world import Fault
from system.github import EXCHANGE
from system.scripted import CONFIG, good
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.github import GitHub
    from system.session import Session


STATE = ".local/state/copilot-broker"
ONLY_COMPLETIONS = '[[grant]]\nlistener = "rpc"\nscope = "complete"\n'
TOKEN_FP = re.compile(r"[0-9a-f]{8}")

WITHOUT_A_JOURNAL = """
systemctl --user stop copilot-broker.service copilot-broker.socket copilot-broker-http.socket
echo $$ > "$HOME/pid"
exec "$HOME/.local/bin/copilot-brokerd" 2>"$HOME/stderr" </dev/null
"""
"""As from a terminal, or a manager of another kind; stderr is a file."""

FOLLOW = 'echo $$; exec "$HOME/.local/bin/copilot-cred" audit --follow --json "$@"'


class Audit:
    """The audit log since a moment, by the installed command."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.since = f"--since=@{time.time():.6f}"

    def __call__(self, *arguments: str) -> list[dict[str, Any]]:
        self.session.run("journalctl", "--sync", root=True)
        done = self.session.cred("audit", "--json", self.since, "-n", "1000", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def until(self, event: str, *arguments: str) -> list[dict[str, Any]]:
        """All of it, once there is one of that event."""

        def found() -> list[dict[str, Any]]:
            records = self(*arguments)
            return records if event in names(records) else []

        return list(eventually(found))


def names(records: list[dict[str, Any]]) -> list[str]:
    return [record["event"] for record in records]


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["event"] == event]


def configure(session: Session, more: str) -> None:
    """Add to the configuration and start anew."""
    session.write(CONFIG, session.good("cat", CONFIG) + more)
    session.systemctl("restart", SERVICE)


@pytest.fixture
def audit(session: Session) -> Audit:
    return Audit(session)


def test_each_thing_that_happens_is_one_record(
    session: Session, github: GitHub, audit: Audit
) -> None:
    session.systemctl("start", "copilot-broker.socket")
    good(session, "login")
    good(session, "get")
    token_id = session.status()["accounts"][0]["token_id"]
    found = audit.until("token-total")
    assert {name: names(found).count(name) for name in set(names(found))} == {
        **dict.fromkeys(("prompted", "prompt-ended", "refreshed", "signed-in"), 1),
        **dict.fromkeys(("operation-granted", "token-granted", "token-total"), 1),
        **dict.fromkeys({"confined"} & set(names(found)), 1),
    }
    [prompted], [ended] = of(found, "prompted"), of(found, "prompt-ended")
    assert (prompted["account"], ended["account"], ended["result"]) == (
        "default",
        "default",
        "approved",
    )
    [refreshed] = of(found, "refreshed")
    [granted], [total] = of(found, "token-granted"), of(found, "token-total")
    assert refreshed["token_fp"] == granted["token_fp"] == total["token_fp"] == token_id
    assert TOKEN_FP.fullmatch(token_id)
    assert refreshed["mode"] == "exchange"
    assert 0 < refreshed["latency_usec"] < 20_000_000
    assert (granted["operation"], granted["listener"], total["count"]) == ("token.get", "rpc", 1)
    assert (granted["peer_uid"], granted["peer_pid"] > 0) == (session.uid, True)
    assert of(found, "operation-granted")[0]["operation"] == "account.login"
    assert of(found, "signed-in")[0]["store"] == "file"
    assert {record["recorded_by"] for record in found} == {SERVICE}
    assert {record["source"] for record in found} == {"journal"}

    audit = Audit(session)
    asked = github.asked(EXCHANGE)
    github.world.queue_faults(EXCHANGE, [Fault(status=500)])
    assert session.cred("refresh").returncode == 7
    eventually(lambda: github.asked(EXCHANGE) >= asked + 2)  # by itself, soon after
    found = audit.until("refreshed")
    assert len(of(found, "refresh-failed")) == len(of(found, "refreshed")) == 1
    assert of(found, "refresh-failed")[0]["error_code"]

    audit = Audit(session)
    good(session, "logout")
    found = audit.until("signed-out")
    assert names(found) == ["operation-granted", "signed-out"]
    assert found[1]["host"] == "github.com"


def test_a_denial_is_one_record_at_any_level_of_the_log(signed_in: Session) -> None:
    at_debug = signed_in.good("cat", CONFIG)
    signed_in.write(CONFIG, at_debug.replace('"debug"', '"error"'))
    configure(signed_in, ONLY_COMPLETIONS)
    audit = Audit(signed_in)
    assert signed_in.cred("get").returncode == 5
    found = audit.until("operation-denied", "--denied")
    assert names(found) == ["operation-denied"]
    [denied] = found
    assert (denied["operation"], denied["reason"]) == ("token.get", "scope_too_low")
    assert (denied["scope"], denied["peer_uid"]) == ("complete", signed_in.uid)
    table = signed_in.cred("audit", audit.since, "--denied").stdout
    assert re.search(r"denied .*token\.get: scope_too_low", table)


def test_the_records_in_the_journal_have_the_fields_that_are_promised(
    signed_in: Session,
) -> None:
    good(signed_in, "get")
    wanted = {*PEER_FIELDS, *(name for event in EVENTS for name in event.fields), "MESSAGE_ID"}

    def records() -> list[dict[str, Any]]:
        found = [each for each in signed_in.journal() if each.get("MESSAGE_ID") in BY_MESSAGE_ID]
        return found if any(each["MESSAGE"] == "token lent" for each in found) else []

    for record in eventually(records):
        fields = {name: value for name, value in record.items() if name in wanted}
        assert flaws(record["MESSAGE"], fields) == []


def test_filters_and_the_table(signed_in: Session) -> None:
    good(signed_in, "login", "--account", "work")
    audit = Audit(signed_in)
    good(signed_in, "get", "--account", "work")
    good(signed_in, "get")
    eventually(lambda: len(audit("--event", "token-total")) == 2)
    assert {record["account"] for record in audit("--account", "work")} == {"work"}
    units = {record.get("peer_unit", "") for record in audit("--event", "token-granted")}
    assert audit("--unit", "no-such-*") == []
    if all(units):
        assert len(audit("--event", "token-granted", "--unit", "*")) == 2
    done = signed_in.cred("audit", audit.since, "--event", "token-granted", "--event", "refreshed")
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["time", "event", "who", "account", "what"]
    assert len(rows) == 2
    assert max(map(len, rows)) <= 80
    assert len(signed_in.cred("audit", "-n", "3").stdout.splitlines()) == 4


@contextlib.contextmanager
def following(session: Session, *arguments: str) -> Iterator[TextIO]:
    """Yield what it prints; Ctrl-C ends it, without a word."""
    follower = session.spawn("sh", "-c", FOLLOW, "_", *arguments)
    assert follower.stdout is not None
    pid = follower.stdout.readline().strip()
    try:
        yield follower.stdout
    finally:
        session.run("kill", "-INT", pid)
        _, err = follower.communicate(timeout=30)
    assert (follower.returncode, err) == (130, "")
    assert session.run("pgrep", "-x", "journalctl").stdout == "", "nothing is left running"


def test_follow_sees_what_comes(signed_in: Session) -> None:
    audit = Audit(signed_in)
    with following(signed_in, audit.since, "--event", "signed-out") as told:
        good(signed_in, "logout")
        record = json.loads(told.readline())
        assert (record["event"], record["account"]) == ("signed-out", "default")
        good(signed_in, "login")
        good(signed_in, "logout")
        assert json.loads(told.readline())["source"] == "journal"


@contextlib.contextmanager
def without_a_journal(session: Session) -> Iterator[None]:
    session.good("rm", "-f", "stderr", "pid")  # of the one before
    daemon = session.spawn("sh", "-c", WITHOUT_A_JOURNAL)
    try:
        eventually(lambda: " ready " in session.run("cat", "stderr").stdout)
        yield
    finally:
        session.run("kill", session.good("cat", "pid").strip())
        daemon.communicate(timeout=30)


def test_without_a_journal_it_is_in_a_file_of_the_brokers_own(session: Session) -> None:
    with without_a_journal(session):
        audit = Audit(session)
        good(session, "login")
        good(session, "get")
        found = audit.until("token-total")
        assert {record["source"] for record in found} == {"file"}
        assert {"prompted", "refreshed", "signed-in", "token-granted"} <= set(names(found))
        kept = session.good("cat", f"{STATE}/audit.jsonl")
        assert session.good("stat", "--format=%a", f"{STATE}/audit.jsonl").strip() == "600"
        assert not any(secret in kept for secret in ("tid=", "gho_", "ghu_"))
        with following(session, audit.since, "--event", "signed-out") as told:
            good(session, "logout")
            assert json.loads(told.readline())["source"] == "file"


def test_without_journalctl_the_file_is_enough(session: Session) -> None:
    with without_a_journal(session):
        good(session, "login")
        bare = ("env", "PATH=/nonexistent", f"{session.home}/.local/bin/copilot-cred", "audit")
        done = session.run(*bare)
        assert "signed in" in done.stdout, done.stderr
