"""Who comes in through the HTTP door, how many, and how it is closed again."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.gate import Caller, Gate
from brokerd.gateway.door import HttpDoor
from brokerd.gateway.messages import Reply
from brokerd.host.peers.peercred import peer_of
from brokerd.sockets.acceptor import ACCEPT_PAUSE
from brokerd.sockets.crowd import OF_ONE_PROCESS
from fakes.http_door import GET, PATIENCE, FakeHandler, HttpClient, OpenDoor
from fakes.rpc_door import until


TESTS = Path(__file__).parents[1]
WORK = b"GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def door(tmp_path):
    async with OpenDoor(tmp_path / "s") as door:
        yield door


def own_uid_by_tcp(_sock) -> Peer:
    return Peer(pid=0, uid=os.getuid(), gid=0)


# -- who ---------------------------------------------------------------------------------------


async def test_a_stranger_gets_not_a_byte(tmp_path):
    async with OpenDoor(tmp_path / "s", gate=Gate(own_uid=4_000_000_000)) as door:
        client = door.knock()
        await client.send(GET)
        assert await client.is_closed()
        assert door.handler.requests == []


async def test_who_is_unknown_gets_not_a_byte(tmp_path, caplog):
    def nobody_knows(sock):
        raise OSError(22, "not known")

    async with OpenDoor(tmp_path / "s", peers=nobody_knows) as door:
        assert await door.knock().is_closed()
    assert "peer unknown" in caplog.messages


async def test_who_has_not_the_scope_gets_not_a_byte(tmp_path, monkeypatch):
    def refuse(self, operation, *_):
        raise PermanentError(Failure(ErrorClass.DENIED, "scope_missing", operation, ""))

    monkeypatch.setattr(Caller, "check", refuse)
    async with OpenDoor(tmp_path / "s") as door:
        assert await door.knock().is_closed()


@pytest.mark.parametrize("is_known", [True, False])
async def test_over_tcp_a_stranger_gets_a_bare_403(tmp_path, is_known):
    def stranger(sock):
        if is_known:
            return Peer(pid=0, uid=4_000_000_000, gid=0)
        raise OSError(2, "not found")

    async with OpenDoor(tmp_path, peers=stranger, tcp=True) as door:
        client = door.knock()
        await client.send(b"POST / HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000)
        answer = await client.answer()
        assert answer.status == 403
        assert set(answer.headers) == {"content-length", "connection"}
        assert await client.is_closed()
        assert door.handler.requests == []


async def test_over_tcp_all_is_the_same(tmp_path):
    async with OpenDoor(tmp_path, peers=own_uid_by_tcp, tcp=True) as door:
        client = door.knock()
        for _ in range(2):
            assert (await client.ask()).body == b"0"
        await client.send(WORK)
        work = await door.work()
        work.outlet.start(200, {})
        work.outlet.send(b"a")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()  # a reset
        await until(lambda: work.closed)


async def test_each_listener_has_its_name_and_its_way_to_ask_who(tmp_path):
    async with OpenDoor(tmp_path / "s") as door, OpenDoor(tmp_path, tcp=True) as other:
        await door.door.serve(other.socket, "http-tcp", own_uid_by_tcp)
        assert list(door.door.listeners) == ["http", "http-tcp"]
        seen = []
        door.handler.begin = lambda request, outlet, caller: (
            seen.append((caller.listener, caller.peer.pid)),
            outlet.reply(Reply(200)),
        )[1]
        other.door.close()
        await door.door.serve(other.socket, "http-tcp", own_uid_by_tcp)
        for each in (door, other):
            assert (await each.knock().ask()).status == 200
        assert seen == [("http", os.getpid()), ("http-tcp", 0)]


async def test_a_descriptor_that_is_sent_along_is_not_taken(door, caplog):
    with contextlib.suppress(OSError):
        door.socket.setsockopt(socket.SOL_SOCKET, 83, 1)  # SO_PASSRIGHTS: the kernel's own bar
    client = door.knock()
    await until(lambda: door.door.connections == 1)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    rights = array.array("i", [client.socket.fileno()] * 100)
    client.socket.sendmsg([GET], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    assert await client.is_closed()
    assert len(list(Path("/proc/self/fd").iterdir())) < open_before
    assert "protocol breached" in caplog.messages
    assert door.handler.requests == []


# -- how many ----------------------------------------------------------------------------------


async def test_the_oldest_idle_one_makes_room(tmp_path):
    async with OpenDoor(tmp_path / "s", connections=3) as door:
        busy, first, second = door.knock(), door.knock(), door.knock()
        await busy.send(WORK)
        await door.work()
        assert (await second.ask()).status == 200
        assert (await first.ask()).status == 200
        assert (await door.knock().ask()).status == 200
        assert await second.is_closed()
        assert (await first.ask()).status == 200
        assert door.handler.works[0].closed == 0


@pytest.mark.parametrize("part", [b"GET", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"])
async def test_half_a_request_holds_no_place(tmp_path, part):
    async with OpenDoor(tmp_path / "s", connections=2) as door:
        for _ in range(2):
            await door.knock().send(part)
        await until(lambda: door.door.buffered >= 6)
        assert (await door.knock().ask()).status == 200


async def test_where_nobody_is_idle_a_newcomer_waits_for_somebody_to_be(tmp_path):
    async with OpenDoor(tmp_path / "s", connections=1) as door:
        busy = door.knock()
        await busy.send(WORK)
        work = await door.work()
        newcomer = door.knock()
        await newcomer.send(GET)
        await until(lambda: door.door._acceptor.paused)
        assert door.door.connections == 1
        work.outlet.reply(Reply(200))
        assert (await busy.answer()).status == 200
        assert (await newcomer.answer()).status == 200


async def test_a_process_that_keeps_very_many_busy_locks_nobody_out(tmp_path):
    numbers = iter([1, *[666] * 200])

    def peers(sock):
        return replace(peer_of(sock), pid=next(numbers))

    most = OF_ONE_PROCESS + 2
    async with OpenDoor(tmp_path / "s", connections=most, peers=peers) as door:
        lone = door.knock()
        await lone.send(WORK)
        await door.work()
        for count in range(OF_ONE_PROCESS + 10):
            await door.knock().send(WORK)
            await door.work(count + 2)
        assert door.handler.works[0].closed == 0
        assert [work.closed for work in door.handler.works].count(1) == OF_ONE_PROCESS + 11 - most


async def test_all_buffers_together_have_a_bound(tmp_path, caplog):
    async with OpenDoor(tmp_path / "s", buffers=300_000) as door:
        half = b"POST /whole HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n"
        small, large = door.knock(), door.knock()
        await small.send(half + b"x" * 1000)
        with contextlib.suppress(ConnectionError):
            await large.send(half)
            for _ in range(40):
                await large.send(b"x" * 10_000)
        assert await large.is_closed()
        await until(lambda: door.door.connections == 1)
        assert 0 < door.door.buffered < 2000
        assert "connection dropped" in caplog.messages


async def test_a_prompt_is_held_until_its_answer_begins(door):
    client = door.knock()
    await client.send(b"POST /work HTTP/1.1\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000)
    work = await door.work()
    assert door.door.buffered == 50_000
    work.outlet.start(200, {})
    assert door.door.buffered == 0


async def test_who_dies_of_the_bound_is_not_called_in_the_middle_of_a_call(tmp_path):
    async with OpenDoor(tmp_path / "s", buffers=30_000) as door:
        client = door.knock()
        await client.send(WORK)
        work = await door.work()
        work.outlet.start(200, {})
        while door.door.connections:
            work.outlet.send(b"x" * 10_000)
            assert work.closed == 0
        await until(lambda: work.closed == 1)


# -- the end -----------------------------------------------------------------------------------


async def test_draining_ends_what_is_under_way_and_answers_what_has_arrived(door):
    idle, half, streaming, asking, new = (door.knock() for _ in range(5))
    assert (await idle.ask()).status == 200
    await half.send(WORK + b"GET /whole HTTP/1.1\r\n")
    half_work = await door.work()
    await streaming.send(WORK)
    work = await door.work(2)
    work.outlet.start(200, {})
    work.outlet.send(b"a")
    assert (await asking.ask()).status == 200
    await until(lambda: door.door.connections == 5)
    await asking.send(GET)  # lies unread in the socket
    draining = asyncio.create_task(door.door.drain(PATIENCE))
    answer = await asking.answer()
    assert (answer.status, "connection" in answer.headers) == (200, False)
    assert await asking.is_closed()
    assert await idle.is_closed()
    answer = await new.ask()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    half_work.outlet.reply(Reply(200))
    assert "connection" not in (await half.answer()).headers
    answer = await half.ask(b"\r\n")
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert not draining.done()
    work.outlet.send(b"b")
    work.outlet.end()
    assert (await streaming.answer()).body == b"ab"
    await draining
    assert door.door.connections == 0
    assert [work.closed for work in door.handler.works] == [0, 0]


async def test_what_takes_too_long_is_cut(door):
    client = door.knock()
    await client.send(WORK)
    work = await door.work()
    work.outlet.start(200, {})
    work.outlet.send(b"a")
    await door.door.drain(0.05)
    assert work.closed == 1
    assert (await client.rest()).endswith(b"1\r\na\r\n")


async def test_closing_leaves_the_listening_socket_to_its_owner(tmp_path):
    async with OpenDoor(tmp_path / "s") as door:
        door.door.close()
        door.door.close()
        assert list(door.door.listeners) == []
        client = door.knock()
        await client.send(GET)
        again = HttpDoor(Gate(), FakeHandler())
        await again.serve(door.socket, "http", peer_of)
        assert (await client.answer()).status == 200
        again.close()


# -- as a process that may open few files --------------------------------------------------------


@contextlib.asynccontextmanager
async def door_process(path: Path, *arguments: str):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fakes.http_door", str(path), *arguments,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"ready\n"
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_under_a_low_file_limit_the_oldest_make_room(tmp_path):
    path = tmp_path / "http.sock"
    async with door_process(path, "20") as process:
        crowd = [HttpClient(socket.AF_UNIX, str(path)) for _ in range(60)]
        client = HttpClient(socket.AF_UNIX, str(path))
        assert (await client.ask()).status == 200
        assert await crowd[0].is_closed()
        assert b"accepting paused" in await process.stderr.readline()
        for each in (*crowd, client):
            each.close()


async def test_where_nobody_can_make_room_it_waits_and_does_not_spin(tmp_path):
    path = tmp_path / "http.sock"
    async with door_process(path, "40", "full") as process:
        client = HttpClient(socket.AF_UNIX, str(path))
        assert b"accepting paused" in await process.stderr.readline()
        before = _cpu_seconds(process.pid)
        assert b"accepting paused" in await process.stderr.readline()  # the next try
        assert _cpu_seconds(process.pid) - before < ACCEPT_PAUSE / 2
        process.kill()
        _, more = await process.communicate()
        assert more.count(b"\n") <= 1, more.decode()
        client.close()


def _cpu_seconds(pid: int) -> float:
    """User and system time (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
