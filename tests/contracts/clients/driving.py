"""A client of any language, driven by lines of JSON on its stdin; answers come on its stdout.

    {"id": 1, "do": "open", "path": SOCKET, "options": {"timeout": 5, "name": "x"}}
    {"id": 2, "do": "call", "method": "token", "needed": [], "options": {"min_valid": 60}}

`needed` are the arguments that a method cannot do without, in Python's order, `options` all others
by Python's names; bytes are `{"$bytes": BASE64}`. The answer is `{"id", "ok"}`, `{"id", "error"}`
or `{"id", "cancelled"}`. Besides:

    begin {method, …}                       a stream: {"stream": ID} and its head
    items {stream, what, count, leave}      take `chunks`, `events` or `text`: {items, error, refusal}
    leave {stream}                          close it
    cancel {call}                           stop waiting for a call, the language's own way
    shown {method, …}                       all the forms in which a value is shown, and its content
    surface                                 the names of the client's methods
    close                                   the client's connections and streams
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
from concurrent.futures import Future
from typing import Any


__all__ = ["PATIENCE", "Cancelled", "Driver", "Refused", "Stream", "as_bytes", "the_bytes"]

PATIENCE = 20.0
"""Seconds that a test waits for what should happen at once."""


class Refused(Exception):  # noqa: N818
    """The client raised an error of its own; `told` is that error as plain data."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told["text"])
        self.told = told


class Cancelled(Exception):  # noqa: N818
    """Somebody else stopped waiting for it."""


def as_bytes(data: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(data).decode()}


def the_bytes(told: dict[str, str]) -> bytes:
    return base64.b64decode(told["$bytes"])


class Driver:
    """`driver.open(path)`, then `driver.call("token", min_valid=5)`."""

    def __init__(self, name: str, command: list[str], env: dict[str, str]) -> None:
        self.name = name
        self._ids = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def end(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(PATIENCE)
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            with self._lock:
                future = self._waiting.pop(told["id"], None)
            if future is None:
                continue
            if "error" in told:
                future.set_exception(Refused(told["error"]))
            elif "cancelled" in told:
                future.set_exception(Cancelled())
            else:
                future.set_result(told["ok"])
        with self._lock:
            lost, self._waiting = self._waiting, {}
        for future in lost.values():
            future.set_exception(RuntimeError(f"the driver of {self.name} has ended"))

    def start(self, do: str, **more: Any) -> tuple[int, Future[Any]]:
        """Say it; return its id and what its answer will be."""
        number, future = next(self._ids), Future[Any]()
        with self._lock:
            self._waiting[number] = future
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"id": number, "do": do, **more}) + "\n")
        self._process.stdin.flush()
        return number, future

    def do(self, do: str, **more: Any) -> Any:
        return self.start(do, **more)[1].result(PATIENCE)

    def open(self, path: object, **options: Any) -> None:
        """Have a new client instead of the last one; None: the environment leads to its socket."""
        self.do("open", path=None if path is None else str(path), options=options)

    def call(self, method: str, *needed: Any, **options: Any) -> Any:
        return self.do("call", method=method, needed=needed, options=options)

    def later(self, method: str, *needed: Any, **options: Any) -> tuple[int, Future[Any]]:
        """Ask and go on; `cancel` takes the number."""
        return self.start("call", method=method, needed=needed, options=options, later=True)

    def cancel(self, call: int) -> None:
        self.do("cancel", call=call)

    def refused(self, method: str, *needed: Any, **options: Any) -> dict[str, Any]:
        """Ask, and return the error that has to come."""
        try:
            found = self.call(method, *needed, **options)
        except Refused as refused:
            return refused.told
        raise AssertionError(f"{self.name}: {method} was answered: {found}")

    def begin(self, method: str, *needed: Any, **options: Any) -> Stream:
        return Stream(self, self.do("begin", method=method, needed=needed, options=options))

    def close(self) -> None:
        self.do("close")


class Stream:
    """A stream that a driver has begun."""

    def __init__(self, driver: Driver, head: dict[str, Any]) -> None:
        self.head = head
        self._driver = driver

    def start(self, what: str = "chunks", count: int | None = None, leave: bool = False):
        told = {"stream": self.head["stream"], "what": what, "count": count, "leave": leave}
        return self._driver.start("items", **told)[1]

    def items(self, what: str = "chunks", count: int | None = None, leave: bool = False):
        """Take items until the end, or so many; `leave` the loop early then."""
        return self.start(what, count, leave).result(PATIENCE)

    def read(self) -> bytes:
        """Return all bytes; it must end without an error."""
        told = self.items()
        assert told["error"] is None, told["error"]
        return b"".join(the_bytes(item) for item in told["items"])

    def leave(self) -> None:
        self._driver.do("leave", stream=self.head["stream"])
