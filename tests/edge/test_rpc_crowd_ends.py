"""A process with many connections ends: those of others are served between their ends."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from brokerd.gate.backlog import PER_ROUND
from brokerd.rpc.session import Session
from fakes.broker import a_lease
from fakes.rpc_door import PATIENCE, Door, until


CROWD = 150

HOLD = """
import socket, sys
from copilot_broker.wire.messages import Request, encode
held = []
for _ in range(int(sys.argv[2])):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(sys.argv[1])
    held[-1].sendall(encode(Request(0, "token.get", [{"account": "crowd"}])))
    assert held[-1].recv(65536)
print("all lent", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def door(tmp_path):
    async with Door(tmp_path / "s") as door:
        door.broker.at_hand = a_lease()
        yield door


@pytest.fixture
async def crowd(door):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(door.path), str(CROWD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.to_thread(process.stdout.readline) == b"all lent\n"
            yield process
        finally:
            process.kill()


def end_at_once(process):
    """Kill it; the loop stands still till all of it is gone, and is told of all in one round."""
    process.kill()
    process.wait(PATIENCE)


@pytest.fixture
async def slow_ends(monkeypatch, door):
    """Let each end of a connection take a whole slice of the loop's time; count them."""
    turns, ends = door.server._turns, []
    clock, close = turns.clock, Session.close

    def closing(session, reason):
        if not session.closed:
            ends.append(reason)
        close(session, reason)

    monkeypatch.setattr(turns, "clock", lambda: clock() + 0.01 * len(ends))
    monkeypatch.setattr(Session, "close", closing)
    return ends


async def test_the_ends_of_a_crowd_are_spread_over_rounds(door, crowd, slow_ends, audit_trail):
    end_at_once(crowd)
    most_ends = most_records = 0
    while door.server.connections or len(audit_trail.of("token-total")) < CROWD:
        ends, records = len(slow_ends), len(audit_trail.of("token-total"))
        await asyncio.sleep(0)
        most_ends = max(most_ends, len(slow_ends) - ends)
        most_records = max(most_records, len(audit_trail.of("token-total")) - records)
    assert len(slow_ends) == CROWD
    assert most_ends <= 3, "one at once, one that asked to be read, one whose turn it was"
    assert most_records <= PER_ROUND < CROWD / 10
    assert [each["COUNT"] for each in audit_trail.of("token-total")] == [1] * CROWD


async def test_who_stays_is_served_before_the_crowd_is_gone(door, crowd, slow_ends):
    bystander = await door.knock()
    assert (await bystander.call("token.get", account="me")).error is None
    end_at_once(crowd)
    await until(lambda: slow_ends)
    assert (await bystander.call("token.get", account="me")).error is None
    assert len(slow_ends) < CROWD / 2
    await until(lambda: door.server.connections == 1)


async def test_a_stop_in_the_midst_of_it_loses_no_record_and_no_descriptor(
    door, crowd, slow_ends, audit_trail
):
    end_at_once(crowd)
    await until(lambda: slow_ends)
    door.server.close()
    assert len(audit_trail.of("token-total")) == CROWD
    assert door.server.connections == 0
    await asyncio.sleep(0)  # whose turn would have come
    assert len(slow_ends) == CROWD
    assert not [link for link in _links() if "pidfd" in link]


def _links():
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this very listing
            found.append(str(entry.readlink()))
    return found
