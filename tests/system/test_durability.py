"""A login survives what may happen to the daemon, or was never reported as done."""

from __future__ import annotations

import pytest

from brokerd.simulator.world import Fault
from system.github import EXCHANGE, IDENTITY, POLL, GitHub
from system.session import SERVICE, Session, eventually


def is_signed_in(session: Session) -> bool:
    return any(account["state"] != "signed_out" for account in session.status()["accounts"])


def after_kill(session: Session, killed: str) -> None:
    """Wait for the daemon's successor, which the next client starts at the latest."""
    session.run("kill", "-KILL", killed)
    eventually(
        lambda: session.main_pid() not in ("0", killed) or (session.cred("status") and False)
    )
    eventually(lambda: session.show("ActiveState") == "active")


# Each a moment between poll answer and first exchange: GitHub has answered the request before
# (so the grant is spent), the answer to this one is on its way.
MOMENTS = {
    "before the poll's answer arrives": (POLL, 3.0),
    "while asking who it is": (IDENTITY, 3.0),
    "while the login is being saved": (IDENTITY, 0.0),
    "while exchanging": (EXCHANGE, 3.0),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_during_a_login_loses_nothing_that_was_reported(
    session: Session, github: GitHub, moment: str
) -> None:
    path, delay = MOMENTS[moment]
    session.systemctl("start", "copilot-broker")
    github.world.queue_faults(path, [Fault(delay=delay)])
    login = session.spawn(f"{session.home}/.local/bin/copilot-cred", "login")
    eventually(lambda: github.asked(path))
    after_kill(session, session.main_pid())
    _, shown = login.communicate(timeout=60)
    reported = login.returncode == 0
    there = is_signed_in(session)
    assert there or not reported, shown
    if path == EXCHANGE:
        assert there, "saved before its first use"
    if there:
        assert session.cred("get").stdout.startswith("tid=")
    else:
        assert session.cred("get").returncode == 4
        assert session.cred("login").returncode == 0, "a second try is not in the way of the first"


def test_kill_9_of_a_signed_in_daemon_is_a_pause(signed_in: Session) -> None:
    after_kill(signed_in, signed_in.main_pid())
    assert signed_in.cred("get").stdout.startswith("tid=")
    assert signed_in.show("NRestarts") != ""


def test_logout_is_for_good(signed_in: Session) -> None:
    assert signed_in.cred("logout").returncode == 0
    assert signed_in.cred("get").returncode == 4
    signed_in.systemctl("restart", SERVICE)
    assert signed_in.cred("get").returncode == 4
    left = signed_in.run("grep", "-rlE", "gh[oup]_", ".local/state")
    assert left.stdout == ""
