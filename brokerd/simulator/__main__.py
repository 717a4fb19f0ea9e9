"""`python -m brokerd.simulator`: a GitHub on loopback until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import textwrap

from brokerd.simulator import refusals
from brokerd.simulator.quirks import QUIRKS
from brokerd.simulator.server import Simulator


def _epilog() -> str:
    """Tell what can be asked for by name."""
    width = max(map(len, QUIRKS))
    lines = [f"  {name:{width}}  {quirk.about}" for name, quirk in QUIRKS.items()]
    faults = textwrap.fill(
        " ".join(refusals.NAMES), 78, initial_indent="  ", subsequent_indent="  ",
        break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join(
        [
            "quirks of chat answers, for all (--chat-quirk) or for one: ask for the model",
            "sim-quirk-NAME or sim-quirk-NAME+NAME:",
            *lines,
            "",
            'faults, each for one answer: POST /_control/faults {"named": ["NAME", …]}:',
            faults,
            "",
            "all other strings: pydoc brokerd.simulator.control, brokerd.simulator.settings",
        ]
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m brokerd.simulator",
        description=__doc__,
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        "--api-base", metavar="URL", help="send clients to another Copilot API than this one"
    )
    parser.add_argument(
        "--chat-quirk", action="append", choices=list(QUIRKS), default=[], metavar="NAME",
        help="one of those below; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--chat-chunks", type=int, metavar="N", help="events with text, default: one a word"
    )
    parser.add_argument(
        "--chat-interval", type=float, default=0, metavar="S", help="between events, default: 0"
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
        api_base=arguments.api_base,
        chat_quirks=arguments.chat_quirk,
        chat_chunks=arguments.chat_chunks,
        chat_interval=arguments.chat_interval,
    ) as simulator:
        line = simulator.url if arguments.print_url else f"simulated GitHub on {simulator.url}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
