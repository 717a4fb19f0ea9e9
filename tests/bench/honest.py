"""An honest client of each server: a fresh connection, one question, the whole answer, timed.

    python honest.py broker  SOCKET DEADLINE                    copilot_broker.Client, token.get
    python honest.py bytes   SOCKET DEADLINE REQUEST REPLY      what the two files hold
    python honest.py keyring BUS    DEADLINE SECRET             the Secret Service over D-Bus

It asks once to have everything imported and says `ready`. Each line `TIMES PAUSE` makes it ask so
often, and answer with one line of JSON: the milliseconds of each, null for the one that had no
(right) answer within DEADLINE seconds, which is the last. What is waited for is what a program
waits for that needs the secret: connecting is part of it, starting a process is not.

`bytes` waits in connect(2) while a queue is full, as those do that have no better idea. The keyring
is asked as `secret-tool lookup` asks, but for the encryption: OpenSession, SearchItems, GetSecret.
"""

# ruff: noqa: T201 - its lines are what it says

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from pathlib import Path


__all__ = ["bus_hello", "bus_question"]

SECRETS = "/org/freedesktop/secrets"
NAME = "org.freedesktop.secrets"
FIELDS = {1: "o", 2: "s", 3: "s", 6: "s", 8: "g"}
"""Header fields of a D-Bus call: path, interface, member, destination, signature."""
CALL, ANSWER, REFUSAL = 1, 2, 3
HEADER = 16


# -- D-Bus, the few bytes of it that are needed ---------------------------------------------------


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def _text(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode() + b"\0"


def _bus_call(
    serial: int, interface: str, member: str, signature: str = "", body: bytes = b"", **where: str
) -> bytes:
    """Return a method call of the D-Bus specification, little-endian."""
    values = (where.get("path", SECRETS), interface, member, where.get("to", NAME), signature)
    fields = b""
    for (code, kind), value in zip(FIELDS.items(), values, strict=True):
        if value:
            fields = _padded(fields, 8) + bytes([code, 1, ord(kind), 0])
            fields += bytes([len(value)]) + value.encode() + b"\0" if kind == "g" else _text(value)
    head = struct.pack("<cBBBIII", b"l", CALL, 0, 1, len(body), serial, len(fields))
    return _padded(head + fields, 8) + body


def bus_hello() -> bytes:
    """Return all that a connection sends before its first question."""
    uid = str(os.geteuid()).encode().hex()
    bus = "org.freedesktop.DBus"
    hello = _bus_call(1, bus, "Hello", path="/org/freedesktop/DBus", to=bus)
    return f"\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n".encode() + hello


def _attributes(**pairs: str) -> bytes:
    """Return a map of texts."""
    body = b""
    for key, value in pairs.items():
        body = _padded(_padded(body, 8) + _text(key), 4) + _text(value)
    return struct.pack("<II", len(body), 0) + body


def bus_question(serial: int) -> bytes:
    """Return the question for our secret's item."""
    wanted = _attributes(service="bench", account="octocat")
    return _bus_call(serial, "org.freedesktop.Secret.Service", "SearchItems", "a{ss}", wanted)


# -- one question -----------------------------------------------------------------------------


class Line:
    """A connection that gives up at a moment."""

    def __init__(self, path: str, until: float) -> None:
        self.until = until
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self._bound(socket.SO_SNDTIMEO)  # connect(2) of a Unix socket waits as long
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.rest = b""

    def send(self, data: bytes) -> None:
        self._bound(socket.SO_SNDTIMEO)
        self.sock.sendall(data)

    def take(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        while len(self.rest) < size:
            self._bound(socket.SO_RCVTIMEO)
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self.rest += data
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def _bound(self, which: int) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        seconds = int(left)
        micros = max(1, int((left - seconds) * 1e6))
        self.sock.setsockopt(socket.SOL_SOCKET, which, struct.pack("@ll", seconds, micros))


def asks_broker(path: str, deadline: float) -> bool:
    from copilot_broker import Client

    with Client(path, timeout=deadline) as client:
        return bool(client.token())


def asks_bytes(path: str, deadline: float, request: bytes, reply: bytes) -> bool:
    line = Line(path, time.monotonic() + deadline)
    with line.sock:
        line.send(request)
        return line.take(len(reply)) == reply


def asks_keyring(path: str, deadline: float, secret: bytes) -> bool:
    line = Line(path, time.monotonic() + deadline)
    service = "org.freedesktop.Secret.Service"
    with line.sock:
        line.send(bus_hello())
        while line.take(1) != b"\n":  # "OK …", the end of the handshake
            pass
        _answer(line)
        plain = _padded(_text("plain") + b"\x01s\0", 4) + _text("")
        line.send(_bus_call(2, service, "OpenSession", "sv", plain))
        session = _answer(line).rstrip(b"\0").rpartition(b"\0")[2].decode()
        line.send(bus_question(3))
        found = _answer(line)  # array: its bytes; its first text: the length of it, the text
        size = struct.unpack_from("<I", found, 4)[0]
        item = found[8 : 8 + size].decode()
        body = _text(session)
        line.send(_bus_call(4, "org.freedesktop.Secret.Item", "GetSecret", "o", body, path=item))
        return secret in _answer(line)


def _answer(line: Line) -> bytes:
    """Return the body of the next answer; signals are passed over."""
    while True:
        head = line.take(HEADER)
        order, kind, _, _, size, _, fields = struct.unpack("<cBBBIII", head)
        assert order == b"l"
        line.take(fields + -fields % 8)
        body = line.take(size)
        if kind == REFUSAL:
            raise EOFError
        if kind == ANSWER:
            return body


KINDS = {"broker": asks_broker, "bytes": asks_bytes, "keyring": asks_keyring}


def main(kind: str, path: str, deadline: str, *files: str) -> None:
    contents = [Path(file).read_bytes() for file in files]

    def ask() -> float | None:
        since = time.perf_counter()
        try:
            answered = KINDS[kind](path, float(deadline), *contents)
        except Exception as error:  # whatever it is, it is no answer
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            answered = False
        took = (time.perf_counter() - since) * 1e3
        return took if answered and took <= float(deadline) * 1e3 else None

    print("ready" if ask() is not None else "unanswered", flush=True)
    for line in sys.stdin:
        times, pause = line.split()
        took: list[float | None] = []
        while len(took) < int(times) and None not in took:
            time.sleep(float(pause))
            took.append(ask())
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
