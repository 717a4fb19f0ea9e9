"""The RPC door: accepts connections, closes those that may not be, and keeps all within bounds.

The order for a newcomer is: accept → peer credentials → gate → only then is its socket read.

Connections are kept in the order of their last word; where there are too many, or no file
descriptor is left, the oldest one without a request in flight goes. But before anybody else it is
the process that holds most, if it holds very many: busy ones too, or it could lock all others out
with requests that never end. Where all buffers together
grow too large, the connection that holds most goes, whoever was the last to add a byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import select
from collections import Counter, OrderedDict
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from brokerd.errors import BrokerError
from brokerd.rpc.express import ExpressLane
from brokerd.rpc.methods import Methods
from brokerd.rpc.methods.doctor import DoctorMethods
from brokerd.rpc.methods.grants import GrantMethods
from brokerd.rpc.methods.quota import QuotaMethods
from brokerd.rpc.session import EVENTS_AT_ONCE, Session
from brokerd.rpc.turns import Turns
from copilot_broker.wire.limits import CONNECTIONS, RESERVED_FILES, TOTAL_BUFFERS, Limits


if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from brokerd.broker import Broker
    from brokerd.core.checks import Check
    from brokerd.core.peer import Peer, PeerOf
    from brokerd.gate import Gate
    from brokerd.proxy import Proxy
    from brokerd.views import LoginRequest


__all__ = ["RpcServer", "connections_bound"]

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 16
"""Newcomers let in before those inside have their turn."""

ACCEPT_PAUSE = 1.0
"""Seconds without accepting when the machine has no file or memory left; a connection that closes
ends the pause at once."""

LINGER = 0.5
"""Seconds that a stopping broker waits for callers who just connected, and for last bytes."""

FILES_PER_CONNECTION = 3
"""Its socket, the pidfd of its process, and a socket to upstream for its completion."""

OF_ONE_PROCESS = 64
"""Connections of one process that it keeps where others want in; busy agents have a dozen."""

MIN_CONNECTIONS = 8
"""Even under an absurd file limit some callers are served, at the expense of the reserve."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept(2) says when the machine, not the newcomer, is at fault."""


def connections_bound(files: int) -> int:
    """How many connections fit: at most `CONNECTIONS`, fewer under a low RLIMIT_NOFILE."""
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS
    room = (files - RESERVED_FILES) // FILES_PER_CONNECTION
    return max(MIN_CONNECTIONS, min(CONNECTIONS, room))


def _nobody(_pid: int) -> Peer:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


async def _no_checks() -> Sequence[Check]:
    return ()


