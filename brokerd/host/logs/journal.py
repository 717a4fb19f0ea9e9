"""Where log records go: the journal with fields when stderr is the journal, else readable lines.

Every byte passes `redaction.redact` here, tracebacks and fields included. A message is constant
and its fields come in `extra={"ACCOUNT": …}`; only names in capitals become fields
(systemd.journal-fields(7)).

Records of the audit log (`core.audit`) pass whatever level is configured. Without a journal that
keeps their fields they go to a file too (`audit_log`).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from brokerd.core.audit import BY_MESSAGE_ID
from brokerd.host.logs.audit_log import AuditLog
from brokerd.host.logs.redaction import redact


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


__all__ = [
    "IDENTIFIER",
    "AuditSink",
    "JournalSink",
    "LineSink",
    "configure",
    "is_journal",
    "log_uncaught",
]

IDENTIFIER = "copilot-brokerd"
"""SYSLOG_IDENTIFIER: what `journalctl -t` takes."""

TEXT_MAX = 32 * 1024
"""Characters of one record: journald cuts lines of streams at 48 KiB (LineMax=)."""

_CHATTY = ("aiohttp.access", "asyncio", "hpack", "httpcore", "httpx")
"""Libraries that tell of every request; heard only when somebody asks for debug."""

_FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_FORMATTER = logging.Formatter("%(message)s")  # and the traceback, with its causes
_JOURNAL_SOCKET = Path("/run/systemd/journal/socket")


class _Sink(logging.Handler):
    """Renders records; what cannot be rendered is reported without its content."""

    def text_of(self, record: logging.LogRecord) -> str:
        """Return message and traceback, redacted, without control characters.

        Lines after the first are indented, so none passes for a record of its own.
        """
        text = redact(_FORMATTER.format(record))
        text = text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + " [cut]"
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        return text.replace("\n", "\n    ")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say that a record is lost; the default would print its arguments unredacted."""
        kind = type(sys.exc_info()[1]).__name__
        self.last_resort(f"log record lost: {kind} at {record.pathname}:{record.lineno}")

    def last_resort(self, text: str) -> None:
        """Write one line past logging; never raises."""
        try:
            sys.stderr.write(f"{text}\n")
        except (OSError, ValueError, AttributeError):  # closed, full or absent
            return


class LineSink(_Sink):
    """One readable line a record, fields at its end."""

    def __init__(self, stream: TextIO, *, prefixed: bool = False) -> None:
        """Write to `stream`; `prefixed` is for a journal that reads it: sd-daemon(3)'s <N>."""
        super().__init__()
        self._stream = stream
        self._prefixed = prefixed

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; a reader that went away is no error."""
        try:
            text = self.text_of(record)
            found = _fields(record)
            found.pop("MESSAGE_ID", None)  # says nothing to a person that the message does not
            fields = " ".join(f"{name.lower()}={value}" for name, value in found.items())
            first, feed, rest = text.partition("\n")
            first = f"{first} ({fields})" if fields else first
            text = f"{self._head(record)}{first}{feed}{rest}"
            if self._prefixed:  # there each line is a record
                text = text.replace("\n", f"\n{self._head(record)}")
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except BrokenPipeError:
            return
        except Exception:  # noqa: BLE001 (logging never stops the daemon)
            self.handleError(record)

    def _head(self, record: logging.LogRecord) -> str:
        if self._prefixed:
            return f"<{_priority(record.levelno)}>"
        time = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        return f"{time} {record.levelname.lower():7} "


class JournalSink(_Sink):
    """Structured records; `send` is `systemd.journal.send`."""

    def __init__(self, send: Callable[..., Any]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record."""
        try:
            fields: dict[str, object] = {
                **_fields(record),
                "PRIORITY": str(_priority(record.levelno)),
                "SYSLOG_IDENTIFIER": IDENTIFIER,
                "LOGGER": record.name,
                "CODE_FILE": record.pathname,
                "CODE_LINE": record.lineno,  # systemd-python formats it as a number
                "CODE_FUNC": record.funcName,
            }
            self._send(self.text_of(record), **fields)
        except Exception:  # noqa: BLE001 (logging never stops the daemon)
            self.handleError(record)


