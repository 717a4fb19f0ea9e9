"""The composition root: the one file that knows every edge and wires them together.

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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokerd import __version__
from brokerd.broker import Broker, LoginRequest
from brokerd.broker.kept_cooldowns import KeptCooldowns
from brokerd.core.audit import CONFINED
from brokerd.core.checks import Verdict
from brokerd.core.setting_checks import NotAllowedError, account_name, client_id, host, scope
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.gate import Gate
from brokerd.gateway.unavailable import UnavailableDoor
from brokerd.host import journal, landlock, listeners, peercred
from brokerd.host.clock import SystemClock
from brokerd.host.file_limit import raise_file_limit
from brokerd.host.learning import LearningGitHub
from brokerd.host.service_manager import ServiceManager
from brokerd.host.socket_path import default_socket
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.rpc.server import RpcServer
from brokerd.stores.file import FileStore
from brokerd.stores.index import AccountIndex
from brokerd.stores.ladder import LoginStores
from brokerd.stores.memory import MemoryStore
from brokerd.upstream import Upstream, UpstreamSettings, preset_for


if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Hashable, Mapping
    from pathlib import Path

    from brokerd.config import AccountSettings, Config
    from brokerd.core.checks import Check
    from brokerd.dbus.bus import SessionBus
    from brokerd.ports import GitHub
    from brokerd.stores.ladder import CheckedStore


__all__ = ["Setup", "run"]

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


@dataclass(frozen=True)
class Setup:
    """What argv and environment decided."""

    load: Callable[[], Config]
    """Reads the configuration anew; raises ConfigError."""
    state_dir: Path
    socket: Path | None = None
    """Where to listen without a service manager; None: the runtime directory."""
    notice: str = ""
    """Said loudly at start and in `status`: what is unusual about this daemon."""
    checks: list[Check] = field(default_factory=list)
    """How far this process is confined."""
    reach_covers: Callable[[Config], str] = lambda _: ""
    """Say what a changed configuration needs that was given up at the start; "" for nothing."""


def run(setup: Setup) -> int:
    """Serve until told to stop. Raises BrokerError when it cannot start."""
    return asyncio.run(_Daemon(setup).serve())


class _Daemon:
    """One daemon: the parts, and what ties them to the configuration of the moment."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._manager = ServiceManager()
        self._clock = SystemClock()
        self._config = setup.load()
        self._config_problem = ""
        self._started_at = time.monotonic()
        self._is_open = False
        self._retiring: set[asyncio.Task[None]] = set()
        journal.configure(self._config.log.level)
        journal.log_uncaught()
        raise_file_limit()  # before the doors count how many connections fit
        self._upstream = _upstream(self._config)
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
        )
        pacer.on_change(self._broker.announce)
        pacer.on_change(cooldowns.keep)  # after: it waits for the disk
        gate = Gate()
        quotas = self._broker.quotas
        proxy = Proxy(
            self._broker, lambda: self._upstream.copilot, pacer, on_used_up=quotas.used_up
        )
        quotas.watch_headers(proxy.quota)
        self._rpc = RpcServer(
            self._broker,
            gate,
            peercred.peer_of,
            proxy=proxy,
            version=__version__,
            # Asked anew each time: a reload swaps the upstream.
            headers_for_client=lambda: self._upstream.headers_for_client(),  # noqa: PLW0108
            login_request=self._login_request,
            extra_status=self._extra_status,
            about_app=_about_app,
        )
        self._http = UnavailableDoor(gate, peercred.peer_of)

    async def serve(self) -> int:
        """Listen, run the broker, stop on SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
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
        await self._rpc.serve(sockets[RPC])
        if HTTP in sockets:
            await self._http.serve(sockets[HTTP])
        self._broker.on_change(lambda: self._manager.status(self._status_line()))
        self._manager.ready(self._status_line())
        self._is_open = True
        log.info("ready", extra={"SUMMARY": self._broker.summary()})

    async def _drain(self) -> None:
        log.info("stopping")
        self._is_open = False
        self._manager.stopping("finishing what is under way")
        self._http.close()
        await self._rpc.drain(DRAIN_TIMEOUT)

    async def _close(self) -> None:
        self._http.close()
        self._rpc.close()
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
            problem = f"{RESTART} ({beyond})" if beyond else ""
        except BrokerError as error:
            problem = error.failure.message
        if problem:
            self._config_problem = problem
            log.error("configuration not reloaded, the old one stays", extra={"REASON": problem})
        else:
            self._config, self._config_problem = config, ""
            self._stores.default = config.store.kind
            journal.configure(config.log.level)
            retired, self._upstream = self._upstream, _upstream(config)
            self._rpc.reconfigured()
            self._broker.reconfigured()
            retiring = asyncio.create_task(retired.aclose(), name="close old upstream")
            self._retiring.add(retiring)  # the loop itself would let it be collected
            retiring.add_done_callback(self._retiring.discard)
            log.info("configuration reloaded")
        self._manager.ready(self._status_line())

    def _log_confinement(self) -> None:
        """Write down once what holds, and say of each of the rest why it does not."""
        held = [check.name for check in self._setup.checks if check.holds]
        lacking = [check for check in self._setup.checks if not check.holds]
        log.info(
            CONFINED.message,
            extra={
                "MESSAGE_ID": CONFINED.message_id,
                "HOLDS": ", ".join(held),
                "LACKS": ", ".join(check.name for check in lacking),
            },
        )
        for check in lacking:
            if (
                check.verdict is Verdict.ERROR or check.name == landlock.FILES
            ):  # ours to bring along
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
        return "; ".join(parts)

    def _extra_status(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "uptime": time.monotonic() - self._started_at,
            "notice": self._setup.notice,
            "simulated": bool(self._setup.notice),
            "store": {"kind": self._config.store.kind},
            "config_problem": self._config_problem or None,
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

    def _login_request(self, params: Mapping[str, Any]) -> LoginRequest:
        """Fill what the caller left open from the account's settings."""
        account = _checked("account", params.get("account") or DEFAULT_ACCOUNT, account_name)
        settings = self._config.account(account)
        client = _checked("client_id", params.get("client_id") or settings.client_id, client_id)
        wanted = _checked("scope", params.get("scope") or settings.scope, scope)
        preset = preset_for(client, wanted)
        return LoginRequest(
            account=account,
            host=_checked("host", params.get("host") or settings.host, host),
            client_id=preset.client_id,
            scope=preset.scope,
            token=params.get("token"),
            store=params.get("store"),
        )


def _upstream(config: Config) -> Upstream:
    """Return the configured way to GitHub; it connects when first asked."""
    return Upstream(
        UpstreamSettings(
            login=config.urls.login,
            api=config.urls.api,
            copilot=config.urls.copilot,
            completions=config.urls.completions,
            proxy=config.network.proxy,
            ca_file=config.network.ca_file,
            identity=config.identity,
        )
    )


def _checked(name: str, value: str, check: Callable[[str], str]) -> str:
    """Hold what a caller sends to the rules of the configuration."""
    try:
        return check(value)
    except NotAllowedError as allowed:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                f"bad_{name}",
                f"{name} must be {allowed}",
                "See: copilot-cred login --help",
            )
        ) from None


def _about_app(request: LoginRequest) -> Mapping[str, object]:
    """Whom the person approves on GitHub's page, and what that means."""
    preset = preset_for(request.client_id, request.scope, host=request.host)
    notice = (
        "copilot-broker is unofficial; one login is one person; use counts against your own plan"
    )
    return {
        "app": preset.app,
        "client": preset.name,
        "means": list(preset.means),
        "notice": notice,
    }
