"""A simulated broker keeps its audit log apart; whoever looks finds it all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from system.scripted import good
from system.session import SERVICE, SOCKETS, eventually
from system.test_audit import Audit


if TYPE_CHECKING:
    from system.session import Session


WITHOUT_A_JOURNAL = """
echo $$ > "$HOME/pid"
exec "$HOME/.local/bin/copilot-brokerd" --simulate auto 2>"$HOME/stderr" </dev/null
"""
"""As from a terminal."""


def test_the_log_of_a_simulated_broker_is_found_while_it_runs(session: Session) -> None:
    session.systemctl("stop", SERVICE, *SOCKETS)
    session.good("rm", "-f", "stderr", "pid")  # of the one before
    daemon = session.spawn("sh", "-c", WITHOUT_A_JOURNAL)
    try:
        eventually(lambda: " ready " in session.run("cat", "stderr").stdout)
        audit = Audit(session)
        good(session, "login")
        file = session.status()["audit"]["file"]
        assert file.endswith("/copilot-broker-simulated/audit.jsonl")
        found = audit.until("signed-in")
        assert {(record["source"], record["vouched"]) for record in found} == {("file", None)}
        good(session, "logout")
    finally:
        session.run("kill", session.good("cat", "pid").strip())
        daemon.communicate(timeout=30)
    assert audit() == [], "nobody says where it is"
    session.good("rm", "-r", ".local/state/copilot-broker-simulated")
