"""What the drivers in Python share. A driver plays scenes and tells what came of them as JSON.

Stdin: {"root", "key", "wrong_key", "limited_key", "socket"}. Stdout: {way: {scene: what it
returned, or {"failed": …}}}, for the ways `tcp` (with the key) and `unix` (without).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import json
import struct
import sys
import traceback
import zlib
from dataclasses import dataclass
from typing import Any


WISH = 'Please use get_weather with {"city": "Zürich"} and tell me.'
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@dataclass
class Way:
    """How the broker is reached."""

    name: str
    root: str
    key: str
    wrong_key: str
    limited_key: str
    socket: str | None


def picture() -> str:
    """Return a PNG of one pixel, base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        framed = kind + data
        return struct.pack(">I", len(data)) + framed + struct.pack(">I", zlib.crc32(framed))

    parts = (
        chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
        chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")),
        chunk(b"IEND", b""),
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def weather(city: str) -> str:
    """Be the tool."""
    return f"rain in {city}"


def scenes(module: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("scene_"): each
        for name, each in module.items()
        if name.startswith("scene_")
    }


def play(module: dict[str, Any]) -> None:
    """Play every `scene_…` of the module over both ways."""
    given = json.load(sys.stdin)
    socket = given.pop("socket")
    ways = [
        Way("tcp", socket=None, **given),
        Way("unix", socket=socket, **given | {"root": "http://localhost", "key": "not-needed"}),
    ]
    with contextlib.redirect_stdout(sys.stderr):  # litellm talks to people
        told = {way.name: _played_all(module, way) for way in ways}
    json.dump(told, sys.stdout)


def _played_all(module: dict[str, Any], way: Way) -> dict[str, Any]:
    """A scene named `tcp_…` is for that way only."""
    return {
        name: _played(each, way)
        for name, each in scenes(module).items()
        if way.name == "tcp" or not name.startswith("tcp_")
    }


def _played(scene: Any, way: Way) -> Any:
    try:
        done = scene(way)
        return asyncio.run(done) if inspect.iscoroutine(done) else done
    except Exception as error:
        lines = traceback.format_exc().splitlines()[-12:]
        return {"failed": f"{type(error).__name__}: {error}"[:2000], "where": lines}


def refused(error: Any) -> dict[str, Any]:
    """Tell what a library makes of a refusal."""
    response = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None)  # its response is made up
    if headers is None:
        headers = {} if response is None else response.headers
    body = getattr(error, "body", None)
    return {
        "kind": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "retry_after": headers.get("retry-after"),
        "body": body if isinstance(body, dict) else None,
        "text": str(error)[:300],
    }
