"""Doing something in a forked child."""

from __future__ import annotations

import os


__all__ = ["in_a_child"]


def in_a_child(action) -> int:
    """Return the exit code of a child that exits with what `action` returns; 99 if it raises."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
