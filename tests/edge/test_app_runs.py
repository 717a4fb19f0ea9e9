"""Runs: served while the process lives, gone with it, and taken up by the next daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from brokerd.app import runs as runs_module
from brokerd.app.runs import Runs
from brokerd.core.audit import BY_MESSAGE_ID
from brokerd.core.loopback import host_and_port
from brokerd.core.passing import RUNS_MAX, Passing
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.gate import Gate
from brokerd.host.peers.peercred import peer_by_pid
from brokerd.host.tcp_listener import bind_run
from brokerd.stores import private_files
from brokerd.stores.runs import RunFile
from fakes.key_store import FakeKeyStore


WAITS = [sys.executable, "-c", "input()"]
FULL = Failure(ErrorClass.TEMPORARY, "store_io_failed", "no space left")
AIDER = Passing("aider", models=("gpt-*",))


class FakeHttp:
    """Says which sockets are served."""

    def __init__(self) -> None:
        self.served: set[socket.socket] = set()

    async def serve_run(self, sock: socket.socket) -> None:
        self.served.add(sock)

    def end_run(self, sock: socket.socket) -> None:
        self.served.remove(sock)


class Bench:
    """One daemon's runs; `file` is shared with the next one's."""

    def __init__(self, file: RunFile) -> None:
        self.gate = Gate(keys=FakeKeyStore())
        self.http = FakeHttp()
        self.runs = Runs(self.gate, self.http, file)

    async def lease(self, pid: int, wanted: Passing = AIDER):
        caller = self.gate.admit(peer_by_pid(pid), "rpc")
        try:
            return await self.runs.lease(caller, wanted)
        finally:
            caller.close()

    async def until_gone(self) -> None:
        async with asyncio.timeout(20):
            while self.http.served:
                await asyncio.sleep(0)


@pytest.fixture
def child():
    with subprocess.Popen(WAITS, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.fixture
def file(tmp_path):
    return RunFile(tmp_path / "runs.json")


@pytest.fixture
async def bench(file, caplog):
    caplog.set_level(logging.INFO)
    bench = Bench(file)
    yield bench
    bench.runs.close()


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted


def reasons(caplog) -> list[str]:
    """Why runs have ended."""
    return [
        record.REASON
        for record in caplog.records
        if (event := BY_MESSAGE_ID.get(getattr(record, "MESSAGE_ID", "")))
        and event.name == "run-ended"
    ]


async def test_a_run_is_served_and_written_down_until_its_process_ends(bench, child, file, caplog):
    before = fds()
    key, _ = await bench.lease(child.pid)
    (sock,) = bench.http.served
    assert sock.getsockname() == host_and_port(key.at)
    assert file.load() == list(bench.gate.passing.runs)
    assert key.process.pid == child.pid
    child.kill()
    await bench.until_gone()
    await asyncio.sleep(0)  # what has ended in one round is written once
    assert file.load() == []
    assert bench.gate.passing.keys == ()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(host_and_port(key.at), timeout=20).close()
    assert reasons(caplog) == ["ended"]
    assert fds() == before


async def test_many_that_end_at_once_are_written_down_once(bench, file, monkeypatch):
    saves = []
    with contextlib.ExitStack() as stack:
        children = []
        for _ in range(5):
            process = stack.enter_context(subprocess.Popen(WAITS, stdin=subprocess.PIPE))
            children.append(process)
            await bench.lease(process.pid)
        save = file.save
        monkeypatch.setattr(file, "save", lambda kept: saves.append(len(kept)) or save(kept))
        for process in children:
            process.kill()
            process.wait()
        await bench.until_gone()
        await asyncio.sleep(0)
    assert saves == [0]


async def test_a_wake_up_for_nothing_ends_no_run(bench, child):
    key, _ = await bench.lease(child.pid)
    (run,) = bench.runs._runs.values()
    bench.runs._on_end(run)
    assert [each.name for each in bench.gate.passing.keys] == [key.name]
    assert bench.http.served


async def test_the_next_daemon_takes_up_what_lives_at_the_same_address(bench, child, file, caplog):
    wanted = replace(AIDER, account="work", requests_per_minute=3, budget=9)
    key, text = await bench.lease(child.pid, wanted)
    with subprocess.Popen(WAITS, stdin=subprocess.PIPE) as other:
        await bench.lease(other.pid)
        bench.runs.close()
        other.kill()
    after = Bench(file)
    await after.runs.restore()
    assert after.gate.passing.keys == (key,)
    (sock,) = after.http.served
    assert sock.getsockname() == host_and_port(key.at)
    caller = after.gate.admit(peer_by_pid(os.getpid()), "http-run", key.at)
    assert after.gate.with_key(caller, text).peer.key == key.name
    caller.close()
    await asyncio.sleep(0)
    assert [run.key for run in file.load()] == [key]
    assert reasons(caplog) == ["ended"]
    child.kill()
    await after.until_gone()
    after.runs.close()


async def test_an_address_that_is_taken_is_not_waited_for(bench, child, file, caplog):
    key, _ = await bench.lease(child.pid)
    bench.runs.close()
    after = Bench(file)
    with socket.create_server(host_and_port(key.at)):
        await after.runs.restore()
    assert after.gate.passing.keys == ()
    assert after.http.served == set()
    assert reasons(caplog) == ["address_taken"]
    after.runs.close()
    assert file.load() == []


async def test_a_file_that_cannot_be_read_stops_nobody(bench, file, monkeypatch, caplog):
    def broken():
        raise PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "store_unsafe", "is open"))

    monkeypatch.setattr(file, "load", broken)
    await bench.runs.restore()
    assert "runs not taken up" in caplog.text


async def test_a_full_disk_costs_the_next_daemon_and_not_this_run(
    bench, child, file, monkeypatch, caplog
):
    def full(_runs):
        raise TransientError(FULL)

    with monkeypatch.context() as patched:
        patched.setattr(file, "save", full)
        key, _ = await bench.lease(child.pid)
        assert bench.http.served
        assert "run not written down" in caplog.text
        with pytest.raises(TransientError):  # or the next daemon would serve it again
            bench.gate.revoke_key(key.name)
    assert bench.http.served == set()
    assert bench.gate.passing.keys == ()


async def test_a_run_that_a_person_ends_is_gone_here_and_for_the_next_daemon(bench, child, file):
    key, _ = await bench.lease(child.pid)
    bench.gate.revoke_key(key.name)
    assert bench.http.served == set()
    assert file.load() == []
    assert child.poll() is None


async def test_on_a_full_disk_what_a_person_ends_is_not_revived(
    bench, child, file, monkeypatch, caplog
):
    key, _ = await bench.lease(child.pid)
    await bench.lease(child.pid)

    def full(_path, _data):
        raise TransientError(FULL)

    monkeypatch.setattr(private_files, "replace", full)
    bench.gate.revoke_key(key.name)
    assert file.load() == []
    assert "runs not written down" in caplog.text
    monkeypatch.undo()
    bench.runs.close()
    assert [run.key for run in file.load()] == list(bench.gate.passing.keys), "when there is room"


@pytest.mark.parametrize("fails", ["port", "room", "process"])
async def test_what_cannot_be_leased_leaves_nothing_behind(bench, child, monkeypatch, fails):
    def no_port():
        raise OSError(24, "Too many open files")

    before = fds()
    match fails:
        case "port":
            monkeypatch.setattr(runs_module, "bind_run", no_port)
        case "room":
            monkeypatch.setattr("brokerd.gate.passing.RUNS_MAX", 0)
        case "process":
            child.kill()
            child.wait()
    pid = os.getpid() if fails == "process" else child.pid
    caller = bench.gate.admit(peer_by_pid(pid), "rpc")
    if fails == "process":
        caller.peer.close()
    with pytest.raises((TransientError, PermanentError)) as caught:
        await bench.runs.lease(caller, AIDER)
    code = {"port": "run_failed", "room": "too_many_runs", "process": "process_unknown"}[fails]
    assert caught.value.failure.code == code
    caller.close()
    assert bench.gate.passing.keys == ()
    assert bench.http.served == set()
    assert fds() == before


def test_the_bound_is_what_descriptors_allow():
    assert RUNS_MAX * 2 < 1024 - 64, "of the lowest usual limit of files"


def test_a_port_of_the_kernels_choice_is_nobody_elses():
    ours = [bind_run() for _ in range(50)]
    assert len({address for _, address in ours}) == 50
    for sock, address in ours:
        assert sock.getsockname() == host_and_port(address)
        assert not sock.getblocking()
        assert not sock.get_inheritable()
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                thief.bind(host_and_port(address))
        sock.close()