class AuditSink(_Sink):
    """The records of the audit log, and no others, to a file."""

    def __init__(self, audit_log: AuditLog) -> None:
        super().__init__()
        self._audit_log = audit_log
        self.addFilter(_is_of_audit)

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record."""
        try:
            fields = _fields(record)
            event = BY_MESSAGE_ID[fields.pop("MESSAGE_ID")]
            self._audit_log.append(record.created, event.name, self.text_of(record), fields)
        except Exception:  # noqa: BLE001 (logging never stops the daemon)
            self.handleError(record)


def configure(
    level: str, stream: TextIO | None = None, audit_log: Path | None = None
) -> logging.Handler:
    """Send all logging to the journal, if `stream` (default stderr) is it, else to `stream`.

    `level` is debug, info, warning or error. `audit_log` is the file for the audit log's records
    where no journal takes them with their fields; None: none. May be called again, on a reload:
    the former sinks are replaced. Returns the sink.
    """
    stream = sys.stderr if stream is None else stream
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Sink):
            root.removeHandler(handler)
            handler.close()
    sink = _choose(stream)
    number = logging.getLevelNamesMapping()[level.upper()]
    sink.addFilter(lambda record: record.levelno >= number or _is_of_audit(record))
    root.addHandler(sink)
    if audit_log is not None and not isinstance(sink, JournalSink):
        root.addHandler(AuditSink(AuditLog(audit_log)))
    root.setLevel(min(number, logging.INFO))  # what a logger drops is never seen by a sink
    for name in _CHATTY:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else logging.WARNING)
    return sink


def is_journal(stream: TextIO) -> bool:
    """Whether the journal has `stream`: $JOURNAL_STREAM is its device:inode, systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def log_uncaught() -> None:
    """Log warnings and exceptions nobody caught: Python prints them past logging, unredacted."""
    log = logging.getLogger("brokerd")

    def of_main(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            log.critical("uncaught exception", exc_info=(kind, error, trace))

    def of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            trace = args.exc_traceback
            log.critical("uncaught exception", exc_info=(args.exc_type, args.exc_value, trace))

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            trace = args.exc_traceback
            log.error("ignored exception", exc_info=(args.exc_type, args.exc_value, trace))

    sys.excepthook = of_main
    threading.excepthook = of_thread
    sys.unraisablehook = unraisable
    logging.captureWarnings(capture=True)


def _choose(stream: TextIO) -> _Sink:
    if not is_journal(stream):
        return LineSink(stream)
    try:
        import systemd.journal  # noqa: PLC0415 (lazy: absent on a bare machine)
    except ImportError:
        return LineSink(stream, prefixed=True)
    if not _JOURNAL_SOCKET.exists():  # sd_journal_send(3) would drop records without a word
        return LineSink(stream, prefixed=True)
    return JournalSink(systemd.journal.send)


def _is_of_audit(record: logging.LogRecord) -> bool:
    return record.__dict__.get("MESSAGE_ID") in BY_MESSAGE_ID


def _fields(record: logging.LogRecord) -> dict[str, str]:
    """Return the record's own fields, redacted; one line each."""
    found = {}
    for name, value in record.__dict__.items():
        if _FIELD.fullmatch(name) and name != "MESSAGE":
            text = _CONTROL.sub("?", redact(str(value)))
            found[name] = text.replace("\n", " ")[:TEXT_MAX]
    return found


def _priority(level: int) -> int:
    """Return syslog(3)'s number."""
    for floor, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4)):
        if level >= floor:
            return priority
    return 6 if level >= logging.INFO else 7
