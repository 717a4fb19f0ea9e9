"""What a terminal is needed for: a yes or no, and signing in.

Signing in has a countdown, and Enter opens the browser. The stream of progress blocks, and so does
the keyboard; a thread pumps the stream into a queue and wakes the main thread through a pipe,
which waits for that, the keyboard and the next second alike. The thread is a daemon: Ctrl-C ends
the process, the connection with it, and so the sign-in.
"""

from __future__ import annotations

import os
import queue
import select
import shutil
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.display import has_rich, say, sentence
from copilot_broker.cli.report import tell


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


__all__ = ["ask", "follow", "is_interactive", "open_browser"]

TICK = 1.0
"""Seconds between two looks of the countdown."""


def is_interactive() -> bool:
    """Whether somebody is there to press a key: stdin and stderr are terminals, and may ask.

    `CI` and `COPILOT_CRED_INTERACTIVE=0` say no.
    """
    if os.environ.get("CI") or os.environ.get("COPILOT_CRED_INTERACTIVE") == "0":
        return False
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def ask(question: str) -> bool:
    """Ask on stderr, read the answer from stdin; whatever is not a clear yes is a no."""
    tell(f"{question} [y/N] ")
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        say()  # Ctrl-D has left the cursor behind the question
    return answer.strip().lower() in {"y", "yes"}


def follow(
    progress: Iterable[Mapping[str, Any]], announce: Callable[[Mapping[str, Any]], None]
) -> Mapping[str, Any] | None:
    """Follow a sign-in on this terminal; return the chunk that says it is done.

    Raises what the stream raises.
    """
    pump = _Pump(progress)
    keyboard: list[int] = []
    uri = ""
    ends_at = 0.0
    advised = {""}
    with _countdown() as show:
        while True:
            ready, _, _ = select.select([pump.wake, *keyboard], [], [], TICK)
            if ready and ready[0] == pump.wake:
                chunk = pump.take()
                event = None if chunk is None else chunk.get("event")
                if chunk is None or event == "done":
                    return chunk
                if event in ("user_code", "waiting"):
                    ends_at = _now() + float(chunk.get("expires_in") or 0.0)
                if event == "user_code":
                    announce(chunk)
                    uri = str(chunk.get("verification_uri", ""))
                    say("Press Enter to open the page in a browser here; Ctrl-C gives up.")
                    keyboard = [sys.stdin.fileno()]
                advice = str(chunk.get("advice") or "")
                if advice not in advised:
                    advised.add(advice)
                    show("")  # what counts down makes room
                    say(sentence(advice))
            elif ready:
                pressed = os.read(ready[0], 1024)
                if not pressed:  # Ctrl-D: nobody will press anything any more
                    keyboard = []
                elif not open_browser(uri):
                    show("")
                    say("No browser can be opened here: open the page on any device.")
            if uri:
                left = max(0, int(ends_at - _now()))
                show(f"Waiting for the approval ... {left // 60}:{left % 60:02d}")


def open_browser(uri: str) -> bool:
    """Open a web page with the desktop's own means; False when there are none.

    Only http(s) addresses are handed on, and no text browser takes over this terminal.
    """
    if not uri.startswith(("https://", "http://")) or not uri.isprintable() or " " in uri:
        return False
    opener = shutil.which("xdg-open")
    if opener is None:
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            return False
        return webbrowser.open(uri)
    subprocess.Popen(  # noqa: S603  # a fixed program and a checked address, no shell
        [opener, uri],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return True


class _Pump:
    """Moves chunks from a blocking iterator to a queue; one byte in the pipe for each."""

    def __init__(self, progress: Iterable[Mapping[str, Any]]) -> None:
        self.wake, self._waker = os.pipe()
        self._chunks: queue.SimpleQueue[Mapping[str, Any] | BaseException | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, args=(progress,), daemon=True).start()

    def _run(self, progress: Iterable[Mapping[str, Any]]) -> None:
        last: BaseException | None = None
        try:
            for chunk in progress:
                self._put(chunk)
        except BaseException as error:  # noqa: BLE001  # raised again in the main thread
            last = error
        self._put(last)

    def _put(self, item: Mapping[str, Any] | BaseException | None) -> None:
        self._chunks.put(item)
        os.write(self._waker, b".")

    def take(self) -> Mapping[str, Any] | None:
        """Return the next chunk, None at the end; raise what the iterator raised."""
        os.read(self.wake, 1)
        item = self._chunks.get()
        if isinstance(item, BaseException):
            raise item
        return item


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # counts suspend, as the broker does


def _countdown() -> AbstractContextManager[Callable[[str], None]]:
    return _rich_line() if has_rich() else _plain_line()


@contextmanager
def _rich_line() -> Iterator[Callable[[str], None]]:
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415

    spinner = Spinner("dots")
    live = Live(spinner, console=Console(stderr=True), transient=True, redirect_stdout=False)

    def show(text: str) -> None:
        spinner.update(text=text)
        live.start(refresh=True)

    try:
        yield show
    finally:
        live.stop()


@contextmanager
def _plain_line() -> Iterator[Callable[[str], None]]:
    """One line that is written over where the terminal can do that, else nothing at all."""
    dumb = os.environ.get("TERM", "dumb") == "dumb"

    def show(text: str) -> None:
        if not dumb:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if not dumb:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
