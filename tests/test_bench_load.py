"""The bench's generator and its stand-in for Copilot count what is there, and call a cut a fault."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.install import compiled


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ROOT = Path(__file__).resolve().parents[1]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
EVENT = b"e\r\ndata: {abcd}\n\n\r\n"


@pytest.fixture(scope="module")
def load() -> Path:
    if shutil.which("cc") is None:
        if os.environ.get("CI"):
            pytest.fail("cc is missing: apt-get install gcc libc6-dev")
        pytest.skip("cc is missing: apt-get install gcc libc6-dev")
    return compiled(ROOT, ROOT / "tests/bench/load.c", lambda _: None)


@pytest.fixture(scope="module")
def upstream(load: Path) -> Iterator[str]:
    argv = [load, "upstream", "listen=tcp:127.0.0.1:0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"tcp:127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.terminate()


@pytest.fixture
def ask(load: Path, tmp_path: Path) -> Callable[..., dict[str, float]]:
    """Return what the generator saw of `each` requests for a model on each connection."""

    def asked(to: str, model: str, *words: str) -> dict[str, float]:
        body = json.dumps({"model": model, "messages": ["x" * 100_000]}).encode()
        request = tmp_path / "request"
        head = f"POST /chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        request.write_bytes(head.encode() + body)
        argv = [load, "http", f"to={to}", f"request={request}", *words, "seconds=20"]
        done = subprocess.run(argv, capture_output=True, timeout=30, check=True)
        return dict(json.loads(done.stdout))

    return asked


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[str]:
    """Answer one request, then close."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received = 0
                while received < 100_000:
                    received += len(connection.recv(1 << 17))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"unix:{path}"
        thread.join(10)


def test_json_answers_are_counted(ask: Callable, upstream: str) -> None:
    seen = ask(upstream, "bench-json", "connections=3", "each=4")
    assert (seen["ops"], seen["errors"], seen["unfinished"]) == (12, 0, 0)
    assert seen["p50_us"] > 0
    assert seen["bytes"] > 12 * 900


@pytest.mark.parametrize("model", ["bench-burst-50", "bench-paced-50-1"])
def test_events_are_counted(ask: Callable, upstream: str, model: str) -> None:
    seen = ask(upstream, model, "connections=2", "each=3", "events=50")
    assert (seen["ops"], seen["errors"], seen["unfinished"]) == (6, 0, 0)
    assert seen["events"] == 6 * 51  # and [DONE]
    assert ("event_p50_us" in seen) == ("paced" in model)  # only these are stamped


def test_stream_of_another_length_is_a_fault(ask: Callable, upstream: str) -> None:
    seen = ask(upstream, "bench-burst-50", "each=1", "events=49")
    assert (seen["ops"], seen["errors"]) == (0, 1)


def test_refusal_is_a_fault(ask: Callable, upstream: str) -> None:
    assert ask(upstream, "nobody", "each=1")["errors"] == 1


def test_what_time_ends_is_unfinished(ask: Callable, upstream: str) -> None:
    seen = ask(upstream, "bench-paced-1000-1000", "seconds=0", "each=1", "connections=2")
    assert (seen["ops"], seen["errors"], seen["unfinished"]) == (0, 0, 2)


def test_warming_up_counts_for_nothing(ask: Callable, upstream: str, tmp_path: Path) -> None:
    request = tmp_path / "request"
    seen = ask(upstream, "bench-burst-7", "each=1", f"warm={request}", "events=7")
    assert (seen["ops"], seen["events"]) == (1, 8)


def test_events_may_be_cut_anywhere(ask: Callable, tmp_path: Path) -> None:
    text = b"data: {abcd}\n\n" * 3 + b"data: [DONE]\n\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
    with answering(tmp_path / "s", HEAD + chunks + b"0\r\n\r\n") as to:
        seen = ask(to, "any", "each=1", "events=3")
    assert (seen["ops"], seen["errors"], seen["events"]) == (1, 0, 4)


@pytest.mark.parametrize(
    "answer",
    [HEAD + EVENT * 3, HEAD + EVENT * 3 + b"0\r\n\r\n", HEAD.replace(b"200", b"500") + DONE, b""],
    ids=["cut", "no [DONE]", "status", "nothing"],
)
def test_broken_stream_is_a_fault(ask: Callable, tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "s", answer) as to:
        seen = ask(to, "any", "each=1")
    assert (seen["ops"], seen["errors"]) == (0, 1)
