"""One daemon: its parts, and what ties them to the configuration of the moment.

A start: configuration → parts → sockets (systemd's, else our own) → kept logins → doors → READY.
A stop: STOPPING → nothing new, what is under way ends → broker → upstream → sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from brokerd import __version__
from brokerd.app.doctor import (
    Doctor,
    audit_check,
    grants_check,
    http_check,
    keys_check,
    lock_check,
)
from brokerd.app.http_side import HttpSide
from brokerd.app.runs import Runs
from brokerd.app.usage import UsageSide
from brokerd.app.wiring import about_app, login_request, upstream_of
from brokerd.broker import Broker
from brokerd.broker.kept_cooldowns import KeptCooldowns
from brokerd.core.audit import CONFINED
from brokerd.core.checks import Verdict
from brokerd.core.reach import needs_restart
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.gate import Gate
from brokerd.host import listeners
from brokerd.host.clock import SystemClock
from brokerd.host.confinement import landlock
from brokerd.host.confinement.file_limit import raise_file_limit
from brokerd.host.given_tokens import GivenTokens
from brokerd.host.logs import journal, redaction
from brokerd.host.logs.audit_log import FILE_NAME
from brokerd.host.logs.learning import LearningGitHub
from brokerd.host.peers import labels, peercred
from brokerd.host.service_manager import ServiceManager
from brokerd.host.socket_path import default_socket
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.rpc.failures import error_of
from brokerd.rpc.server import RpcServer
from brokerd.sockets.rounds import RoundLoop, rounds_of
from brokerd.sockets.turns import Turns
from brokerd.stores.file import FileStore
from brokerd.stores.index import AccountIndex
from brokerd.stores.keys import KeyFile
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore
from brokerd.stores.runs import FILE_NAME as RUNS_FILE
from brokerd.stores.runs import RunFile


if TYPE_CHECKING:
    import socket
    from collections.abc import Hashable

    from brokerd.app.setup import Setup
    from brokerd.core.checks import Check
    from brokerd.core.settings import AccountSettings
    from brokerd.dbus.bus import SessionBus
    from brokerd.ports import GitHub
    from brokerd.stores.ladder import CheckedStore


__all__ = ["run"]

log = logging.getLogger(__name__)

LOADING_TIMEOUT = 10.0
"""Seconds that READY waits for kept logins; a slow keyring then goes on loading behind it."""

DRAIN_TIMEOUT = 5.0
"""Seconds that requests under way have at a stop; upstream answers within it or is cut."""

STATUS_INTERVAL = 30.0
"""Seconds between looks at STATUS, which counts in minutes."""

RESTART = "restart required: systemctl --user restart copilot-broker"

RPC, HTTP = "rpc", "http"
"""FileDescriptorName= of the two socket units."""


def run(setup: Setup) -> int:
    """Serve until told to stop. Raises BrokerError when it cannot start."""
    with asyncio.Runner(loop_factory=RoundLoop) as runner:
        return runner.run(_Daemon(setup).serve())


class _Daemon:
    """One daemon: the parts, and what ties them to the configuration of the moment."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._manager = ServiceManager()
        self._clock = SystemClock()
        self._config = setup.load()
        self._config_problem = ""
        self._given = GivenTokens(os.environ)
        self._given.read(self._config)  # at once, so that nobody else finds them there
        self._started_at = time.monotonic()
        self._is_open = False
        self._retiring: set[asyncio.Task[None]] = set()
        self._configure_log()
        journal.log_uncaught()
        raise_file_limit()  # before the doors count how many connections fit
        self._upstream = upstream_of(self._config)
        self._bus: SessionBus | None = None
        self._stores = LoginStores(
            file=FileStore(setup.state_dir / "logins"),
            memory=MemoryStore(),
            secret_service=self._secret_service,
            default=self._config.store.kind,
        )
        self._index = index = AccountIndex(setup.state_dir / "accounts.json")
        self._pacer = pacer = Pacer(self._clock, self._person)
        cooldowns = KeptCooldowns(index, self._clock, pacer.cooling, pacer.restore)
        self._broker = Broker(
            clock=self._clock,
            github=self._github,
            stores=self._stores,
            index=index,
            settings=self._settings,
            cooldown=pacer.cooldown,
            cooldown_reason=lambda name: pacer.view(name).reason,
            on_loaded=cooldowns.restore,
            on_withdrawn=self._forget_secrets,
            given=lambda: self._given.read(self._config),
        )
        pacer.on_change(self._broker.announce)
        pacer.on_change(cooldowns.keep)  # after: it waits for the disk
        self._gate = gate = Gate(
            self._config.grants,
            default_account=self._broker.default_account,
            keys=KeyFile(setup.state_dir / "keys.json"),
        )
        doctor = Doctor(
            effective=setup.effective,
            config_problem=lambda: self._config_problem,
            store=self._stores.choose,
            accounts=self._broker.accounts,
            further=self._further_checks,
        )
        quotas = self._broker.quotas
        proxy = Proxy(
            self._broker, lambda: self._upstream.copilot, pacer, on_used_up=quotas.used_up
        )
        quotas.watch_headers(proxy.quota)
        self._usage = usage = UsageSide(
            setup.state_dir,
            config=lambda: self._config,
            models=proxy.peek_models,
            put_off=lambda late: rounds_of(asyncio.get_running_loop()).first(late),
        )
        turns = Turns()  # both doors' busy callers wait in one line
        self._rpc = RpcServer(
            self._broker,
            gate,
            peercred.peer_of,
            proxy=proxy,
            version=__version__,
            # Asked anew each time: a reload swaps the upstream.
            headers_for_client=lambda: self._upstream.headers_for_client(),  # noqa: PLW0108
            login_request=lambda params: login_request(self._config, params),
            extra_status=self._extra_status,
            about_app=about_app,
            peer_by_pid=peercred.peer_by_pid,
            checks=doctor.look,
            other_listeners=lambda: self._http.listeners,
            lease_run=lambda by, wanted: self._runs.lease(by, wanted),  # noqa: PLW0108 - made later
            usage=usage.report,
            on_completed=usage.over,
            turns=turns,
        )
        self._http = HttpSide(
            gate,
            self._broker,
            proxy,
            config=lambda: self._config,
            version=__version__,
            turns=turns,
            rpc_connections=lambda: self._rpc.connections,
            on_over=usage.over,
        )
        self._runs = Runs(gate, self._http, RunFile(setup.state_dir / RUNS_FILE))

    async def serve(self) -> int:
        """Listen, run the broker, stop on SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._drop_tokens)
        log.info("starting")
        self._log_confinement()
        if self._setup.notice:
            log.warning(self._setup.notice)
        with contextlib.ExitStack() as stack:
            sockets = self._sockets(stack)
            broker = asyncio.create_task(self._broker.run(), name="broker")
            tasks: list[asyncio.Task[Any]] = [broker]
            tasks.append(asyncio.create_task(self._inform_manager(), name="inform manager"))
            try:
                await self._open_doors(broker, sockets)
                waiter = asyncio.create_task(stop.wait(), name="stop")
                tasks.append(waiter)
                await asyncio.wait({broker, waiter}, return_when=asyncio.FIRST_COMPLETED)
                if broker.done():
                    broker.result()  # never ends by itself: raise what broke it
                await self._drain()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._close()
        log.info("stopped")
        return 0

    def _sockets(self, stack: contextlib.ExitStack) -> dict[str, socket.socket]:
        """Return the service manager's sockets by name, else our own."""
        sockets = self._manager.adopted_sockets()
        if not sockets:
            rpc = self._setup.socket or default_socket(os.environ)
            for name, path in ((RPC, rpc), (HTTP, rpc.with_name("http.sock"))):
                sockets[name] = listeners.bind_own(path)
                stack.enter_context(contextlib.closing(sockets[name]))
            log.info("listening", extra={"SOCKET": str(rpc)})
        elif RPC not in sockets:
            raise PermanentError(
                Failure(
                    ErrorClass.USAGE,
                    "no_rpc_socket",
                    f"the service manager handed over no socket named {RPC!r}",
                    "Install the units again: packaging/set-up",
                )
            )
        return sockets

    async def _open_doors(
        self, broker: asyncio.Task[None], sockets: dict[str, socket.socket]
    ) -> None:
        loaded = asyncio.create_task(self._broker.started.wait())
        await asyncio.wait(
            {loaded, broker}, timeout=LOADING_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        loaded.cancel()
        if broker.done():
            broker.result()
        for name, sock in sockets.items():
            if name == HTTP:
                await self._http.serve(sock)
            else:  # any further socket is one for RPC, with the rights that its name gives
                await self._rpc.serve(sock, name)
        await self._http.serve_tcp()
        self._usage.open()
        await self._runs.restore()
        self._broker.on_change(lambda: self._manager.status(self._status_line()))
        self._manager.ready(self._status_line())
        self._is_open = True
        log.info("ready", extra={"SUMMARY": self._broker.summary()})

    async def _drain(self) -> None:
        log.info("stopping")
        self._is_open = False
        self._manager.stopping("finishing what is under way")
        await asyncio.gather(self._http.drain(DRAIN_TIMEOUT), self._rpc.drain(DRAIN_TIMEOUT))

    async def _close(self) -> None:
        self._runs.close()
        self._http.close()
        self._rpc.close()
        await self._usage.close()
        self._gate.close()
        self._pacer.close()
        await self._upstream.aclose(patience=0)  # the doors have drained
        if self._bus is not None:
            self._bus.close()
        self._clock.close()

    async def _inform_manager(self) -> None:
        """Ping from the loop that serves: when it blocks, so does the ping; and keep STATUS true.

        The minutes that a token still has go by without anything that changes.
        """
        if not self._manager.present:
            return
        interval = min(self._manager.watchdog_interval or STATUS_INTERVAL, STATUS_INTERVAL)
        while True:
            self._manager.ping()
            if self._is_open:
                self._manager.status(self._status_line())
            await self._clock.sleep(interval)

    def _reload(self) -> None:
        """Take the changed configuration whole or not at all."""
        self._manager.reloading()
        try:
            config = self._setup.load()
            beyond = self._setup.reach_covers(config)
            beyond = beyond or needs_restart(self._config, config)
            problem = f"{RESTART} ({beyond})" if beyond else ""
        except BrokerError as error:
            problem = error.failure.message
        if problem:
            self._config_problem = problem
            log.error("configuration not reloaded, the old one stays", extra={"REASON": problem})
        else:
            self._config, self._config_problem = config, ""
            self._stores.default = config.store.kind
            self._configure_log()
            retired, self._upstream = self._upstream, upstream_of(config)
            self._gate.regrant(config.grants)
            self._rpc.reconfigured()
            self._broker.reconfigured()
            retiring = asyncio.create_task(retired.aclose(), name="close old upstream")
            self._retiring.add(retiring)  # the loop itself would let it be collected
            retiring.add_done_callback(self._retiring.discard)
            log.info("configuration reloaded")
        self._manager.ready(self._status_line())

    def _drop_tokens(self) -> None:
        """Do what ssh-agent does on SIGUSR1; GitHub's own logins stay."""
        self._broker.drop_tokens()
        self._upstream.copilot.forget_tokens()

    def _forget_secrets(self) -> None:
        """Forget what other parts keep of secrets that the broker has let go of."""
        self._upstream.copilot.forget_tokens()
        redaction.forget_all_secrets()

    def _configure_log(self) -> None:
        audit_log = self._setup.state_dir / FILE_NAME
        sink = journal.configure(self._config.log.level, audit_log=audit_log)
        self._audit_file = None if isinstance(sink, journal.JournalSink) else str(audit_log)

    def _further_checks(self) -> list[Check]:
        return [
            lock_check(is_locked=self._broker.is_locked),
            grants_check(self._gate.rules, has_labels=bool(labels.process_label(os.getpid()))),
            audit_check(self._audit_file),
            http_check(self._http.listeners, self._config.http.tcp, self._http.failure),
            self._usage.check(),
            keys_check(self._gate.read_keys, is_needed=bool(self._config.http.tcp)),
        ]

    def _log_confinement(self) -> None:
        """Write down once what holds, and say of each of the rest why it does not."""
        held = ", ".join(check.name for check in self._setup.checks if check.holds)
        lacking = [check for check in self._setup.checks if not check.holds]
        lacks = ", ".join(check.name for check in lacking)
        log.info(CONFINED.message, extra=CONFINED.extra(HOLDS=held, LACKS=lacks))
        for check in lacking:
            # Landlock is ours to bring along, the rest of the warnings the machine's.
            if check.verdict is Verdict.ERROR or check.name == landlock.FILES:
                log.warning(
                    "less confined than it could be",
                    extra={"LAYER": check.name, "REASON": check.told, "MEND": check.mend},
                )

    def _status_line(self) -> str:
        parts = [self._broker.summary()]
        if self._setup.notice:
            parts.insert(0, "SIMULATED")
        if self._config_problem:
            parts.append(f"configuration not reloaded: {self._config_problem}")
        if self._http.failure is not None:
            parts.append(str(self._http.failure))
        return "; ".join(parts)

    def _extra_status(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "uptime": time.monotonic() - self._started_at,
            "notice": self._setup.notice,
            "simulated": bool(self._setup.notice),
            "store": {"kind": self._config.store.kind},
            "config_problem": self._config_problem or None,
            "audit": {"file": self._audit_file},
            "http": {
                "socket": HTTP in self._http.listeners,
                "tcp": self._config.http.tcp or None,
                "error": problem.to_map() if (problem := error_of(self._http.failure)) else None,
            },
            "usage": self._usage.status(),
            "confinement": [check.name for check in self._setup.checks if check.holds],
        }

    def _secret_service(self) -> CheckedStore:
        """Make it when first needed: GLib costs memory that a signed-out daemon can spare."""
        try:
            from brokerd.dbus.bus import SessionBus  # noqa: PLC0415
            from brokerd.dbus.secret_service import SecretServiceStore  # noqa: PLC0415
        except ImportError as error:
            raise PermanentError(
                Failure(
                    ErrorClass.STORE_UNAVAILABLE,
                    "pydbus_missing",
                    f"the Secret Service cannot be asked: {error.name} is missing",
                    "Install python3-pydbus, or run: copilot-cred login --store file",
                )
            ) from error
        self._bus = SessionBus()
        return SecretServiceStore(self._bus)

    def _github(self, name: str) -> GitHub:
        return LearningGitHub(self._upstream(name))

    def _person(self, account: str) -> Hashable:
        """Say whose it is: names are aliases, and Copilot limits persons."""
        entry = self._index.entries().get(account)
        return account if entry is None else entry.key

    def _settings(self, name: str) -> AccountSettings:
        return self._config.account(name)
