"""`python -m brokerd.simulator`: a GitHub on loopback until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import textwrap
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from brokerd.simulator import control, github_refusals, refusals
from brokerd.simulator.quirks import QUIRKS
from brokerd.simulator.server import Simulator
from brokerd.simulator.settings import Settings


if TYPE_CHECKING:
    from collections.abc import Iterable


def _epilog() -> str:
    """Tell what can be asked for by name."""
    width = max(map(len, QUIRKS))
    lines = [f"  {name:{width}}  {quirk.about}" for name, quirk in QUIRKS.items()]
    settings = [f"{each.name}={getattr(Settings(), each.name)!r}" for each in fields(Settings)]
    return "\n".join(
        [
            "quirks of chat answers, for all (--chat-quirk) or for one: ask for the model",
            "sim-quirk-NAME or sim-quirk-NAME+NAME:",
            *lines,
            "",
            'faults, each for one answer: POST /_control/faults {"named": ["NAME", …]}:',
            _filled(refusals.NAMES),
            "",
            'those of GitHub\'s own paths: {"path": "/user", "named": ["NAME", …]}:',
            _filled(github_refusals.NAMES),
            "",
            "settings (--set NAME=JSON, or POST /_control/settings while it runs), as they are:",
            _filled(settings),
            "",
            "Called by one of GitHub's real names (Host) it is that host alone and tells the real",
            "addresses. All that can be told it while it runs:",
            "",
            (control.__doc__ or "").partition("\n\n")[2],
            "What a setting means: pydoc brokerd.simulator.settings; a fault: …simulator.faults",
        ]
    )


def _filled(names: Iterable[str]) -> str:
    return textwrap.fill(
        " ".join(names), 78, initial_indent="  ", subsequent_indent="  ",
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def _setting(text: str) -> tuple[str, Any]:
    """Read NAME=JSON; what is no JSON is a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=JSON")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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
        "--set", action="append", type=_setting, default=[], metavar="NAME=JSON", dest="settings",
        help="any of the settings below; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--print-url", action="store_true", help="print the bare URL on stdout, nothing else"
    )
    arguments = parser.parse_args()
    chosen = {
        "auto_approve": arguments.auto_approve,
        "token_lifetime": arguments.token_lifetime,
        "refresh_in": arguments.refresh_in,
        "device_interval": arguments.interval,
        "api_base": arguments.api_base,
        "chat_quirks": arguments.chat_quirk,
        "chat_chunks": arguments.chat_chunks,
        "chat_interval": arguments.chat_interval,
    }
    arguments.settings = chosen | dict(arguments.settings)
    try:
        Settings().change(arguments.settings)
    except KeyError as error:
        parser.error(f"unknown setting {error.args[0]}")
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    return arguments


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    async with Simulator(port=arguments.port, **arguments.settings) as simulator:
        line = simulator.url if arguments.print_url else f"simulated GitHub on {simulator.url}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
