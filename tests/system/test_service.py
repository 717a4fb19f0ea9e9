"""The service as the user manager sees it: start, activation, restart, watchdog, reload."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from brokerd.simulator.world import Fault
from system.github import EXCHANGE
from system.http_door import WAYS, Asked, ask_all, code_of
from system.session import SERVICE, SOCKETS, Session, eventually


if TYPE_CHECKING:
    from system.github import GitHub

# Starts N `copilot-cred get` at once, says so on stdout, then prints [[exit code, stdout, stderr]…].
MANY_GETS = """
import json, subprocess, sys
cred, count = sys.argv[1], int(sys.argv[2])
pipe = subprocess.PIPE
all = [subprocess.Popen([cred, "get"], stdout=pipe, stderr=pipe, text=True) for _ in range(count)]
print("started", flush=True)
done = [(each.communicate(), each) for each in all]
print(json.dumps([[each.returncode, out, err] for (out, err), each in done]))
"""

# Prints the seconds that the fastest of five `copilot-cred get` took, and all their exit codes.
TIMED_GET = """
import json, subprocess, sys, time
def once():
    begin = time.monotonic()
    done = subprocess.run([sys.argv[1], "get"], capture_output=True)
    return time.monotonic() - begin, done.returncode
all = [once() for _ in range(5)]
print(json.dumps([min(all)[0], [code for _, code in all]]))
"""


def inodes(session: Session) -> str:
    return session.good("stat", "--format=%i", session.rpc, session.http)


def adopted(session: Session) -> list[str]:
    """The kernel's names of the two listening sockets the daemon was handed."""
    pid = session.main_pid()
    links = session.good("readlink", f"/proc/{pid}/fd/3", f"/proc/{pid}/fd/4", root=True)
    return sorted(links.split())


def test_cold_start_signed_out_is_active_and_says_so(session: Session) -> None:
    session.systemctl("start", "copilot-broker")
    assert session.show("ActiveState") == "active"
    status = session.show("StatusText")
    assert "signed out" in status
    assert "copilot-cred login" in status
    assert "signed out" in session.good("systemctl", "--user", "status", "copilot-broker")


def test_the_kernels_word_of_a_resume_is_within_the_units_bounds(session: Session) -> None:
    session.systemctl("start", SERVICE)
    assert not [line for line in session.journal() if "noticed late" in line["MESSAGE"]]


