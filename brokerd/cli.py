"""`copilot-brokerd`: argv to a running daemon and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd import __version__
from brokerd import config as configuration
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Sequence

    from brokerd.app import Setup
    from brokerd.config import Config


__all__ = ["main"]

EPILOG = """\
Under systemd the daemon is started by its socket:  systemctl --user start copilot-broker.socket
In a terminal it binds its own sockets in $XDG_RUNTIME_DIR/copilot-broker/ and logs to stderr.
Then sign in with:  copilot-cred login

signals: SIGTERM, SIGINT finish what is under way and stop; SIGHUP reloads the configuration.
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
    from brokerd.host import confinement  # noqa: PLC0415 (first of all: nothing secret before it)

    held = confinement.before_secrets()

    def load() -> Config:
        return configuration.load(arguments.config, os.environ)

    if arguments.check_config:
        load()
        print(f"{arguments.config or configuration.where(os.environ)}: good")
        return 0

    from brokerd import app  # noqa: PLC0415 (the edges are heavy; --help and --version need none)
    from brokerd.stores.private_files import state_dir  # noqa: PLC0415

    setup = app.Setup(load=load, state_dir=state_dir(os.environ), confinement=held)
    if arguments.socket is not None:
        setup = replace(setup, socket=arguments.socket)
    with ExitStack() as stack:
        if arguments.simulate:
            setup = _simulated(setup, arguments.simulate, stack)
        return app.run(setup)


def _simulated(setup: Setup, approval: str, stack: ExitStack) -> Setup:
    """Point the daemon at a simulator of its own: other URLs, another state folder, no more."""
    from brokerd.simulator import SimulatorThread  # noqa: PLC0415 (aiohttp, only when asked for)

    simulator = stack.enter_context(
        SimulatorThread(auto_approve=approval == "auto", device_interval=1.0)
    )

    def load() -> Config:
        real = setup.load()
        url = simulator.url
        urls = replace(real.urls, login=url, api=url, copilot=url, completions=url)
        store = replace(real.store, kind="memory") if real.store.kind == "auto" else real.store
        return replace(real, urls=urls, store=store)

    print(f"copilot-brokerd: {SIMULATED} ({simulator.url})", file=sys.stderr)
    return replace(
        setup,
        load=load,
        state_dir=setup.state_dir.with_name("copilot-broker-simulated"),
        notice=SIMULATED,
    )
