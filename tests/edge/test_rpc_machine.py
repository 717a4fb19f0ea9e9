"""The door as a process among processes: memory, file descriptors, other users, dying callers."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from brokerd.sockets.acceptor import ACCEPT_PAUSE
from copilot_broker.wire.connection import ConnectionEnded, ResponseReceived
from fakes.rpc_door import PATIENCE, Door, WireClient, until


TESTS = Path(__file__).parents[1]
NOBODY = 65534


def cpu_seconds(pid: int) -> float:
    """User and system time (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


BOMBS = [
    b"\xc6\x40\x00\x00\x00" + b"x" * 65536,  # a binary of 1 GB
    b"\x94\x00\x01\xa9token.get\xc6\x40\x00\x00\x00" + b"x" * 65536,
    b"\x94\x00\x01\xa9token.get\x91\xdd\x7f\xff\xff\xff" + b"\x90" * 240_000,
    b"\x94\x00\x01\xa9token.get\x91\xdd\x00\x03\xa9\x80" + b"\x90" * 240_000,
    b"\x94\x00\x01\xa9token.get\x91\xdf\x00\x01\xd4\xc0" + b"\x01\x80" * 120_000,
    b"\x94\x00\x01\xa9token.get" + b"\x91" * 250_000,
    b"\x94\x00\x01\xa9token.get" + b"\x81\x01" * 120_000,
]


@contextlib.contextmanager
def door_process(path: Path, *arguments: str):
    process = subprocess.Popen(
        [sys.executable, "-m", "fakes.rpc_door", str(path), *arguments],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"ready\n", process.stderr.read().decode()
        yield process
    finally:
        process.kill()
        process.communicate()


def resident(pid: int) -> int:
    """Bytes of resident memory (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


async def test_nesting_bombs_cost_less_than_five_mib(tmp_path):
    async def volley() -> None:
        for bomb in BOMBS:
            client = WireClient(tmp_path / "s")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await client.send(bomb)
            assert isinstance(await client.event(), ConnectionEnded)
            client.close()

    with door_process(tmp_path / "s") as process:
        client = WireClient(tmp_path / "s")
        assert (await client.call("token.get")).error is None
        before = resident(process.pid)
        for _ in range(5):
            await volley()
        assert resident(process.pid) - before < 5 * 1024 * 1024
        assert (await client.call("token.get")).error is None
        client.close()


async def test_a_client_that_never_reads_costs_less_than_five_mib(tmp_path):
    with door_process(tmp_path / "s") as process:
        client = WireClient(tmp_path / "s")
        assert (await client.call("token.get")).error is None
        before = resident(process.pid)
        rude = WireClient(tmp_path / "s")
        rude.socket.settimeout(1.0)  # the kernel takes no more for so long: the door has paused
        with pytest.raises(TimeoutError):
            shout(rude.socket)
        assert resident(process.pid) - before < 5 * 1024 * 1024
        assert (await client.call("token.get")).error is None
        rude.close()
        client.close()


def shout(sock: socket.socket) -> None:
    """Ask and ask; each answer is some hundred bytes."""
    for msgid in range(1_000_000):
        sock.sendall(b"\x94\x00\xce" + msgid.to_bytes(4, "big") + b"\xadbroker.status\x91\x80")


async def test_without_file_descriptors_the_oldest_idle_makes_room(tmp_path):
    """The door may open 40 files and believes in 10000 connections: accept(2) says EMFILE."""
    with door_process(tmp_path / "s", "40") as process:
        crowd = [WireClient(tmp_path / "s") for _ in range(100)]
        last = WireClient(tmp_path / "s")
        assert (await last.call("token.get")).error is None
        assert process.poll() is None
        for client in [*crowd, last]:
            client.close()


async def test_without_file_descriptors_and_nobody_idle_newcomers_wait(tmp_path):
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(door_process(tmp_path / "s", "40"))

        def knock() -> WireClient:
            client = WireClient(tmp_path / "s")
            stack.callback(client.close)
            return client

        paused = asyncio.create_task(_line(process, b"accepting paused"))
        watchers = []
        while not paused.done():  # one after the other, so that nobody is idle at the end
            watcher = knock()
            try:
                await watcher.ask("token.watch")
            except BrokenPipeError:  # it was the idle one, before it could ask
                await asyncio.sleep(0)
                continue
            answer = asyncio.create_task(watcher.event())
            await asyncio.wait({answer, paused}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                assert isinstance(answer.result(), ResponseReceived)
                watchers.append(watcher)
        assert len(watchers) > 5
        newcomer = knock()  # the last file may have gone to the last watcher
        await newcomer.ask("token.watch")
        before = cpu_seconds(process.pid)
        await _line(process, b"accepting paused")  # the next try
        assert cpu_seconds(process.pid) - before < ACCEPT_PAUSE / 2
        for watcher in watchers[:3]:
            watcher.close()
        assert isinstance(await newcomer.event(), ResponseReceived)
        assert isinstance(await answer, ResponseReceived)


async def _line(process: subprocess.Popen, wanted: bytes) -> None:
    while wanted not in (line := await asyncio.to_thread(process.stderr.readline)):
        assert line, "the door has ended"


OTHER_USER = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"\\x94\\x00\\x01\\xa9token.get\\x91\\x80")
print("sent", flush=True)
try:
    print("read", len(s.recv(100)))
except ConnectionResetError:
    print("reset")   # the kernel's word for: closed with our bytes unread (unix(7))
"""


async def test_another_uid_is_closed_before_a_byte_is_read(caplog):
    command = _as_nobody()
    # A folder that anybody may enter and a socket that anybody may write to.
    folder = Path(tempfile.mkdtemp(prefix="cb-"))
    try:
        folder.chmod(0o711)
        door = Door(folder / "s")
        (folder / "s").chmod(0o666)
        process = await asyncio.create_subprocess_exec(
            *command, "/usr/bin/python3", "-c", OTHER_USER, str(folder / "s"),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"sent\n"
            async with door:  # only now does anybody accept
                said, _ = await process.communicate()
                assert said == b"reset\n"
                assert door.broker.calls == []
                own = await door.knock()
                assert (await own.call("token.get")).error is None
    finally:
        shutil.rmtree(folder)
    (denied,) = [record for record in caplog.records if record.message == "peer denied"]
    assert (denied.PEER_UID, denied.REASON, denied.LISTENER) == (NOBODY, "uid_not_allowed", "rpc")


def _as_nobody() -> list[str]:
    setpriv = shutil.which("setpriv")
    prefix: list[str] | None = None
    if setpriv is not None:
        options = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        if os.getuid() == 0:
            prefix = options
        elif (
            shutil.which("sudo")
            and subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0
        ):
            prefix = ["sudo", "-n", *options]
    if prefix is None:
        reason = "another uid needs setpriv, and root or passwordless sudo"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return prefix


CHILD = """
import array, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
parent = socket.socket(fileno=int(sys.argv[2]))
parent.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
parent.recv(1)   # live until told to end
"""


async def test_a_connection_dies_with_the_process_that_opened_it(tmp_path):
    """Its socket was passed on, so the end of the process is not the end of the file."""
    async with Door(tmp_path / "s") as door:
        if not _has_pidfds(tmp_path / "s"):
            pytest.skip("this kernel has no pidfds")
        ours, theirs = socket.socketpair()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, str(tmp_path / "s"), str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
        )  # fmt: skip
        theirs.close()
        ours.settimeout(PATIENCE)
        _, ancillary, *_ = await asyncio.to_thread(ours.recvmsg, 1, socket.CMSG_SPACE(4))
        (number,) = array.array("i", ancillary[0][2][:4])
        inherited = WireClient(sock=socket.socket(fileno=number))
        assert (await inherited.call("token.get")).error is None
        door.broker.may_answer.clear()
        await inherited.ask("token.get")
        await until(lambda: door.broker.waiting == 1)
        ours.send(b".")
        assert await process.wait() == 0
        assert isinstance(await inherited.event(), ConnectionEnded)
        await until(lambda: door.broker.waiting == 0)
        inherited.close()
        ours.close()


def _has_pidfds(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return hasattr(os, "pidfd_open")


SO_PASSRIGHTS = 83
"""<asm-generic/socket.h>, Linux 6.16: off, the kernel lets no descriptor be sent here."""


def let_descriptors_through(listening: socket.socket) -> None:
    """Take the kernel's own bar away, so that it is the door's which is tried."""
    with contextlib.suppress(OSError):  # there was none before Linux 6.16
        listening.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)


@pytest.mark.parametrize("before", [b"", b"\x94\x00\x01\xa9tok"], ids=["first", "mid-frame"])
async def test_who_sends_a_descriptor_along_is_closed_and_we_hold_no_more(
    tmp_path, caplog, before
):
    async with Door(tmp_path / "s") as door:
        let_descriptors_through(door.socket)
        bystander, vandal = await door.knock(), await door.knock()
        assert (await bystander.call("token.get")).error is None
        await until(lambda: door.server.connections == 2)
        await vandal.send(before)
        await until(lambda: door.server.buffered == len(before))
        door.broker.calls.clear()
        with Path("/dev/null").open() as extra:
            open_before = len(list(Path("/proc/self/fd").iterdir()))
            rights = array.array("i", [extra.fileno()] * 100)
            vandal.wire.send_request("token.get", {})
            vandal.socket.sendmsg(
                [vandal.wire.data_to_send()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
            assert await vandal.is_closed()
            await until(lambda: door.server.connections == 1)
            now_open = len(list(Path("/proc/self/fd").iterdir()))
            assert now_open < open_before  # its own have gone
        assert door.broker.calls == []  # what came with it was not looked at
        assert (await bystander.call("token.get")).error is None
    assert [r.REASON for r in caplog.records if r.message == "protocol breached"] == [
        "descriptors_refused"
    ]
