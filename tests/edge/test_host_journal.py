"""The sink: which one, how records look in it, and that nothing secret passes."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import subprocess
import sys
import textwrap

import pytest

from brokerd.host.logs import journal, redaction
from brokerd.host.logs.journal import JournalSink, LineSink, configure, is_journal


CANARY = "Canary/+=c4n4ry!hush"


@pytest.fixture
def clean_logging():
    root = logging.getLogger()
    names = journal._CHATTY
    before = root.level, root.handlers[:], {name: logging.getLogger(name).level for name in names}
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lines(clean_logging):
    stream = io.StringIO()
    configure("debug", stream)
    return stream


@pytest.fixture
def canary():
    redaction.register_secret(CANARY)
    yield CANARY
    redaction.forget_secret(CANARY)


log = logging.getLogger("brokerd.test")


def test_a_line_for_people(lines):
    log.info("token refreshed", extra={"ACCOUNT": "default", "TOKEN_FP": "1f46af82", "lower": 1})
    text = lines.getvalue()
    assert text.endswith(" info    token refreshed (account=default token_fp=1f46af82)\n")
    assert text[2] == text[5] == ":"


def test_the_level_holds_and_can_change(clean_logging):
    stream = io.StringIO()
    configure("warning", stream)
    log.info("quiet")
    configure("info", stream)
    log.info("loud")
    log.debug("quiet")
    logging.getLogger("httpx").info("quiet")
    assert stream.getvalue().count("\n") == 1
    assert "loud" in stream.getvalue()
    configure("debug", stream)
    logging.getLogger("httpx").debug("also heard")
    assert stream.getvalue().count("\n") == 2


def test_nothing_passes_for_a_record_of_its_own(lines):
    log.info("bad %s", "x\n12:00:00 info    forged\r\x1b[2J", extra={"ACCOUNT": "a\nb\x1b"})
    first, second, *rest = lines.getvalue().split("\n")
    assert first.endswith(" (account=a b?)")
    assert second == "    12:00:00 info    forged\\x0d\\x1b[2J"
    assert rest == [""]


def leak(value):
    try:
        try:
            raise KeyError(value)
        except KeyError as error:
            raise ValueError(f"cannot use {value!r}") from error
    except ValueError as error:
        error.add_note(f"it was {value}")
        log.exception("failed")
        log.warning("failed", exc_info=error, stack_info=True)


@pytest.mark.parametrize("form", ["plain", "base64", "hex", "url"])
def test_no_canary_in_any_part_of_a_record(lines, canary, form):
    import base64
    from urllib.parse import quote

    forms = {
        "plain": canary,
        "base64": base64.b64encode(canary.encode()).decode(),
        "hex": canary.encode().hex(),
        "url": quote(canary, safe=""),
    }
    value = forms[form]
    log.info("message " + value)  # noqa: G003
    log.info("args %s %r %s", value, {"k": value}, value.encode())
    log.info("field", extra={"FIELD": value, "OTHER": [value]})
    leak(value)
    text = lines.getvalue()
    assert text.count(redaction.MASK) >= 10
    assert "Traceback" in text
    assert "direct cause" in text
    for hidden in forms.values():
        assert hidden not in text


def logger_to(sink: logging.Handler) -> logging.Logger:
    """A logger of its own: pytest's handlers, which raise on bad records, are not on it."""
    logger = logging.Logger("brokerd.x", logging.DEBUG)  # noqa: LOG001
    logger.addHandler(sink)
    return logger


def test_a_record_that_cannot_be_rendered_is_told_without_its_content(canary, capsys):
    stream = io.StringIO()
    logger = logger_to(LineSink(stream))
    template = "too few %s %s"
    logger.info(template, canary)

    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError(canary)

    logger.info("object %s", Unprintable())
    shown = capsys.readouterr()
    assert shown.err.count("log record lost: ") == 2
    assert "TypeError" in shown.err
    assert canary not in shown.err + shown.out + stream.getvalue()


