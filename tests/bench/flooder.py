"""One flood: what a careless or hostile program of the same user can do to a Unix socket.

    python flooder.py KIND SOCKET CONNECTIONS HELLO BLOCK PART [once]

    idle     CONNECTIONS that say nothing (but HELLO, which a bus wants first)
    half     likewise; they then send PART, the beginning of a request
    deaf     likewise; they ask again and again, BLOCK by BLOCK, and never read
    storm    one connection after the other, as fast as they can be opened and closed
    garbage  likewise; each sends something that is no request
    greedy   one connection asks at full speed and reads

HELLO, BLOCK (whole requests) and PART are files. `once`: the server answers one request of each
connection, so that BLOCK is one, and asking again takes another connection.

It says `stands` once the flood does, and ends with its standard input; then it prints as JSON how
many connections stand, and how often a second it did what it does. What runs without a pause has
the scheduling class SCHED_IDLE (sched(7)): it takes the whole core, but for the moments in which
the honest client beside it needs it, so that the server's time is measured and not the core's.
"""

# ruff: noqa: T201 - its lines are what it says

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path


SPARE_FILES = 64
NO_ROOM = 1.0
"""Seconds without a further connection after which the server's queue is full for good."""
RETRY = 0.002
STUCK = struct.pack("@ll", 1, 0)
"""One second: a look at whether it should end."""
NONSENSE = (
    b"\xc6\xff\xff\xff\xff",  # MessagePack: 4 GiB of bytes
    b"\xdd\xff\xff\xff\xff",  # 4,294,967,295 values
    b"\x91" * 4096,  # nested as deep as that
    b"\x94\x00\x00\xa9token.get\x07",
    b"\xff\xff\xff\xff\x0b",  # ssh-agent: as long a message
    b"\x00\x00\x00\x00",  # and one of nothing
    b"\0AUTH NONSENSE\r\n\r\nBEGIN\r\n",  # D-Bus
    b"action\n\n",  # git
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    random.Random(1).randbytes(512),
)


class Flood:
    """What is to be done, and whether to go on."""

    def __init__(self, path: str, connections: str, hello: str, block: str, part: str) -> None:
        self.path = path
        self.connections = int(connections)
        self.hello, self.block, self.part = (
            Path(name).read_bytes() for name in (hello, block, part)
        )
        self.done = 0
        self.ending = threading.Event()
        self.since = time.monotonic()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        os.read(0, 1)
        self.ending.set()

    def stands(self) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self.since = time.monotonic()
        print("stands", flush=True)

    def ends(self, **figures: float) -> None:
        rate = self.done / (time.monotonic() - self.since)
        print(json.dumps({"rate_s": rate, **figures}), flush=True)

    def all_at_once(self, first_words: bytes) -> list[socket.socket]:
        """Open as many connections as there is room for."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.connections + SPARE_FILES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        opened: list[socket.socket] = []
        last = time.monotonic()
        while len(opened) < self.connections and time.monotonic() < last + NO_ROOM:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect(self.path)
            except OSError as error:
                sock.close()
                if error.errno not in (errno.EAGAIN, errno.ECONNREFUSED):
                    raise
                time.sleep(RETRY)
                continue
            last = time.monotonic()
            opened.append(sock)
            with contextlib.suppress(OSError):  # hung up already
                sock.send(self.hello + first_words)
        return opened

    def one(self) -> socket.socket:
        """Open one, waiting while the queue is full; OSError when nothing becomes of it."""
        sock = socket.socket(socket.AF_UNIX)
        for which in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, which, STUCK)
        try:
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        return sock


def standing(opened: list[socket.socket]) -> int:
    """Count those that the server has not closed."""
    poll = select.poll()
    for sock in opened:
        poll.register(sock, select.POLLRDHUP)
    return len(opened) - len(poll.poll(0))


def silent(flood: Flood, first_words: bytes) -> None:
    opened = flood.all_at_once(first_words)
    flood.stands()
    flood.ending.wait()
    flood.ends(standing=standing(opened))


def deaf(flood: Flood, once: bool) -> None:
    opened = flood.all_at_once(flood.block if once else b"")
    poll = select.epoll()
    at = {sock.fileno(): (sock, 0) for sock in opened}
    for fd in () if once else at:
        poll.register(fd, select.EPOLLOUT)
    flood.stands()
    whole = memoryview(flood.block)
    while not flood.ending.is_set():
        for fd, event in poll.poll(0.1):
            sock, offset = at[fd]
            try:
                if event & select.EPOLLHUP:
                    raise ConnectionError
                sent = sock.send(whole[offset:])
            except BlockingIOError:
                continue
            except OSError:
                poll.unregister(fd)
                continue
            at[fd] = sock, (offset + sent) % len(whole)
            flood.done += 1
    flood.ends(standing=standing(opened))


def storm(flood: Flood, words: tuple[bytes, ...]) -> None:
    flood.stands()
    while not flood.ending.is_set():
        with contextlib.suppress(OSError), flood.one() as sock:
            flood.done += 1
            if words:
                sock.send(words[flood.done % len(words)])
    flood.ends()


def greedy(flood: Flood, once: bool) -> None:
    flood.stands()
    while not flood.ending.is_set():
        with contextlib.suppress(OSError), flood.one() as sock:
            if once:
                sock.send(flood.block)
                while sock.recv(1 << 18):
                    pass
                flood.done += 1
            else:
                sock.send(flood.hello)
                _ask_on(flood, sock)
    flood.ends()


def _ask_on(flood: Flood, sock: socket.socket) -> None:
    """Ask and read until it is hung up; a block counts once it is sent."""
    sock.setblocking(False)
    whole, offset = memoryview(flood.block), 0
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    while not flood.ending.is_set():
        for _, event in poll.poll(100):
            if event & select.POLLIN and not sock.recv(1 << 18):
                return
            if event & select.POLLOUT:
                with contextlib.suppress(BlockingIOError):
                    offset += sock.send(whole[offset:])
                if offset == len(whole):
                    offset = 0
                    flood.done += 1


def main(kind: str, *words: str) -> None:
    once = words[-1] == "once"
    flood = Flood(*words[: len(words) - once])
    match kind:
        case "idle":
            silent(flood, b"")
        case "half":
            silent(flood, flood.part)
        case "deaf":
            deaf(flood, once)
        case "storm":
            storm(flood, ())
        case "garbage":
            storm(flood, NONSENSE)
        case "greedy":
            greedy(flood, once)
        case _:
            sys.exit(f"no such flood: {kind}")


if __name__ == "__main__":
    main(*sys.argv[1:])
