"""Ids for requests that their callers gave none: what upstream and its support know them by."""

from __future__ import annotations

import random


__all__ = ["new_request_id"]

_bits = random.SystemRandom().getrandbits(64)
_count = 0


def new_request_id() -> str:
    """Return a UUID (RFC 9562 §5.8): random for this process, counting within it.

    It names, it proves nothing; so it need not cost a system call each.
    """
    global _count  # noqa: PLW0603 - one event loop
    _count += 1
    head, tail = f"{_bits:016x}", f"{_count & 0xFFFFFFFFFFFFFFF:015x}"
    return f"{head[:8]}-{head[8:12]}-8{head[13:]}-8{tail[:3]}-{tail[3:]}"
