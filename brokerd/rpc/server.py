"""The RPC door: accepts connections, closes those that may not be, and keeps all within bounds.

The order for a newcomer is: accept → peer credentials → gate → only then is its socket read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from typing import TYPE_CHECKING, Any

from brokerd.errors import BrokerError
from brokerd.rpc.express import ExpressLane
from brokerd.rpc.methods import Methods
from brokerd.rpc.methods.doctor import DoctorMethods
from brokerd.rpc.methods.grants import GrantMethods
from brokerd.rpc.methods.keys import KeyMethods, no_runs
from brokerd.rpc.methods.quota import QuotaMethods
from brokerd.rpc.methods.usage import UsageMethods, nothing_counted
from brokerd.rpc.session import EVENTS_AT_ONCE, Session
from brokerd.sockets.files import shares_now
from brokerd.sockets.hall import Hall
from brokerd.sockets.turns import Turns
from copilot_broker.wire.limits import CONNECTIONS, TOTAL_BUFFERS, Limits


if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from brokerd.broker import Broker
    from brokerd.core.checks import Check
    from brokerd.core.ledger.asked import Asked, Report
    from brokerd.core.peer import Peer, PeerOf
    from brokerd.gate import Gate
    from brokerd.proxy import Proxy
    from brokerd.proxy.outcome import Outcome
    from brokerd.rpc.methods.keys import LeaseRun
    from brokerd.views import LoginRequest


__all__ = ["RpcServer"]

log = logging.getLogger(__name__)

LINGER = 0.5
"""Seconds that a stopping broker waits for callers who just connected, and for last bytes."""


def _nobody(_pid: int) -> Peer:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


async def _no_checks() -> Sequence[Check]:
    return ()


class RpcServer(Hall[Session]):
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
        lease_run: LeaseRun = no_runs,
        usage: Callable[[Asked], Awaitable[Report]] = nothing_counted,
        on_completed: Callable[[Outcome], None] = lambda _outcome: None,
        turns: Turns | None = None,
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
        `lease_run` serves by HTTP the process that asks for it, until it ends.
        `usage` answers from the ledger; `on_completed` is told what became of each completion,
        before its caller is.
        `turns` is the line in which this door's busy callers wait together with those of others.
        `limits`, `connections` and `buffers` (bytes) lower the bounds, for tests.
        """
        most = min(CONNECTIONS, shares_now().rpc) if connections is None else connections
        super().__init__(most, buffers)
        self._gate = gate
        self._peer_of = peer_of
        grants = GrantMethods(
            gate, peer_by_pid, lambda: {*self._acceptor.listeners, *other_listeners()}
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
                KeyMethods(gate, broker, lease_run).rows(),
                DoctorMethods(checks).rows(),
                QuotaMethods(broker.quotas).rows(),
                UsageMethods(usage).rows(),
            ],
            on_completed=on_completed,
        )
        self._express = ExpressLane(broker, headers_for_client)
        self._limits = limits or Limits(queued_events=EVENTS_AT_ONCE)
        self._turns = turns or Turns()
        self._leaving: set[asyncio.Task[None]] = set()
        """Cancelled work of closed connections: the loop itself would let it be collected."""

    async def serve(self, sock: socket.socket, listener: str = "rpc") -> None:
        """Start accepting on a listening socket, which stays the caller's; returns at once.

        `listener` is the name its rights come from (`core.access`).
        """
        self._acceptor.serve(sock, listener)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound, not a cancellation
        """Let what is in flight end, refuse what comes after, then close every connection.

        Newcomers stay in the listening socket's queue, where the next broker finds them. What
        takes longer than `timeout` seconds is cancelled and its callers are told.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + timeout
        self._acceptor.stop()
        for session in self._crowd:
            session.start_refusing()
        await self._crowd.all_settled(min(give_up_at, loop.time() + LINGER))
        for session in self._crowd:
            session.stop_lingering()
        await self._crowd.all_settled(give_up_at)
        for session in self._crowd:
            session.give_up()
        await self._crowd.all_settled(loop.time() + LINGER)
        self.close()
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LINGER)

    def close(self) -> None:
        """Stop accepting and close every connection now; closing twice is no error."""
        self._acceptor.stop()
        for session in self._crowd:
            session.close("stopped")
        self._gate.catch_up()

    def reconfigured(self) -> None:
        """Ask `headers_for_client` anew; to be called when its answer has changed."""
        self._express.forget()

    # -- newcomers ----------------------------------------------------------------------------

    def _admit(self, sock: socket.socket, listener: str) -> None:
        """Close it before a byte is read, or make it a session."""
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
        self._crowd.add(session)

    # -- what sessions tell -------------------------------------------------------------------

    def session_closed(self, session: Session) -> None:
        """Forget it, but not its work that is still being cancelled."""
        super().session_closed(session)
        for task in session.tasks:
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
