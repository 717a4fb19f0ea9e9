"""A number of a process changes hands while a connection of its first owner is open.

A program for a pid namespace of its own (`unshare --pid --fork --mount-proc`), where it is pid 1
and says which number comes next. It holds the RPC door; a first process connects, hands its socket
on and ends; a second one gets its number and asks for a token, on that socket and on one of its
own. Prints what the door was told of each and what came back.

    python reused_pid.py accepted|waiting kernel|older|number FOLDER

`accepted`: the number changes hands after the connection was accepted; `waiting`: before.
`kernel`: the door asks `host.peercred`; `older`: likewise, of a kernel before 6.5, which has no
SO_PEERPIDFD; `number`: it looks up what is told of the pid, as one would who knows no pidfds. That
is the control: it is what the number alone would let through.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd.host.peers import peercred
from brokerd.host.peers.labels import labels_of
from brokerd.host.peers.peercred import peer_of
from copilot_broker.wire.mini import encode_get
from fakes.broker import CANARY
from fakes.rpc_door import Door, until


if TYPE_CHECKING:
    from brokerd.core.peer import Peer


FIRST = """
import socket, sys
open("/proc/self/comm", "w").write("first")
with socket.socket(socket.AF_UNIX) as s, socket.socket(fileno=int(sys.argv[2])) as heir:
    s.connect(sys.argv[1])
    socket.send_fds(heir, [b"x"], [s.fileno()])
    sys.stdin.readline()
"""

SECOND = """
import json, socket, sys
def answer(s):
    s.settimeout(20)
    try:
        return s.recv(65536).hex()
    except ConnectionResetError:
        return ""
def ask(s):
    try:
        s.sendall(bytes.fromhex(sys.argv[3]))
    except BrokenPipeError:
        pass
open("/proc/self/comm", "w").write("second")
with socket.socket(fileno=int(sys.argv[2])) as old, socket.socket(socket.AF_UNIX) as own:
    ask(old)
    print("asked", flush=True)
    sys.stdin.readline()
    old_answer = answer(old)
    own.connect(sys.argv[1])
    ask(own)
    print(json.dumps([old_answer, answer(own)]))
"""

ATTEMPTS = 50
"""To be given a number: something else in the namespace may have started just then."""


def spawn(source: str, path: Path, fd: int, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", source, str(path), str(fd), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[fd],
    )


def first_owner(path: Path) -> tuple[subprocess.Popen[str], socket.socket]:
    """(a process, the socket that it connected and handed on)."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = spawn(FIRST, path, theirs.fileno())
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    return process, socket.socket(fileno=fds[0])


def second_owner(number: int, path: Path, old: socket.socket) -> subprocess.Popen[str]:
    """A process of that number; it has asked on the old socket when this returns."""
    for _ in range(ATTEMPTS):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
        process = spawn(SECOND, path, old.fileno(), encode_get().hex())
        if process.pid == number:
            assert process.stdout.readline() == "asked\n"
            return process
        process.kill()
        process.communicate()
    raise AssertionError(f"nobody got number {number}")


def by_number(sock: socket.socket) -> Peer:
    """What is told of the number, with no hold on the process."""
    peer = peer_of(sock)
    peer.close()
    known = labels_of(peer.pid, "")
    return dataclasses.replace(peer, pidfd=None, gone=False, **known._asdict())


def told(answer: str) -> str:
    """What the bytes of an answer come to."""
    data = bytes.fromhex(answer)
    if not data:
        return "closed"
    return "token" if CANARY.encode() in data else "refused"


async def main(when: str, how: str, folder: Path) -> None:
    asked = by_number if how == "number" else peer_of
    if how == "older":
        peercred.SO_PEERPIDFD = 9999
    seen = []

    def watched(sock: socket.socket) -> Peer:
        peer = asked(sock)
        seen.append([peer.pid, peer.comm, peer.is_alive()])
        return peer

    door = Door(folder / "s", peers=watched)
    first, old = first_owner(door.path)
    if when == "accepted":
        await door.__aenter__()
        await until(lambda: door.server.connections == 1)
    # From here the loop stands still until the second process has asked.
    first.communicate("go\n", timeout=20)
    second = second_owner(first.pid, door.path, old)
    old.close()
    if when == "waiting":
        await door.__aenter__()
    answers, _ = await asyncio.to_thread(second.communicate, "go\n", 20)
    await door.__aexit__()
    old_answer, own_answer = map(told, json.loads(answers))
    result = {"number": first.pid, "seen": seen, "old": old_answer, "own": own_answer}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
