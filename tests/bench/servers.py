"""Processes that are measured: started on a core of their own, read from the kernel, stopped.

CPU time is read from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds of all its
threads, running ones included, for the server and everything it has started. Only processes that
were started here are ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


__all__ = [
    "Server",
    "ServerError",
    "cpu_of",
    "file_limit",
    "on_core",
    "processes_of",
    "start",
    "wait_until",
]

PATIENCE = 20.0
"""Seconds that a server has to get ready, and to end."""
POLL = 0.02
"""Seconds between two looks at another process."""
CPUCLOCK_SCHED = 2
"""Of the kernel's posix-timers.h: the clock that counts what the scheduler gave."""


class ServerError(Exception):
    """A server did not start, or has died."""


@dataclass(frozen=True)
class Server:
    """One running server; `process` is the root of its tree."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The root's process id."""
        return self.process.pid

    def pids(self) -> list[int]:
        """Return it and all its descendants."""
        return processes_of(self.pid)

    def cpu(self) -> float:
        """Return the CPU seconds of the tree so far."""
        return sum(map(cpu_of, self.pids()))

    def resident(self, *, peak: bool = False) -> float:
        """Return the bytes in memory of the tree, or the most there have been (proc(5))."""
        return sum(_resident(pid, "VmHWM" if peak else "VmRSS") for pid in self.pids())

    def forget_peak(self) -> None:
        """Let the peak begin anew, where we may: it only falls to what there is now."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def said(self) -> str:
        """Return the end of what it wrote, for error messages."""
        return self.log.read_text(errors="replace")[-600:]

    def stop(self) -> None:
        """Ask it to end, then make it; stopping twice is no error."""
        if self.process.poll() is not None:
            return  # its number may be another's by now
        for pid in self.pids()[1:]:  # a tree may outlive its root
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of one process; 0 when it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) / 1e9
    except OSError:
        return 0.0


def _resident(pid: int, field: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024.0
    return 0.0


def processes_of(pid: int) -> list[int]:
    """Return a process and its descendants, parents first."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(map(int, task.read_text().split()))
    return found


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Start processes on one core: a child inherits what its parent may run on."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def file_limit(files: int) -> Iterator[None]:
    """Start processes under a soft RLIMIT_NOFILE; one that wants more can raise it."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def start(
    name: str,
    argv: Sequence[str | Path],
    *,
    ready: Callable[[], object],
    log: Path,
    env: Mapping[str, str],
    core: int | None = None,
    stdin: bytes | None = None,
) -> Server:
    """Start a server on a core; return once `ready()` is true. Raises ServerError."""
    with log.open("wb") as out, on_core(core):
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,  # Ctrl-C is ours; they end by our hand
        )
    if stdin is not None:
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(stdin)
    server = Server(name, process, log)
    try:
        wait_until(lambda: process.poll() is not None or ready())
    except TimeoutError:
        server.stop()
        raise ServerError(f"{name} is not ready after {PATIENCE:.0f} s: {server.said()}") from None
    if process.poll() is not None:
        raise ServerError(f"{name} ended with {process.returncode}: {server.said()}")
    return server


def wait_until(ask: Callable[[], object], within: float = PATIENCE) -> None:
    """Look until the answer is true; TimeoutError when it never is."""
    deadline = time.monotonic() + within
    while not ask():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL)
