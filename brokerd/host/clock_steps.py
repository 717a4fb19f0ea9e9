"""Notice at once that the machine has resumed, or that somebody has set its clock.

A timer on CLOCK_REALTIME that is cancelled when that clock steps (timerfd_create(2),
TFD_TIMER_CANCEL_ON_SET): the kernel steps it at each resume. So nobody has to wake up every few
seconds to compare clocks. Python has timerfd from 3.13 on; until then it is asked for by hand.
"""

from __future__ import annotations

import ctypes
import os
import time


__all__ = ["ClockSteps"]

_NONBLOCK = os.O_NONBLOCK
_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_TFD_TIMER_CANCEL_ON_SET = 2
_NEVER = 1 << 40
"""Seconds since 1970, some thirty thousand years ahead."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _ItimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class ClockSteps:
    """A file descriptor that is readable once the wall clock has stepped."""

    def __init__(self) -> None:
        """Begin to watch; OSError where the kernel has no such timer."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            create, self._settime = libc.timerfd_create, libc.timerfd_settime
        except AttributeError:
            raise OSError("no timerfd in the C library") from None
        self._fd: int = create(time.CLOCK_REALTIME, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise _error()
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, for an event loop."""
        return self._fd

    def acknowledge(self) -> bool:
        """Wait for the next step; returns whether there was one."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return False
        except OSError:  # ECANCELED: what we are here for
            pass
        self._arm()
        return True

    def close(self) -> None:
        """Give the descriptor back; twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _arm(self) -> None:
        spec = _ItimerSpec(_Timespec(0, 0), _Timespec(_NEVER, 0))
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        if self._settime(self._fd, flags, ctypes.byref(spec), None) != 0:
            raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