def test_first_get_starts_the_daemon_and_exits_4(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    assert session.show("ActiveState") == "inactive"
    for unit in SOCKETS:
        assert session.show("ActiveState", unit) == "active"
    first = session.cred("get")
    assert (first.returncode, first.stdout) == (4, "")
    assert "copilot-cred login" in first.stderr
    assert session.show("ActiveState") == "active"
    fastest, codes = json.loads(
        session.script(TIMED_GET, f"{session.home}/.local/bin/copilot-cred")
    )
    assert codes == [4] * 5
    assert fastest < 0.5, "Python's own start included"


def test_without_a_daemon_get_names_the_command_that_starts_it(session: Session) -> None:
    done = session.cred("get")
    assert (done.returncode, done.stdout) == (3, "")
    assert "systemctl --user start copilot-broker.socket" in done.stderr


def test_without_a_runtime_directory_get_says_so_in_one_line(session: Session) -> None:
    cred = f"{session.home}/.local/bin/copilot-cred"
    unset = ["env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS"]
    session.systemctl("start", "copilot-broker.socket")
    assert session.run(*unset, cred, "get").returncode == 4, "/run/user/UID is ours: used"
    elsewhere = session.run("env", "XDG_RUNTIME_DIR=/nonexistent", cred, "get")
    assert elsewhere.returncode == 3
    assert len(elsewhere.stderr.strip().splitlines()) <= 2


def test_sockets_are_for_the_user_alone(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    modes = session.good(
        "stat", "--format=%a %U", f"{session.runtime}/copilot-broker", session.rpc, session.http
    )
    assert modes.splitlines() == ["700 cb-test", "600 cb-test", "600 cb-test"]


def test_stopping_the_sockets_removes_their_files(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    session.systemctl("stop", *SOCKETS)
    assert session.run("test", "-e", session.rpc).returncode != 0


def test_the_http_door_says_how_it_is_and_in_whose_words_why_not(session: Session) -> None:
    session.systemctl("start", "copilot-broker.socket")
    healthy, *refused = ask_all(
        session, [Asked("/healthz"), *(way.asked(stream=True) for way in WAYS.values())]
    )
    assert (healthy.status, healthy.json["code"]) == (503, "no_account")
    for way, answer in zip(WAYS.values(), refused, strict=True):
        assert (answer.status, code_of(answer, way.dialect)) == (403, "login_required")
        assert "copilot-cred login" in answer.json["error"]["message"]


def test_restart_under_50_waiting_clients_refuses_none(signed_in: Session, github: GitHub) -> None:
    session = signed_in
    cred = f"{session.home}/.local/bin/copilot-cred"
    before, adopted_before = inodes(session), adopted(session)
    assert all(name.startswith("socket:") for name in adopted_before)
    session.systemctl("stop", SERVICE)
    asked = github.asked(EXCHANGE)
    # the clients wait for this exchange, the restart meets them waiting
    github.world.queue_faults(EXCHANGE, [Fault(delay=1.5)])
    clients = session.spawn("/usr/bin/python3", "-c", MANY_GETS, cred, "50")
    assert clients.stdout is not None
    assert clients.stdout.readline() == "started\n"
    eventually(lambda: github.asked(EXCHANGE) > asked)
    session.systemctl("restart", SERVICE)
    late = session.spawn("/usr/bin/python3", "-c", MANY_GETS, cred, "10")
    for waiting in (clients, late):
        out, err = waiting.communicate(timeout=60)
        results = json.loads(out.splitlines()[-1])
        assert [each for each in results if each[0] != 0] == [], err
        assert all(each[1].startswith("tid=") for each in results)
    assert inodes(session) == before
    assert adopted(session) == adopted_before


def test_blocked_event_loop_is_restarted_by_the_watchdog(signed_in: Session) -> None:
    session = signed_in
    session.write(f".config/systemd/user/{SERVICE}.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    session.systemctl("daemon-reload")
    session.systemctl("restart", SERVICE)
    blocked = session.main_pid()
    session.good("kill", "-STOP", blocked)
    eventually(lambda: session.main_pid() not in ("0", blocked))
    eventually(lambda: session.show("ActiveState") == "active")
    assert session.show("NRestarts") == "1"
    assert any("watchdog" in str(line["MESSAGE"]).lower() for line in session.journal())
    assert session.cred("get").returncode == 0


def test_idle_daemon_keeps_its_watchdog_fed(session: Session) -> None:
    session.write(f".config/systemd/user/{SERVICE}.d/watchdog.conf", "[Service]\nWatchdogSec=1\n")
    session.systemctl("daemon-reload")
    session.systemctl("start", SERVICE)
    pid = session.main_pid()
    fed = int(session.show("WatchdogTimestampMonotonic"))
    eventually(lambda: int(session.show("WatchdogTimestampMonotonic")) > fed + 3_000_000)
    assert session.main_pid() == pid


def test_status_counts_the_minutes_down(session: Session, github: GitHub) -> None:
    github.forget(token_lifetime=62, refresh_in=60)
    session.write(f".config/systemd/user/{SERVICE}.d/watchdog.conf", "[Service]\nWatchdogSec=1\n")
    session.systemctl("daemon-reload")
    session.systemctl("start", SERVICE)
    assert session.cred("login").returncode == 0
    eventually(lambda: "token valid 1 min" in session.show("StatusText"))
    before = github.asked(EXCHANGE)
    eventually(lambda: "token valid 0 min" in session.show("StatusText"))
    assert github.asked(EXCHANGE) == before  # nothing had happened but time


def test_reload_takes_a_good_configuration_and_keeps_the_old_for_a_bad(signed_in: Session) -> None:
    session = signed_in
    path = ".config/copilot-broker/config.toml"
    good = session.good("cat", path)
    line = len(good.splitlines()) + 1
    pid = session.main_pid()

    session.write(path, good + "nonsense = 1\n")
    session.systemctl("reload", "copilot-broker")
    eventually(lambda: f"line {line}" in session.show("StatusText"))
    assert session.cred("get").returncode == 0
    assert any(f"line {line}" in json.dumps(entry) for entry in session.journal())

    session.write(path, good.replace('"debug"', '"info"'))
    session.systemctl("reload", "copilot-broker")
    eventually(lambda: "not reloaded" not in session.show("StatusText"))
    assert any(entry["MESSAGE"] == "configuration reloaded" for entry in session.journal())
    assert session.main_pid() == pid
    assert session.show("ActiveState") == "active"


def test_a_client_that_hangs_does_not_hold_up_a_stop(signed_in: Session) -> None:
    session = signed_in
    watching = session.spawn(f"{session.home}/.local/bin/copilot-cred", "watch", "--json")
    assert watching.stdout is not None
    assert watching.stdout.readline()
    begin = time.monotonic()
    session.systemctl("stop", SERVICE)
    assert time.monotonic() - begin < 15
    assert session.show("Result") == "success"
    watching.communicate(timeout=30)


def test_journal_has_fields(signed_in: Session) -> None:
    assert signed_in.cred("get").returncode == 0
    entries = signed_in.journal()
    ours = [entry for entry in entries if entry.get("SYSLOG_IDENTIFIER") == "copilot-brokerd"]
    assert any(entry["MESSAGE"] == "ready" and "SUMMARY" in entry for entry in ours)
    granted = [entry for entry in ours if "TOKEN_FP" in entry]
    assert granted, "no entry names a token by its fingerprint"
