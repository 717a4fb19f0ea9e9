"""One record of the journal: the counts of a day and a heading, in some 150 bytes.

    "CL"  size of the rest (u16)  CRC-32 of the rest (u32)
    day (i32)  counts (u64, in the order of `Counts`)  heading (UTF-8, its parts apart by 0x1F)

All little-endian. A completion is one record; so are many of them, added up. What is no whole
record, as a machine that lost its power may leave it, is passed over: the next one begins at the
next mark that stands before a sum that is right.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

from brokerd.core.ledger.counts import Counts
from brokerd.core.ledger.lines import Line


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["Heading", "heading_of", "read", "record_of"]

Heading = bytes
"""A line as it is written."""

_MARK: Final = b"CL"
_HEAD: Final = Struct("<2sHI")
_SUMS: Final = Struct(f"<i{len(Counts._fields)}Q")
_APART: Final = "\x1f"
_REST_MAX: Final = 4096
"""Bytes; five parts of 128 characters take less."""

_head, _sums = _HEAD.pack, _SUMS.pack


def heading_of(line: Line) -> Heading:
    """Return a line as it is written; its parts are visible characters only."""
    return _APART.join(line).encode("utf-8", "replace")


def record_of(day: int, heading: Heading, *counts: int) -> bytes:
    """Return the record of these counts, given in the order of `Counts`; for every request."""
    rest = _sums(day, *counts) + heading
    return _head(_MARK, len(rest), crc32(rest)) + rest


def read(data: bytes) -> Iterator[tuple[int, Line, Counts]]:
    """Yield day, line and counts of each whole record, passing over what is none."""
    at, end = 0, len(data) - _HEAD.size
    while 0 <= at <= end:
        mark, size, check = _HEAD.unpack_from(data, at)
        rest = data[at + _HEAD.size : at + _HEAD.size + size]
        if mark == _MARK and _SUMS.size <= size <= _REST_MAX and crc32(rest) == check:
            found = _line_of(rest[_SUMS.size :])
            if found is not None:
                day, *counts = _SUMS.unpack_from(rest)
                yield day, found, Counts._make(counts)
                at += _HEAD.size + size
                continue
        at = data.find(_MARK, at + 1)


def _line_of(heading: bytes) -> Line | None:
    parts = heading.decode("utf-8", "replace").split(_APART)
    return Line._make(parts) if len(parts) == len(Line._fields) else None