def test_a_reader_that_went_away_is_no_error(clean_logging, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    configure("info", stream)
    log.info("into the void")
    with pytest.raises(BrokenPipeError):
        stream.close()
    assert capsys.readouterr().err == ""


async def test_debug_logs_of_asyncio_are_clean(lines, canary):
    loop = asyncio.get_running_loop()

    async def fail():
        raise RuntimeError(canary)

    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    loop.call_exception_handler({"message": "lost", "exception": task.exception(), "x": canary})
    assert "lost" in lines.getvalue()
    assert redaction.MASK in lines.getvalue()
    assert canary not in lines.getvalue()


@pytest.mark.shows_secrets("it logs headers as if it were the daemon")
def test_debug_logs_of_httpx_are_clean(lines):
    """A real request at debug level, nothing registered: the patterns alone must do."""
    httpx = pytest.importorskip("httpx")
    import threading

    secret = "gho_C4n4ryC4n4ryC4n4ryC4n4ryC4n4ry"
    copilot = "tid=C4n4ry;exp=1:C4n4ry"
    server = socket.create_server(("127.0.0.1", 0))
    head = f"HTTP/1.1 200 OK\r\nSet-Cookie: s={secret}\r\nX-Token: {copilot}\r\n"

    def serve():
        peer, _ = server.accept()
        with peer:
            data = b""
            while b"\r\n\r\n" not in data:
                data += peer.recv(4096)
            peer.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    with server, httpx.Client(trust_env=False) as client:
        port = server.getsockname()[1]
        headers = {"Authorization": f"token {secret}"}
        client.get(f"http://127.0.0.1:{port}/?access_token={secret}", headers=headers)
        log.info("sent %s", dict(headers))
        thread.join(10)
    text = lines.getvalue()
    assert "GET http://127.0.0.1" in text
    assert redaction.MASK in text
    assert "C4n4ry" not in text


# ---- which sink ----


def test_journal_stream_tells(tmp_path, monkeypatch):
    with (tmp_path / "a").open("w") as ours, (tmp_path / "b").open("w") as other:
        status = os.fstat(ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(ours)
        assert not is_journal(other)
        assert not is_journal(io.StringIO())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_journal(ours)


@pytest.fixture
def journal_stream(tmp_path, monkeypatch, clean_logging):
    with (tmp_path / "stderr").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        yield stream


def test_the_journal_is_chosen(journal_stream, tmp_path, monkeypatch):
    pytest.importorskip("systemd.journal")
    present = tmp_path / "socket"
    present.touch()
    monkeypatch.setattr(journal, "_JOURNAL_SOCKET", present)
    assert isinstance(configure("info", journal_stream), JournalSink)


def test_without_a_journal_socket_lines_carry_priorities(journal_stream, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "_JOURNAL_SOCKET", tmp_path / "missing")
    assert isinstance(configure("info", journal_stream), LineSink)
    log.warning("two\nlines", extra={"ACCOUNT": "a"})
    log.info("one")
    journal_stream.seek(0)
    assert journal_stream.read() == "<4>two (account=a)\n<4>    lines\n<6>one\n"


def test_without_systemd_python_lines_carry_priorities(journal_stream, monkeypatch):
    monkeypatch.setitem(sys.modules, "systemd.journal", None)  # import raises ImportError
    configure("info", journal_stream)
    log.error("one")
    journal_stream.seek(0)
    assert journal_stream.read() == "<3>one\n"


def test_a_terminal_gets_lines(clean_logging):
    assert isinstance(configure("info", io.StringIO()), LineSink)


def test_journal_fields(canary):
    sent: list[tuple[str, dict[str, object]]] = []
    sink = JournalSink(lambda message, **fields: sent.append((message, fields)))
    logger = logger_to(sink)
    logger.warning(
        "login %s",
        canary,
        extra={
            "MESSAGE_ID": "ab" * 16,
            "ACCOUNT": 7,
            "HIDE": canary,
            "MESSAGE": "no",
            "_BAD": "x",
        },
    )
    ((message, fields),) = sent
    assert message == f"login {redaction.MASK}"
    assert fields.pop("CODE_FILE") == __file__
    assert fields.pop("CODE_LINE") > 0
    assert fields == {
        "MESSAGE_ID": "ab" * 16,
        "ACCOUNT": "7",
        "HIDE": redaction.MASK,
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "copilot-brokerd",
        "LOGGER": "brokerd.x",
        "CODE_FUNC": "test_journal_fields",
    }


def test_the_real_send_takes_what_we_give(canary, capsys):
    """Without a journal libsystemd drops the record, but only after all arguments were accepted."""
    systemd_journal = pytest.importorskip("systemd.journal")
    logger = logger_to(JournalSink(systemd_journal.send))
    logger.warning("x %s", canary, extra={"MESSAGE_ID": "ab" * 16, "ACCOUNT": "a\nb"})
    try:
        raise ValueError(canary)
    except ValueError:
        logger.exception("failed")
    assert capsys.readouterr().err == ""


def test_priorities():
    sent = []
    sink = JournalSink(lambda _, **fields: sent.append(fields["PRIORITY"]))
    logger = logger_to(sink)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "x")
    assert sent == ["7", "6", "4", "3", "2"]


def test_a_failing_journal_stops_nothing(canary, capsys):
    def send(*_args, **_fields):
        raise OSError(canary)

    logger = logger_to(JournalSink(send))
    logger.info(canary)
    shown = capsys.readouterr().err
    assert "log record lost: OSError" in shown
    assert canary not in shown


def test_uncaught_exceptions_are_redacted():
    program = f"""
        import gc, sys, threading, warnings
        from brokerd.host.logs import journal, redaction
        redaction.register_secret({CANARY!r})
        journal.configure("info")
        journal.log_uncaught()
        def fail():
            raise RuntimeError({CANARY!r})
        class Dying:
            def __del__(self):
                fail()
        thread = threading.Thread(target=fail)
        thread.start(); thread.join()
        Dying(); gc.collect()
        warnings.warn({CANARY!r})
        fail()
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("RuntimeError: " + redaction.MASK) == 3
    assert done.stderr.count("UserWarning: " + redaction.MASK) == 1
    assert CANARY not in done.stderr
