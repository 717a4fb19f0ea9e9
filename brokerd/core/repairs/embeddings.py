"""Repair `embeddings_base64`: numbers as base64 of little-endian 32-bit floats.

OpenAI's SDKs ask for it (`encoding_format`, API reference, "Create embeddings"). The Python one
takes numbers all the same, older Node ones decode what they are given.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from brokerd.core.repairs.exact import dumps


__all__ = ["in_base64"]


def in_base64(body: bytes, fired: list[str]) -> bytes:
    """Return an answer with its vectors so; the same object if it is in base64 already."""
    if b'"embedding":[' not in body and b'"embedding": [' not in body:
        return body
    try:
        # Not by `exact`: a vector's digits are about to become 32 bits anyhow.
        told = json.loads(body)
        changed = isinstance(told, dict) and _encode(told.get("data"))
        new = dumps(told) if changed else body
    except (ValueError, RecursionError, struct.error, OverflowError):
        return body
    if new is not body:
        fired.append("embeddings_base64")
    return new


def _encode(data: Any) -> bool:
    found = False
    for each in data if isinstance(data, list) else ():
        vector = each.get("embedding") if isinstance(each, dict) else None
        if isinstance(vector, list):
            packed = struct.pack(f"<{len(vector)}f", *vector)
            each["embedding"] = base64.b64encode(packed).decode()
            found = True
    return found
