"""Where the broker that runs serves HTTP, as `broker.status` tells it: for `status` and `key`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.display import wrapped
from copilot_broker.cli.report import Refusal, printable, words
from copilot_broker.wire.address import http_socket_path


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["base_urls", "http_lines", "http_socket", "tcp_door"]

NO_TCP = """\
Nothing is served by TCP. For that set [http] tcp = "127.0.0.1:4141" in
config.toml, then: systemctl --user restart copilot-broker
"""


def http_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield where it is served, and what is in the way; nothing of a broker that serves none."""
    http = status.get("http")
    if not isinstance(http, Mapping):
        return
    error = Refusal.from_map(http.get("error"))
    places = [http_socket()] if http.get("socket") else []
    if http.get("tcp") and error is None:
        places.append(str(http["tcp"]))
    yield wrapped(f"HTTP on {' and '.join(places) or 'no socket'}", hanging="  ")
    if error is not None:
        yield from (wrapped(line, "  ", "    ") for line in words(error, "error"))


def base_urls(status: Mapping[str, Any]) -> str:
    """Return, in lines, what programs take as their base URL."""
    http = status.get("http")
    http = http if isinstance(http, Mapping) else {}
    tcp, told = tcp_door(status)
    if not told:
        told = (
            f"Base URL for OpenAI's API:     http://{tcp}/v1\n"
            f"         for Anthropic's API:  http://{tcp}\n"
        )
    if http.get("socket"):
        told += "Over this socket no key is needed, and it is http://localhost/v1:\n"
        told += f"  {http_socket()}\n"
    return told


def tcp_door(status: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return the address of the TCP door, if one is set, and in lines why it is not served."""
    http = status.get("http")
    http = http if isinstance(http, Mapping) else {}
    tcp = printable(http["tcp"]) if http.get("tcp") else None
    error = Refusal.from_map(http.get("error"))
    if error is not None:
        return tcp, "".join(f"{wrapped(line, hanging='  ')}\n" for line in words(error, "but now"))
    return tcp, "" if tcp else NO_TCP


def http_socket() -> str:
    """Return the path of the HTTP door's socket, beside the broker's own."""
    return printable(http_socket_path())
