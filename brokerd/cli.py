"""`copilot-brokerd`: argv to a running daemon and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd import __version__
from brokerd import config as configuration
from brokerd.core.loopback import host_and_port
from brokerd.core.reach import reach_of
from brokerd.errors import BrokerError
from brokerd.host.socket_path import default_socket
from brokerd.stores.private_files import make_folder, state_dir
from brokerd.stores.runs import FILE_NAME as RUNS_FILE
from brokerd.stores.runs import RunFile


if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brokerd.config import Config
    from brokerd.core.reach import Reach
    from brokerd.simulator import SimulatorThread


__all__ = ["main"]

EPILOG = """\
Under systemd the daemon is started by its socket:  systemctl --user start copilot-broker.socket
In a terminal it binds its own sockets in $XDG_RUNTIME_DIR/copilot-broker/ and logs to stderr.
Then sign in with:  copilot-cred login

signals: SIGTERM, SIGINT finish what is under way and stop; SIGHUP reloads the configuration;
SIGUSR1 drops all Copilot tokens, and has new ones fetched.
"""

SIMULATED = (
    "SIMULATED: this broker talks to a built-in stand-in for GitHub; its tokens are worthless"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop; returns the exit code (DESIGN: 0, 1, 2, 3, 9)."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except BrokerError as error:
        print(f"copilot-brokerd: {error.failure}", file=sys.stderr)
        return int(error.failure.error_class)
    except ModuleNotFoundError as error:
        print(
            f"copilot-brokerd: {error.name} is missing. Run: pip install 'copilot-broker[daemon]'",
            file=sys.stderr,
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="copilot-brokerd",
        description="Own the GitHub login and lend short-lived Copilot tokens to local programs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration (default: $COPILOT_BROKER_CONFIG, else"
        " ~/.config/copilot-broker/config.toml)",
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="read the configuration, say if it is good, stop",
    )
    parser.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="without systemd: where to listen (default: $COPILOT_BROKER_SOCKET, else"
        " $XDG_RUNTIME_DIR/copilot-broker/broker.sock)",
    )
    parser.add_argument(
        "--simulate",
        nargs="?",
        const="auto",
        choices=("auto", "page"),
        help="run against a built-in stand-in for GitHub; 'auto' (the default) approves each login"
        " by itself, 'page' waits for you on a web page",
    )
    parser.add_argument("--version", action="version", version=f"copilot-brokerd {__version__}")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from brokerd.host.confinement import layers as confinement  # noqa: PLC0415 (first of all: nothing secret before it)

    checks = confinement.before_secrets()
    from brokerd.host.confinement.surroundings import surroundings  # noqa: PLC0415 (OpenSSL)

    def load() -> Config:
        return configuration.load(arguments.config, os.environ)

    config_file = arguments.config or configuration.where(os.environ)
    if arguments.check_config:
        load()
        print(f"{config_file}: good")
        return 0
    with ExitStack() as stack:
        state, simulator = state_dir(os.environ), None
        if arguments.simulate:
            simulator, load, state = _simulated(load, state, arguments.simulate)
        socket = None if _is_handed_sockets() else arguments.socket or default_socket(os.environ)
        _make_folders(config_file, state, socket)
        around = surroundings(
            os.environ,
            config_file=config_file,
            state_dir=state,
            socket_dir=None if socket is None else socket.parent,
            run_ports=_run_ports(state),
        )

        def reach(config: Config) -> Reach:
            return reach_of(config, os.environ, around)

        given = reach(load())
        checks += confinement.confine(given)  # from here on: files and ports of `given`, no more
        checks += confinement.from_outside()

        from brokerd import app  # noqa: PLC0415 (the edges are heavy; --help needs none)

        if simulator is not None:
            stack.enter_context(simulator)
            print(f"copilot-brokerd: {SIMULATED} ({simulator.url})", file=sys.stderr)
        return app.run(
            app.Setup(
                load=load,
                state_dir=state,
                socket=socket,
                notice="" if simulator is None else SIMULATED,
                checks=checks,
                effective=lambda: confinement.effective(given),
                reach_covers=lambda config: given.lacks(reach(config)),
            )
        )


def _is_handed_sockets() -> bool:
    """Whether the service manager listens for us (sd_listen_fds(3))."""
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def _make_folders(config_file: Path, state: Path, socket: Path | None) -> None:
    """Make what can only be permitted once it is there; who uses it says what is wrong."""
    if not os.environ.get("COPILOT_BROKER_CONFIG"):
        with suppress(OSError):  # so that a configuration written later can be reloaded
            config_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(BrokerError):
        make_folder(state)
    if socket is not None:
        with suppress(OSError):
            socket.parent.mkdir(mode=0o700)


def _run_ports(state: Path) -> tuple[int, ...]:
    """Return where the runs are served that outlived the daemon before this one."""
    with suppress(BrokerError):
        return tuple(host_and_port(run.key.at)[1] for run in RunFile(state / RUNS_FILE).load())
    return ()


def _simulated(
    load: Callable[[], Config], state: Path, approval: str
) -> tuple[SimulatorThread, Callable[[], Config], Path]:
    """Make a simulator that already has its port, what points the daemon there, and its state."""
    from brokerd.simulator import SimulatorThread, listening_socket  # noqa: PLC0415 (aiohttp)

    bound = listening_socket()
    host, port = bound.getsockname()
    url = f"http://{host}:{port}"
    simulator = SimulatorThread(bound=bound, auto_approve=approval == "auto", device_interval=1.0)

    def simulated() -> Config:
        real = load()
        urls = replace(real.urls, login=url, api=url, copilot=url, completions=url)
        store = replace(real.store, kind="memory") if real.store.kind == "auto" else real.store
        # A real token has no business with a stand-in.
        accounts = {name: replace(each, source="login") for name, each in real.accounts.items()}
        return replace(real, urls=urls, store=store, accounts=accounts)

    return simulator, simulated, state.with_name("copilot-broker-simulated")
