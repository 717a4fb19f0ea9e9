"""One non-blocking socket in the event loop, and the bytes that it has not taken yet.

What is written in a busy round of the loop goes out at its end (`rounds`): in one piece, and
together with what others were told in it.

No file descriptor comes in with them (unix(7), SCM_RIGHTS). Reading leaves no room for ancillary
data, so that the kernel itself drops what was sent along and says MSG_CTRUNC (recvmsg(2)); who
sends some is breaking the protocol. Listening sockets refuse them besides, where the kernel can.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from brokerd.sockets.rounds import rounds_of


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Channel", "DescriptorsRefusedError"]

_CUT = int(socket.MSG_CTRUNC)
"""As a plain number: `enum` takes longer for one `&` than the kernel for all it does here."""


JOINED_MAX: Final = 4 * 1024
"""Up to so many bytes are copied into one piece; more are given to the kernel as they are."""

PIECES_MAX: Final = 64
"""So many at once; the kernel takes 1,024 (IOV_MAX)."""

PUT_OFF_MAX: Final = 64 * 1024
"""Bytes that are put off before more of them go out at once: who does not read is found out."""


class DescriptorsRefusedError(Exception):
    """A file descriptor was sent along; the connection is of no further use."""


class Channel:
    """Reads when asked to, writes what it can in this round and the rest when the socket takes it.

    It bounds nothing: whoever writes looks at `out` before.
    """

    __slots__ = (
        "_fd", "_loop", "_on_behind", "_on_lost", "_on_readable", "_on_writable",
        "_put_off", "_put_off_size", "_rounds", "_sock", "_writing", "out", "reading",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_readable: Callable[[], None],
        on_writable: Callable[[], None],
        on_behind: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_writable` is called after some of what waited was written, `on_lost` on any error.

        `on_behind` is called when the end of a round has left something in `out`: soon, and not
        within the call that has written it. Nothing is read or called before `read_on`.
        """
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()  # the loop is slower where it is given the socket itself
        self._on_readable = on_readable
        self._on_writable = on_writable
        self._on_behind = on_behind
        self._on_lost = on_lost
        self._rounds = rounds_of(self._loop)
        self._put_off: list[bytes] = []
        """What goes out at the end of this round."""
        self._put_off_size = 0
        self.out = bytearray()
        """What the socket has not taken; for others to look at."""
        self._writing = False
        self.reading = False
        """Whether `on_readable` is called."""

    def receive(self, size: int) -> bytes | None:
        """Return what has arrived, b"" at its end; None when nothing has, or all is lost.

        Raises DescriptorsRefusedError when a descriptor was sent along.
        """
        try:
            data, _, flags, _ = self._sock.recvmsg(size)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self._on_lost()
            return None
        if flags & _CUT:
            raise DescriptorsRefusedError
        return data

    def has_arrived(self) -> bool:
        """Whether bytes lie in the socket that nobody has got round to read."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:  # EAGAIN: nothing there
            return False

    def write(self, data: bytes) -> None:
        """Write it after what waits already."""
        if self.out or not self._rounds.is_alone:
            self.hold(data)
            return
        self._put_off.append(data)
        self._put_off_size += len(data)
        self.flush()

    def hold(self, data: bytes) -> None:
        """Write it with what is written next, or at the end of this round."""
        if self.out:
            self.out += data
            return
        rounds, put_off = self._rounds, self._put_off
        size, is_first = len(data), not put_off
        put_off.append(data)
        self._put_off_size += size
        if size > rounds.room or not (is_first or self._put_off_size <= PUT_OFF_MAX):
            self.flush()
            return
        rounds.room -= size
        if is_first:
            rounds.then(self._end_round)

    def flush(self) -> None:
        """Write now what was put off to the end of this round: for who is about to close."""
        if not self._put_off:
            return
        self._rounds.run_first()
        try:
            self._send_put_off()
        except OSError:
            self._on_lost()

    def read_on(self, wanted: bool) -> None:
        """Begin or cease to call `on_readable`."""
        if wanted and not self.reading:
            self._loop.add_reader(self._fd, self._on_readable)
        elif self.reading and not wanted:
            self._loop.remove_reader(self._fd)
        self.reading = wanted

    def close(self) -> None:
        """Close the socket; what it has not taken is lost."""
        if self._put_off:
            self._rounds.run_first()
            with contextlib.suppress(OSError):
                self._send_put_off()
        self.read_on(False)
        self._watch_writing(False)
        self.out.clear()
        self._sock.close()
        self._forget()

    def let_go(self) -> socket.socket:
        """Watch the socket no more and return it, open; call nothing afterwards."""
        self.flush()
        self.read_on(False)
        self._watch_writing(False)
        self.out.clear()
        self._forget()
        return self._sock

    def _forget(self) -> None:
        """Let go of who owns us: two that hold each other wait for the garbage collector."""
        self._on_readable = self._on_writable = self._on_behind = self._on_lost = lambda: None

    def _end_round(self) -> bool:
        if not self._put_off:  # it could not wait
            return False
        try:
            self._send_put_off()
        except OSError:
            self._loop.call_soon(self._on_lost)
            return True
        if self.out:
            self._loop.call_soon(self._on_behind)
            return True
        return False

    def _send_put_off(self) -> None:
        put_off, self._put_off = self._put_off, []
        size, self._put_off_size = self._put_off_size, 0
        try:
            if size <= JOINED_MAX:
                sent = self._sock.send(b"".join(put_off))
            else:
                sent = self._sock.sendmsg(put_off[:PIECES_MAX])
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent < size:
            with memoryview(b"".join(put_off)) as whole:
                self.out += whole[sent:]
            self._watch_writing(True)

    def _write_on(self) -> None:
        try:
            while self.out:
                del self.out[: self._sock.send(self.out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._on_lost()
            return
        if not self.out:
            self._watch_writing(False)
        self._on_writable()

    def _watch_writing(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._write_on)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._fd)
        self._writing = wanted