class RpcServer:
    """Serves `broker` on listening sockets that others own. One event loop, no threads."""

    def __init__(
        self,
        broker: Broker,
        gate: Gate,
        peer_of: PeerOf,
        *,
        proxy: Proxy,
        version: str,
        headers_for_client: Callable[[], Mapping[str, str]],
        login_request: Callable[[dict[str, Any]], LoginRequest],
        extra_status: Callable[[], Mapping[str, object]] = dict,
        about_app: Callable[[LoginRequest], Mapping[str, object]] = lambda _request: {},
        peer_by_pid: Callable[[int], Peer] = _nobody,
        checks: Callable[[], Awaitable[Sequence[Check]]] = _no_checks,
        other_listeners: Callable[[], Iterable[str]] = tuple,
        limits: Limits | None = None,
        connections: int | None = None,
        buffers: int = TOTAL_BUFFERS,
    ) -> None:
        """Prepare; nothing is accepted before `serve`.

        `headers_for_client` gives what callers should send upstream with a token; when that
        changes, call `reconfigured`.
        `about_app` gives what the login screen says of the app: what is being approved.
        `peer_by_pid` finds a process as if it had connected, for `grant.explain`; `checks` is what
        `broker.doctor` shows; `other_listeners` names the sockets of other doors.
        `limits`, `connections` and `buffers` (bytes) lower the bounds, for tests.
        """
        self._gate = gate
        self._peer_of = peer_of
        grants = GrantMethods(
            gate, peer_by_pid, lambda: {*self._listeners.values(), *other_listeners()}
        )
        self._methods = Methods(
            broker,
            proxy,
            version=version,
            headers_for_client=headers_for_client,
            login_request=login_request,
            extra_status=extra_status,
            about_app=about_app,
            further=[
                grants.rows(),
                DoctorMethods(checks).rows(),
                QuotaMethods(broker.quotas).rows(),
            ],
        )
        self._express = ExpressLane(broker, headers_for_client)
        self._limits = limits or Limits(queued_events=EVENTS_AT_ONCE)
        self._turns = Turns()
        self._hung_up = select.poll()
        if connections is None:
            connections = connections_bound(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._connections = connections
        self._buffers = buffers
        self._held: OrderedDict[Session, int] = OrderedDict()
        """Every open connection, oldest word first, with the bytes it holds."""
        self._held_total = 0
        self._of_process: Counter[int] = Counter()
        """How many connections each process has, by its number."""
        self._listeners: dict[socket.socket, str] = {}
        self._paused = False
        self._warn_again_at = 0.0
        self._resume_timer: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        """Cancelled work of closed connections: the loop itself would let it be collected."""
        self._changed = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._held)

    @property
    def buffered(self) -> int:
        """Bytes held for all of them together."""
        return self._held_total

    async def serve(self, sock: socket.socket, listener: str = "rpc") -> None:
        """Start accepting on a listening socket, which stays the caller's; returns at once.

        `listener` is the name its rights come from (`core.access`).
        """
        sock.setblocking(False)
        self._listeners[sock] = listener
        if not self._paused:
            asyncio.get_running_loop().add_reader(sock, self._on_newcomer, sock)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a cancellation
        """Let what is in flight end, refuse what comes after, then close every connection.

        Newcomers stay in the listening socket's queue, where the next broker finds them. What
        takes longer than `timeout` seconds is cancelled and its callers are told.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout
        self._stop_accepting()
        for session in list(self._held):
            session.start_refusing()
        await self._all_settled(min(give_up_at, loop.time() + LINGER))
        for session in list(self._held):
            session.stop_lingering()
        await self._all_settled(give_up_at)
        for session in list(self._held):
            session.give_up()
        await self._all_settled(loop.time() + LINGER)
        self.close()
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LINGER)

    def close(self) -> None:
        """Stop accepting and close every connection now; closing twice is no error."""
        self._stop_accepting()
        for session in list(self._held):
            session.close("stopped")
        self._gate.catch_up()

    def reconfigured(self) -> None:
        """Ask `headers_for_client` anew; to be called when its answer has changed."""
        self._express.forget()

    # -- newcomers ----------------------------------------------------------------------------

    def _on_newcomer(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            if len(self._held) >= self._connections and not self._evict("too_many_connections"):
                self._pause(None)
                return
            try:
                sock, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._on_accept_failed(error)
                return
            self._admit(sock, self._listeners[listening])
            if len(self._held) >= self._connections:
                return  # whether another one waits is for the loop to say

    def _admit(self, sock: socket.socket, listener: str) -> None:
        """Close it before a byte is read, or make it a session."""
        if self._has_hung_up(sock):  # in a storm most have: not worth a look at their process
            sock.close()
            return
        sock.setblocking(False)
        try:
            peer = self._peer_of(sock)
        except OSError as error:
            log.warning("peer unknown", extra={"LISTENER": listener, "REASON": str(error)})
            sock.close()
            return
        try:
            caller = self._gate.admit(peer, listener)
        except BrokerError:  # the gate has written it down
            peer.close()
            sock.close()
            return
        session = Session(
            sock,
            caller,
            self._methods,
            self._express,
            self,
            limits=self._limits,
            turns=self._turns,
        )
        self._held[session] = 0
        self._of_process[peer.pid] += 1

    def _has_hung_up(self, sock: socket.socket) -> bool:
        """Whether nobody is there any more who could read an answer (poll(2), POLLHUP)."""
        poll = self._hung_up
        poll.register(sock, 0)
        try:
            return bool(poll.poll(0))
        finally:
            poll.unregister(sock)

    def _on_accept_failed(self, error: OSError) -> None:
        """Pause, never spin; where the machine has run out of something, let one idle go."""
        now = asyncio.get_running_loop().time()
        if now >= self._warn_again_at:  # a flood of newcomers is no flood of lines
            self._warn_again_at = now + ACCEPT_PAUSE
            extra = {"REASON": error.strerror, "COUNT": len(self._held)}
            log.warning("accepting paused", extra=extra)
        self._pause(ACCEPT_PAUSE)
        if error.errno in _EXHAUSTED:
            self._evict("no_files_left")

    def _evict(self, reason: str) -> bool:
        """Close the oldest connection that has nothing in flight; False when there is none.

        Where one process has more than its share, close the oldest of that one, busy or not.
        """
        process, count = max(self._of_process.items(), key=itemgetter(1), default=(0, 0))
        is_greedy = count > OF_ONE_PROCESS
        for session in self._held:
            if session.process == process if is_greedy else session.may_be_evicted:
                session.close(reason)
                return True
        return False

    def _pause(self, seconds: float | None) -> None:
        """Leave newcomers in the queue until somebody leaves or, if told, so much time passes."""
        self._paused = True
        loop = asyncio.get_running_loop()
        for sock in self._listeners:
            loop.remove_reader(sock)
        if seconds is not None and self._resume_timer is None:
            self._resume_timer = loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._resume_timer is not None:
            self._resume_timer.cancel()
            self._resume_timer = None
        if self._paused:
            self._paused = False
            for sock in self._listeners:
                asyncio.get_running_loop().add_reader(sock, self._on_newcomer, sock)

    def _stop_accepting(self) -> None:
        if self._listeners:
            self._pause(None)
            self._listeners.clear()
        self._resume()  # only forgets the timer now

    # -- what sessions tell -------------------------------------------------------------------

    def session_moved(self, session: Session) -> None:
        """Keep the order of last words; what it has said keeps it from being evicted no more."""
        self._held.move_to_end(session)
        if self._paused:
            self.session_idle(session)

    def session_held(self, session: Session) -> None:
        """Keep the sum, and the sum within its bound."""
        if session not in self._held:
            return
        held = session.held
        self._held_total += held - self._held[session]
        self._held[session] = held
        while self._held_total > self._buffers:
            greediest = max(self._held, key=self._held.__getitem__)
            extra = {"REASON": "buffers_full", "COUNT": self._held[greediest]}
            log.warning("connection dropped", extra=extra)
            greediest.close("buffers_full")

    def session_idle(self, session: Session) -> None:
        """One more that may be evicted, or one less to wait for."""
        self._changed.set()
        if self._paused and self._resume_timer is None and session.idle:
            self._resume()

    def session_closed(self, session: Session) -> None:
        """Forget it, but not its work that is still being cancelled."""
        self._held_total -= self._held.pop(session, 0)
        self._of_process[session.process] -= 1
        if not self._of_process[session.process]:
            del self._of_process[session.process]
        for task in session.tasks:
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        self._changed.set()
        if self._paused:
            self._resume()

    async def _all_settled(self, until: float) -> None:
        """Wait for every session to settle, at most till then (loop time)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while not all(session.settled for session in self._held):
                    self._changed.clear()
                    await self._changed.wait()
