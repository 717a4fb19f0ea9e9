"""Ids for requests that their callers gave none: what upstream and its support know them by."""

from __future__ import annotations

import itertools
import secrets


__all__ = ["new_request_id"]

_digits = secrets.token_hex(8)
_own = f"{_digits[:8]}-{_digits[8:12]}-8{_digits[13:]}-8"
_count = itertools.count(1).__next__


def new_request_id() -> str:
    """Return a UUID (RFC 9562 §5.8): random for this process, counting within it.

    It names, it proves nothing; so it need not cost a system call each.
    """
    count = f"{_count():015x}"
    return f"{_own}{count[:3]}-{count[3:]}"
