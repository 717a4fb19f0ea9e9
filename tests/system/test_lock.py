"""Locking, unlocking and dropping tokens, through the installed commands (P18, P36)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from system.github import EXCHANGE
from system.scripted import account, error_of, good, refused
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.github import GitHub
    from system.session import Session


PASSPHRASE = "correct horse battery staple"
TRIES = 6
"""Wrong passphrases: the last one is answered after ten seconds."""


@pytest.fixture
def since() -> str:
    """What `journal` is asked with for the records of this test."""
    return f"--since=@{time.time():.6f}"


@pytest.fixture
def locked(signed_in: Session) -> Iterator[Session]:
    """Signed in, a token at hand, and locked with the passphrase."""
    good(signed_in, "get")
    good(signed_in, "lock", "--passphrase", stdin=f"{PASSPHRASE}\n")
    yield signed_in
    signed_in.systemctl("stop", SERVICE)


def token_of(session: Session) -> dict[str, Any]:
    return dict(json.loads(good(session, "get", "--format", "json")))


def told(session: Session, since: str, message: str, *fields: str) -> list[tuple[str, ...]]:
    """The fields of the records with that message, in order."""
    found = [each for each in session.journal(since) if each["MESSAGE"] == message]
    assert all("MESSAGE_ID" in each for each in found)
    return [tuple(each[name] for name in fields) for each in found]


def test_a_locked_broker_gives_no_program_anything(locked: Session, github: GitHub) -> None:
    asked = len(github.world.requests)
    for arguments in (
        ("get",),
        ("get", "--account", "another"),
        ("refresh",),
        ("models",),
        ("quota",),
        ("chat", "hello"),
        ("login", "--account", "new"),
        ("logout", "--revoke"),
    ):
        error = refused(locked, *arguments)
        assert (error["class"], error["code"]) == (6, "broker_locked"), arguments
        assert error["hint"].endswith("copilot-cred unlock")
    assert len(github.world.requests) == asked, "GitHub is not asked"


def test_it_is_seen_to_be_locked_and_to_hold_no_token(locked: Session) -> None:
    status = locked.status()
    assert status["locked"] is True
    assert status["summary"] == "locked: run copilot-cred unlock"
    shown = account(locked)
    assert (shown["token_id"], shown["expires_in"], shown["refresh_in"]) == (None, None, None)
    assert shown["error"]["code"] == "broker_locked"
    assert "locked" in good(locked, "status")
    assert locked.show("StatusText").startswith("locked: run copilot-cred unlock")
    checks = json.loads(locked.cred("doctor", "--json").stdout)["checks"]
    (check,) = [each for each in checks if each["name"] == "lock"]
    assert check["mend"].endswith("copilot-cred unlock")
    assert json.loads(good(locked, "grants", "--json"))


def test_a_wrong_passphrase_slows_nobody_else(locked: Session, since: str) -> None:
    cred = f"{locked.home}/.local/bin/copilot-cred"
    loop = f"for i in $(seq {TRIES}); do echo wrong | {cred} unlock & done; wait"
    guessing = locked.spawn("sh", "-c", loop)
    eventually(lambda: told(locked, since, "unlocked", "RESULT") == [("wrong",)] * TRIES)
    assert refused(locked, "get")["code"] == "broker_locked"
    assert locked.status()["locked"] is True
    good(locked, "unlock", stdin=PASSPHRASE)
    assert token_of(locked)["token"]
    assert guessing.poll() is None, "the last one still waits for its answer"
    _, said = guessing.communicate(timeout=30)
    assert said.count("this is not the passphrase") == TRIES


def test_a_wrong_passphrase_is_denied(locked: Session) -> None:
    done = locked.cred("--error-format", "json", "unlock", stdin="wrong")
    assert (done.returncode, error_of(done)["code"]) == (5, "wrong_passphrase")
    done = locked.cred("--error-format", "json", "unlock", stdin="")
    assert (done.returncode, error_of(done)["code"]) == (2, "bad_passphrase")
    assert locked.status()["locked"] is True


def test_after_the_lock_the_login_is_read_again(
    signed_in: Session, github: GitHub, since: str
) -> None:
    before = token_of(signed_in)
    exchanges = github.asked(EXCHANGE)
    good(signed_in, "lock")
    good(signed_in, "lock")
    good(signed_in, "unlock")
    good(signed_in, "unlock")
    after = token_of(signed_in)
    assert after["token_id"] != before["token_id"]
    assert github.asked(EXCHANGE) == exchanges + 1
    assert signed_in.status()["locked"] is False
    assert told(signed_in, since, "locked", "REASON") == [("requested",)]
    assert told(signed_in, since, "unlocked", "RESULT") == [("unlocked",)]
    assert told(signed_in, since, "all tokens dropped", "REASON", "COUNT") == [("locked", "1")]
    shown = good(signed_in, "audit", "--json", "--event", "locked", "-n", "1")
    assert json.loads(shown)["event"] == "locked"


def test_a_restart_ends_the_lock(locked: Session) -> None:
    locked.systemctl("restart", SERVICE)
    assert token_of(locked)["token"]


def test_usr1_drops_all_tokens(signed_in: Session, github: GitHub, since: str) -> None:
    before, pid = token_of(signed_in), signed_in.main_pid()
    exchanges = github.asked(EXCHANGE)
    signed_in.systemctl("kill", "--signal", "USR1", SERVICE)
    eventually(lambda: told(signed_in, since, "all tokens dropped", "REASON", "COUNT"))
    after = token_of(signed_in)
    assert after["token_id"] != before["token_id"]
    assert after["token"] != before["token"]
    assert github.asked(EXCHANGE) == exchanges + 1
    assert signed_in.main_pid() == pid
    dropped = told(signed_in, since, "all tokens dropped", "REASON", "COUNT")
    assert dropped == [("signal", "1")]
    assert signed_in.status()["locked"] is False
