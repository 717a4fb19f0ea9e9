"""`python -m brokerd.simulator`: a GitHub on loopback until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from brokerd.simulator.server import Simulator


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m brokerd.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 = a free one (default)")
    parser.add_argument("--auto-approve", action="store_true", help="approve each login at once")
    parser.add_argument(
        "--token-lifetime", type=float, default=1800, metavar="S", help="default: 1800"
    )
    parser.add_argument(
        "--refresh-in", type=float, default=1500, metavar="S", help="default: 1500"
    )
    parser.add_argument(
        "--interval", type=float, default=5, metavar="S", help="between polls, default: 5"
    )
    parser.add_argument(
        "--print-url", action="store_true", help="print the bare URL on stdout, nothing else"
    )
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with Simulator(
        port=arguments.port,
        auto_approve=arguments.auto_approve,
        token_lifetime=arguments.token_lifetime,
        refresh_in=arguments.refresh_in,
        device_interval=arguments.interval,
    ) as simulator:
        line = simulator.url if arguments.print_url else f"simulated GitHub on {simulator.url}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
