"""Heads of requests that were understood before: a tool sends the same one again and again.

All that differs from one request of a tool to its next is the length of the body. So a head is
remembered by its bytes without those digits, and what is remembered was read in the strict way
once. It holds keys as the clients show them, like the socket's own buffers: nothing of it is ever
shown or written down.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from brokerd.gateway.messages import Head


__all__ = ["KnownHead", "KnownHeads"]

MOST: Final = 128
"""Heads that are remembered; the oldest are forgotten. A busy desktop has a dozen."""

LONGEST: Final = 4 * 1024
"""Bytes of one that is worth it; agents send one or two KB."""

_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,18})\r\n")

KnownHead = tuple["Head", bool, bool]
"""The head, whether the connection may live on behind it, whether `100 Continue` is waited for."""


class KnownHeads:
    """See the module's docstring; one for all connections of a door."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], KnownHead] = {}

    def find(self, head: bytes) -> tuple[KnownHead | None, tuple[bytes, bytes], int]:
        """Return what is known of these bytes, by what to remember them, and the body's length.

        The length is what `content-length` says in its usual spelling, -1 where that is not there.
        """
        at = _LENGTH.search(head)
        if at is None:
            key = head, b""
            return self._known.get(key), key, -1
        start, end = at.span(1)
        key = head[:start], head[end:]  # two pieces: no head without a length is taken for these
        return self._known.get(key), key, int(at[1])

    def remember(self, key: tuple[bytes, bytes], known: KnownHead) -> None:
        """Remember a head that was read in the strict way, by the key that `find` gave."""
        if len(key[0]) + len(key[1]) > LONGEST:
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = known
