"""How much of anything a peer may make us hold, each bound with its reason.

`Limits` is what one `Connection` enforces by itself; the constants after it are for whoever owns
many connections. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


__all__ = [
    "CONNECTIONS",
    "FRAME_TIMEOUT",
    "LARGE_METHODS",
    "MAX_CREDIT",
    "MAX_DEPTH",
    "MAX_FRAME",
    "MAX_ITEMS",
    "MAX_LARGE_FRAME",
    "MAX_NOTIFY_WRAPPER",
    "MAX_QUEUED_EVENTS",
    "REQUESTS_IN_FLIGHT",
    "STREAM_WINDOW",
    "TOTAL_BUFFERS",
    "Limits",
]

MAX_FRAME = 256 * 1024
"""One request. The largest of ours is some hundred bytes; a hello with Lua code a few thousand."""

MAX_LARGE_FRAME = 32 * 1024 * 1024
"""One request of `LARGE_METHODS`, and anything a broker answers: images travel inside a prompt."""

LARGE_METHODS = frozenset({b"completion.create"})
"""Methods whose request carries a prompt."""

MAX_DEPTH = 32
"""Nesting; ours is six deep. The decoder recurses in C, so this also bounds its stack."""

MAX_ITEMS = 16 * 1024
"""Values in one message. One byte on the wire (`90`, an empty array) becomes 56 bytes and more in
memory: this many of the dearest kind stay near one MiB."""

FRAME_TIMEOUT = 10.0
"""From a frame's first byte to its last. Local peers need milliseconds; idle is free."""

MAX_QUEUED_EVENTS = 32
"""Decoded and not yet fetched; later frames wait undecoded, as bytes are much smaller."""

STREAM_WINDOW = 256 * 1024
"""Credit that a stream starts with: a second of the fastest completions, and little to hold."""

MAX_CREDIT = 16 * 1024 * 1024
"""Where credit saturates, so that a receiver who never wants to count can say it once."""

MAX_NOTIFY_WRAPPER = 8 * 1024
"""The `notify` wrapper of a hello; it is repeated with every notification."""

REQUESTS_IN_FLIGHT = 16
"""Unanswered requests of one connection: an editor has one or two."""

TOTAL_BUFFERS = 128 * 1024 * 1024
"""All connections' buffers together: four of the largest frames."""

CONNECTIONS = 16384
"""Open connections, or fewer where the file limit is lower; then the oldest idle one goes."""


@dataclass(frozen=True)
class Limits:
    """What one `Connection` holds its peer to."""

    frame: int = MAX_FRAME
    large_frame: int = MAX_LARGE_FRAME
    depth: int = MAX_DEPTH
    items: int = MAX_ITEMS
    frame_timeout: float = FRAME_TIMEOUT
    queued_events: int = MAX_QUEUED_EVENTS
    stream_window: int = STREAM_WINDOW
