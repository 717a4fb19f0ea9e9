"""What of a test's doings is looked through: the log as it reaches a sink, children, what is told.

The log is taken at debug level, the HTTP libraries' own records included. A record of theirs holds
secrets by nature; what counts is what the daemon's sink makes of it. Our own records must hold none
even before the sink: it is the second net.
"""

from __future__ import annotations

import asyncio.subprocess
import contextlib
import io
import logging
import subprocess
import weakref
from typing import TYPE_CHECKING, Any

from brokerd.host.logs import redaction
from brokerd.host.logs.journal import LineSink
from canary.spellings import SHAPES, SUSPICIOUS


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Tell = Callable[[str, str], None]


__all__ = ["Ear", "as_if_deaf", "children", "forget_learned", "loud"]

OURS = ("brokerd", "copilot_broker")
LOGGERS = (*OURS, "aiohttp", "aiohttp.access", "asyncio", "hpack", "httpcore", "httpx")

USUAL = "brokerd.proxy"
"""Goes another way where somebody debugs, so it stays as it usually is in this process: the daemons
that tests start have it at debug."""

OVERLAP = 400
"""Bytes of the last piece of a child's stderr that are looked at again with the next."""

_FORMATTER = logging.Formatter("%(message)s")


class Ear(logging.Handler):
    """Gives on what the real sink makes of each record, and what our records say before it."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell
        self._stream = io.StringIO()
        self._sink = LineSink(self._stream)
        self.looked_through = 0

    def emit(self, record: logging.LogRecord) -> None:
        """The sink is asked only where there is something it could let through."""
        try:
            fields = " ".join(str(v) for k, v in record.__dict__.items() if k.isupper())
            said = f"{record.getMessage()} {fields}"
            raw = f"{_FORMATTER.format(record)} {fields}" if record.exc_info else said
        except Exception:  # an argument that cannot be shown: the sink says so, without it
            return
        self.looked_through += len(raw)
        if not (SUSPICIOUS.search(raw) or SHAPES.search(raw)):
            return
        self._sink.handle(record)
        self._tell("the log", self._stream.getvalue())
        self._stream.seek(0)
        self._stream.truncate()
        if record.name.partition(".")[0] in OURS:
            self._tell("a record of ours before the sink", said)


def as_if_deaf(handler: logging.Handler) -> Callable[[logging.LogRecord], bool]:
    """Return a filter for pytest's `handler`: tests see what they would see without this here.

    That is what they ask for, else warnings, and information where somebody listens to the daemon.
    """
    ours = logging.getLogger(OURS[0])

    def is_asked_for(record: logging.LogRecord) -> bool:
        least = logging.INFO if ours.handlers else logging.WARNING
        return bool(handler.level) or record.levelno >= least

    return is_asked_for


def loud() -> None:
    """All loggers that matter at debug; tests may have changed that."""
    for name in (*LOGGERS, USUAL):
        logger, level = logging.getLogger(name), logging.DEBUG if name != USUAL else logging.INFO
        if logger.level != level:
            logger.setLevel(level)


def forget_learned() -> None:
    """Let the sink know no value by heart that another test has taught it."""
    redaction._redactor._secrets.clear()


@contextlib.contextmanager
def children(tell: Tell) -> Iterator[None]:
    """Tell argv and environment of every program that is started, and what it says on stderr."""
    popen, communicate = subprocess.Popen.__init__, subprocess.Popen.communicate
    protocol = asyncio.subprocess.SubprocessStreamProtocol
    receive = protocol.pipe_data_received
    last: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()

    def start(self: Any, args: Any, *more: Any, **options: Any) -> None:
        tell("argv of a child", args if isinstance(args, str) else "\n".join(map(_text, args)))
        environment = options.get("env") or {}
        tell("environment of a child", "\n".join(map(_text, environment.values())))
        popen(self, args, *more, **options)

    def hear(self: Any, *args: Any, **options: Any) -> Any:
        told = communicate(self, *args, **options)
        if told[1]:
            tell("stderr of a child", _text(told[1]))
        return told

    def overhear(self: Any, fd: int, data: bytes) -> None:
        if fd == 2:
            tell("stderr of a child", _text(last.get(self, b"") + data))
            last[self] = data[-OVERLAP:]
        receive(self, fd, data)

    protocol.pipe_data_received = overhear  # type: ignore[method-assign]
    subprocess.Popen.__init__ = start  # type: ignore[method-assign]
    subprocess.Popen.communicate = hear  # type: ignore[method-assign]
    try:
        yield
    finally:
        protocol.pipe_data_received = receive  # type: ignore[method-assign]
        subprocess.Popen.__init__ = popen  # type: ignore[method-assign]
        subprocess.Popen.communicate = communicate  # type: ignore[method-assign]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
