"""An answer that is true but for what a fault did to its body: cut, replaced, one field changed.

Unlike a connection that breaks off, what is left is framed as if it were all.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from brokerd.simulator.faults import Fault


__all__ = ["edited"]


def edited(writes: Sequence[bytes], fault: Fault) -> Sequence[bytes]:
    """Give the body a fault makes of a body.

    ValueError: a field to change, in what is no JSON object.
    """
    if fault.replace_body is not None:
        body = fault.replace_body
        writes = [body.encode() if isinstance(body, str) else json.dumps(body).encode()]
    if fault.json_patch:
        writes = [_patched(b"".join(writes), fault.json_patch)]
    return writes if fault.truncate is None else _first(writes, fault.truncate)


def _patched(body: bytes, changes: Mapping[str, Any]) -> bytes:
    answer = json.loads(body)
    for path, value in changes.items():
        *outer, last = path.split(".")
        place = answer
        for name in outer:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise ValueError(f"there is no object for {path!r}")  # noqa: TRY004 - not its type
        place[last] = value
    return json.dumps(answer).encode()


def _first(writes: Sequence[bytes], count: int) -> list[bytes]:
    """Keep so many bytes, in the same writes."""
    kept = []
    for each in writes:
        if count <= 0:
            break
        kept.append(each[:count])
        count -= len(each)
    return kept
