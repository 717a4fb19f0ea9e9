"""A Copilot API that answers from a script and notes what it is sent."""

from __future__ import annotations

import asyncio
from collections import deque

from brokerd.errors import ErrorClass, Failure, TransientError


__all__ = ["FakeCopilot", "FakeReply", "cut"]


def cut(code="upstream_cut") -> Failure:
    return Failure(ErrorClass.TEMPORARY, code, "the answer was cut off", "Ask again", None, 1.0)


class FakeReply:
    """ports.Reply. `chunks` have arrived; with `is_live` more come by `push` and `end`."""

    def __init__(self, status=200, headers=None, chunks=(), *, failure=None, is_live=False):
        self.status = status
        self.headers = dict(headers or {})
        self.closed = asyncio.Event()
        self.is_paused = False
        self.is_taken = False
        """Whether its body was asked for, which may happen once."""
        self.reading = asyncio.Event()
        """Set when somebody takes the body."""
        self._arrived = deque(chunks)
        self._is_over = not is_live
        self._failure = failure
        self._over = asyncio.Event()
        if self._is_over:
            self._over.set()
        self._receiver = None
        self._is_pumping = False

    def push(self, chunk):
        """Bring one more read."""
        assert chunk
        assert not self._is_over
        if not self.closed.is_set():
            self._arrived.append(chunk)
            self._pump()

    def end(self, failure=None):
        """Bring the end, whole or cut."""
        self._failure, self._is_over = failure, True
        self._over.set()
        self._pump()

    async def read(self, limit):
        self._take()
        await self._over.wait()
        body = b"".join(self._arrived)
        self._arrived.clear()
        if self._failure is not None:
            raise TransientError(self._failure)
        if len(body) > limit:
            raise TransientError(cut("upstream_too_long"))
        return body

    def take_whole(self):
        if not self._is_over or self._failure is not None or len(self._arrived) > 1:
            return None
        self._take()
        return b"".join(self._arrived)

    def stream_to(self, receiver):
        self._take()
        self._receiver = receiver
        self._pump()

    def pause(self):
        self.is_paused = True

    def resume(self):
        self.is_paused = False
        self._pump()

    def close(self):
        self.closed.set()
        self._arrived.clear()
        self._receiver = None

    def _take(self):
        assert not self.is_taken, "a body is read or streamed, once"
        assert not self.closed.is_set(), "a closed answer has no body"
        self.is_taken = True
        self.reading.set()

    def _pump(self):
        if self._is_pumping:  # the receiver called us
            return
        self._is_pumping = True
        try:
            while self._receiver is not None and not self.is_paused:
                if self._arrived:
                    self._receiver.data(self._arrived.popleft())
                elif self._is_over:
                    receiver, self._receiver = self._receiver, None
                    receiver.ended(self._failure)
                else:
                    return
        finally:
            self._is_pumping = False


class _Begun:
    """ports.Exchange: an `open` that tells a listener."""

    def __init__(self, opening, listener):
        self._listener = listener
        self._task = asyncio.ensure_future(opening)
        self._task.add_done_callback(self._done)

    def _done(self, task):
        if self._listener is not None:
            self._listener(task.exception() or task.result())

    def close(self):
        self._listener = None
        self._task.cancel()


class FakeCopilot:
    """ports.CopilotApi. `answers` are used up first (a reply, an error, or a function of the call
    giving one); then `{}` with 200."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.replies = []
        self.gate = None
        """An asyncio.Event that every call waits for, when set."""
        self.connecting = None
        """As `gate`, for a connection that has to be made."""
        self.asked = asyncio.Event()
        self.cancelled = 0
        self.has_connection = False
        """Whether `begin` can."""
        self.models_answers = []
        self.models_calls = []
        self.models_gate = None
        """As `gate`, for lists of models."""
        self.enable_answers = []
        self.enable_calls = []

    def begin(self, call, listener):
        return _Begun(self.open(call), listener) if self.has_connection else None

    async def open(self, call, still_wanted=None, on_sent=lambda: None):
        if self.connecting is not None:
            await self.connecting.wait()
            if still_wanted is not None:
                still_wanted()
        self.calls.append(call)
        on_sent()
        answer = self.answers.pop(0) if self.answers else FakeReply(chunks=[b"{}"])
        self.asked.set()
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if callable(answer):
            answer = answer(call)
        if isinstance(answer, BaseException):
            raise answer
        self.replies.append(answer)
        return answer

    async def models(self, host, api_base, token, *, is_direct=False):
        self.models_calls.append((host, api_base, token, is_direct))
        answer = self.models_answers.pop(0) if self.models_answers else []
        await asyncio.sleep(0)
        if self.models_gate is not None:
            await self.models_gate.wait()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def enable_model(self, host, api_base, token, model, *, is_direct=False):
        self.enable_calls.append((host, api_base, token, model, is_direct))
        await asyncio.sleep(0)
        answer = self.enable_answers.pop(0) if self.enable_answers else "enabled"
        if isinstance(answer, BaseException):
            raise answer
        return answer
