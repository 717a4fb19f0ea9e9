"""Runs of programs: each has an address of the HTTP door to itself, for as long as it lives.

A run is the process that asked for it, which `copilot-cred exec` has become the program of. Its
pidfd polls readable when it ends, however it ends (pidfd_open(2)): then address, key and every
connection are gone in the same round of the loop. The daemon after this one takes up the runs
whose process is provably the same; so that it finds them they are written down before anybody
hears of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokerd.core.audit import RUN_ENDED
from brokerd.errors import BrokerError, ErrorClass, Failure, TransientError
from brokerd.host.processes import find_process, hold_process
from brokerd.host.tcp_listener import bind_run, bind_tcp


if TYPE_CHECKING:
    import socket

    from brokerd.app.http_side import HttpSide
    from brokerd.core.passing import KeptRun, Passing, PassingKey
    from brokerd.gate import Caller, Gate
    from brokerd.host.peers.pidfd import PidFd
    from brokerd.stores.runs import RunFile


__all__ = ["Runs"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    key: PassingKey
    pidfd: PidFd
    sock: socket.socket


class Runs:
    """See the module's docstring."""

    def __init__(self, gate: Gate, http: HttpSide, file: RunFile) -> None:
        self._gate = gate
        self._http = http
        self._file = file
        self._runs: dict[str, _Run] = {}
        """By the names of their keys."""
        self._writing: asyncio.Handle | None = None

    async def restore(self) -> None:
        """Serve again what the daemon before this one has left, as far as it still lives."""
        try:
            kept = self._file.load()
        except BrokerError as error:
            log.warning("runs not taken up", extra={"REASON": error.failure.message})
            return
        for run in kept:
            await self._take_up(run)
        if kept:
            self._write_soon()

    async def lease(self, by: Caller, wanted: Passing) -> tuple[PassingKey, str]:
        """Serve the process that asks, until it ends; return its key, and the key's text.

        Raises PermanentError DENIED `process_unknown`, TransientError `too_many_runs` and
        `run_failed` where the machine has nothing left for one more.
        """
        self._gate.passing.check_room()
        with contextlib.ExitStack() as undo:
            pidfd, process = hold_process(by.peer)
            undo.callback(pidfd.close)
            try:
                sock, address = bind_run()
            except OSError as error:
                raise TransientError(_no_port(error)) from error
            undo.callback(sock.close)
            name = ""
            key, text = self._gate.passing.lease(
                by, wanted, at=address, process=process, on_revoked=lambda: self._revoked(name)
            )
            name = key.name
            undo.pop_all()
        await self._serve(_Run(key, pidfd, sock))
        try:
            self._save()
        except BrokerError as error:  # it is served all the same
            log.warning("run not written down", extra={"REASON": error.failure.message})
        return key, text

    def close(self) -> None:
        """Stop serving; the runs stay written down for the next daemon."""
        self._write()
        for run in self._runs.values():
            self._drop(run)
        self._runs.clear()

    # -----------------------------------------------------------------------------------------

    async def _take_up(self, kept: KeptRun) -> None:
        key = kept.key
        pidfd = None if key.process is None else find_process(key.process)
        if pidfd is None:
            _tell_lost(key, "ended")
            return
        try:
            sock = bind_tcp(key.at)
        except BrokerError as error:  # somebody else was faster; the program talks to that one
            pidfd.close()
            log.warning("run lost its address", extra={"KEY": key.name, "REASON": str(error)})
            _tell_lost(key, "address_taken")
            return
        self._gate.passing.restore(kept, lambda: self._revoked(key.name))
        await self._serve(_Run(key, pidfd, sock))
        log.info("run taken up", extra={"KEY": key.name, "ADDRESS": key.at})

    async def _serve(self, run: _Run) -> None:
        self._runs[run.key.name] = run
        await self._http.serve_run(run.sock)
        loop = asyncio.get_running_loop()
        loop.add_reader(run.pidfd.fileno(), self._on_end, run)

    def _on_end(self, run: _Run) -> None:
        if run.pidfd.is_alive():  # some kernels wake us when another thread takes over (execve(2))
            return
        del self._runs[run.key.name]
        self._drop(run)
        self._gate.passing.end(run.key, "ended")
        self._write_soon()

    def _revoked(self, name: str) -> None:
        """Close the address of a run whose key a person has ended.

        Raises BrokerError where the next daemon would serve it all the same.
        """
        self._drop(self._runs.pop(name))
        try:
            self._save()
        except BrokerError as error:
            self._file.save([])  # that needs no room on the disk; others are not to be revived
            log.warning("runs not written down", extra={"REASON": error.failure.message})

    def _drop(self, run: _Run) -> None:
        asyncio.get_running_loop().remove_reader(run.pidfd.fileno())
        self._http.end_run(run.sock)
        run.sock.close()
        run.pidfd.close()

    def _write_soon(self) -> None:
        """Write once for all that end in this round; a run too many there is none to be served."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        try:
            self._save()
        except BrokerError as error:
            log.warning("runs not written down", extra={"REASON": error.failure.message})

    def _save(self) -> None:
        if left_out := self._file.save(list(self._gate.passing.runs)):
            log.warning("runs without room to be written down", extra={"COUNT": left_out})


def _tell_lost(key: PassingKey, reason: str) -> None:
    """Write down the end of a run that this daemon has never served."""
    fields = {"KEY": key.name, "REASON": reason, "LIFETIME": 0, "COUNT": 0}
    log.info(RUN_ENDED.message, extra=RUN_ENDED.extra(**fields))


def _no_port(error: OSError) -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "run_failed",
        f"no address can be had for the run: {error.strerror or error}",
        "See what the broker holds: copilot-cred doctor",
        retry_after=1.0,
    )
