"""The service manager's protocol against the real libsystemd, with a socket of ours as manager."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from brokerd.host.clock import SystemClock
from brokerd.host.service_manager import STATUS_MAX, ServiceManager


@pytest.fixture(autouse=True)
def nobody_manages_us(monkeypatch):
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manager_end(tmp_path, monkeypatch):
    pytest.importorskip("systemd.daemon")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield end


def heard(end: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in end.recv(4096).decode().splitlines())


def test_without_a_manager_all_is_silent():
    manager = ServiceManager()
    assert not manager.present
    manager.ready("x")
    manager.status("x")
    manager.reloading()
    manager.stopping()
    manager.ping()
    assert manager.watchdog_interval is None
    assert manager.adopted_sockets() == {}


def test_without_a_manager_systemd_is_not_imported():
    program = (
        "import sys; from brokerd.host.service_manager import ServiceManager;"
        "ServiceManager().ready('x'); print([m for m in sys.modules if 'systemd' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"


def test_what_the_manager_hears(manager_end):
    manager = ServiceManager()
    assert manager.present
    manager.ready("signed out: run copilot-cred login")
    assert heard(manager_end) == {
        "READY": "1",
        "STATUS": "signed out: run copilot-cred login",
    }
    manager.ping()
    assert heard(manager_end) == {"WATCHDOG": "1"}
    manager.reloading()
    told = heard(manager_end)
    assert told["RELOADING"] == "1"
    assert abs(int(told["MONOTONIC_USEC"]) / 1e6 - SystemClock().monotonic()) < 60
    manager.stopping()
    assert heard(manager_end) == {"STOPPING": "1", "STATUS": "stopping"}


def test_a_status_is_one_line_and_told_once(manager_end):
    manager = ServiceManager()
    manager.status("a\nREADY=1\tb")
    assert heard(manager_end) == {"STATUS": "a READY=1 b"}
    manager.status("a READY=1 b")
    manager.status("x" * 1000)
    assert heard(manager_end) == {"STATUS": "x" * STATUS_MAX}


def test_a_manager_that_went_away_stops_nothing(manager_end):
    manager = ServiceManager()
    manager_end.close()
    manager.ready("x")
    manager.ping()


def test_the_watchdog_interval_is_half_of_what_is_allowed(manager_end, monkeypatch):
    manager = ServiceManager()
    assert manager.watchdog_interval is None
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert manager.watchdog_interval == 30.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert manager.watchdog_interval == 30.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert manager.watchdog_interval is None
    monkeypatch.setenv("WATCHDOG_PID", "")
    for nonsense in ("x", "0", "-5", ""):
        monkeypatch.setenv("WATCHDOG_USEC", nonsense)
        assert manager.watchdog_interval is None


def test_systemd_python_missing_is_told_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)  # import raises ImportError
    with caplog.at_level(logging.WARNING):
        manager = ServiceManager()
        manager.ready("x")
        assert manager.adopted_sockets() == {}
    assert len(caplog.records) == 1
    assert "install python3-systemd" in caplog.text


ADOPTER = textwrap.dedent(
    """
    import json, logging, os, socket, subprocess, sys
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    from brokerd.host.peers.descriptors import SO_PASSRIGHTS
    from brokerd.host.service_manager import ServiceManager
    def takes_descriptors(sock):
        try:
            return sock.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS)
        except OSError:
            return 0  # before Linux 6.16: nobody can say no
    manager = ServiceManager()
    adopted = manager.adopted_sockets()
    left = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    print(json.dumps({
        "sockets": {name: sock.getsockname() for name, sock in adopted.items()},
        "blocking": [sock.getblocking() for sock in adopted.values()],
        "inheritable": [sock.get_inheritable() for sock in adopted.values()],
        "takes_descriptors": [takes_descriptors(sock) for sock in adopted.values()],
        "again": list(manager.adopted_sockets()),
        "left": [line for line in left.splitlines() if line.startswith("LISTEN_")],
        "python": [name for name in os.environ if name.startswith("LISTEN_")],
    }))
    """
)


def adopt(*socks: socket.socket, names: str, pid: str = "$$") -> tuple[dict, str]:
    """Start a process as systemd does: descriptors from 3 on, LISTEN_PID its own."""
    fds = [os.dup(sock.fileno()) for sock in socks]
    moves = "; ".join(f"exec {3 + i}<&{fd}" for i, fd in enumerate(fds))
    # The duplicates are above the range they move to, so no move overwrites a later source.
    assert min(fds, default=100) >= 3 + len(fds)
    script = f'{moves}; LISTEN_PID={pid} exec "$@"' if moves else 'exec "$@"'
    try:
        done = subprocess.run(
            ["/bin/bash", "-c", script, "sh", sys.executable, "-c", ADOPTER],
            env={**os.environ, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names},
            pass_fds=fds,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    finally:
        for fd in fds:
            os.close(fd)
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def listening(tmp_path):
    pytest.importorskip("systemd.daemon")
    socks = []
    for name in ("rpc", "http", "again"):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / name))
        sock.listen()
        socks.append(sock)
    yield socks
    for sock in socks:
        sock.close()


def test_sockets_are_adopted_by_name(listening, tmp_path):
    told, warned = adopt(*listening[:2], names="http:rpc")
    assert told == {
        "sockets": {"http": str(tmp_path / "rpc"), "rpc": str(tmp_path / "http")},
        "blocking": [False, False],
        "inheritable": [False, False],
        "takes_descriptors": [0, 0],
        "again": [],
        "left": [],
        "python": [],
    }
    assert warned == ""


def test_what_is_no_listening_unix_socket_is_dropped(listening, tmp_path):
    with socket.socket(socket.AF_UNIX) as deaf, socket.create_server(("127.0.0.1", 0)) as tcp:
        told, warned = adopt(listening[0], deaf, tcp, listening[1], names="rpc:deaf:tcp:rpc")
    assert told["sockets"] == {"rpc": str(tmp_path / "rpc")}
    assert warned.count("adopted descriptor is of no use") == 3


def test_further_names_are_kept(listening, tmp_path):
    told, warned = adopt(*listening, names=f"rpc:sandbox-2:{'a' * 64}")
    assert told["sockets"] == {
        "rpc": str(tmp_path / "rpc"),
        "sandbox-2": str(tmp_path / "http"),
        "a" * 64: str(tmp_path / "again"),
    }
    assert warned == ""


@pytest.mark.parametrize(
    "name", ["Sandbox", "a.b", "copilot-broker@x.socket", "a" * 65, "", "a b", "ä"]
)
def test_other_names_are_refused(listening, tmp_path, name):
    told, warned = adopt(*listening[:2], names=f"{name}:rpc")
    assert told["sockets"] == {"rpc": str(tmp_path / "http")}
    assert warned.count("adopted descriptor is of no use") == 1


def test_sockets_meant_for_another_process_are_not_taken(listening):
    told, _ = adopt(listening[0], names="rpc", pid="1")
    assert told["sockets"] == {}


async def test_the_clocks():
    clock = SystemClock()
    earlier = clock.monotonic()
    assert clock.boottime() >= earlier  # they differ by the time spent in suspend
    assert clock.wall() > 1.6e9
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() >= before + 0.001
