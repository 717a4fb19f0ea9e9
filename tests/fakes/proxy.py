"""A proxy that answers what the test says, and replies whose bytes the test sends."""

from __future__ import annotations

import asyncio

from brokerd.errors import ErrorClass, Failure
from brokerd.proxy.begun import Begun
from brokerd.views import ModelList, PacingView


__all__ = ["FakeProxy", "FakeReply", "calm", "upstream_cut"]


def upstream_cut() -> Failure:
    return Failure(
        ErrorClass.TEMPORARY,
        "upstream_cut",
        "the answer broke off",
        "Ask again: copilot-cred chat",
    )


def calm() -> PacingView:
    """A gate that holds nothing back."""
    return PacingView(
        cooldown_in=None,
        models={},
        circuit="closed",
        limit=None,
        in_flight=0,
        queued=0,
        reason=None,
    )


class FakeReply:
    """A reply whose body comes when the test calls `feed`, `end` and `cut`."""

    def __init__(
        self,
        body=b"",
        *,
        status=200,
        account="default",
        refusal=None,
        initiator="",
        **headers,
    ) -> None:
        self.initiator = initiator
        self.status = status
        self.account = account
        self.refusal = refusal
        self.headers = {
            "content-type": "application/json",
            "x-copilot-broker-account": account,
            **headers,
        }
        self.closed = asyncio.Event()
        self.paused = False
        self.pauses = 0
        self.receiver = None
        self.delivered = 0
        """Bytes the receiver was given."""
        self._body = body
        self._waiting: list[bytes] = []
        self._over: list[Failure | None] = []
        self._done = asyncio.Event()

    def take_whole(self):
        return None  # it comes in reads of its own

    def stream_to(self, receiver):
        assert self.receiver is None, "a body is streamed once"
        self.receiver = receiver
        self._deliver()
        if self._body:
            self.feed(self._body)
            self.end()

    def feed(self, *chunks: bytes) -> None:
        """What upstream's reads bring; kept by the kernel, as it were, while paused."""
        self._waiting += chunks
        self._deliver()

    def end(self, failure: Failure | None = None) -> None:
        self._over = [failure]
        self._done.set()
        self._deliver()

    def cut(self) -> None:
        self.end(upstream_cut())

    def pause(self):
        assert not self.closed.is_set()
        self.paused = True
        self.pauses += 1

    def resume(self):
        self.paused = False
        self._deliver()

    def close(self):
        self.closed.set()

    @property
    def waiting(self) -> int:
        """Reads that upstream has been kept from."""
        return len(self._waiting)

    def _deliver(self) -> None:
        while self._can_deliver and self._waiting:
            chunk = self._waiting.pop(0)
            self.delivered += len(chunk)
            self.receiver.data(chunk)
        if self._can_deliver and self._over and not self._waiting:
            failure, self._over = self._over[0], []
            self.receiver.ended(failure)

    @property
    def _can_deliver(self) -> bool:
        return self.receiver is not None and not self.paused and not self.closed.is_set()


class FakeProxy:
    """Clear `may_answer` to keep upstream's heads from coming; `answers` are given in turn."""

    def __init__(self) -> None:
        self.requests: list = []
        self.answers: list[FakeReply | BaseException] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.waiting = 0
        self.cancelled = 0
        self.replies: list[FakeReply] = []
        self.catalogue: list[dict] = [{"id": "gpt-4.1", "object": "model"}]
        self.models_asked: list[str | None] = []
        self.models_wanted_fresh: list[bool] = []
        self.models_age = 0.0
        self.models_failure: Failure | None = None
        self.enabled: list[tuple[str | None, str]] = []
        self.pacing_view = calm()
        self.refusals: dict[str, tuple[Failure, float]] = {}
        """Account → what `last_refusal` tells."""
        self.noted: list[tuple[str, Failure]] = []
        self.quotas: dict[str, dict] = {}

    async def open(self, request):
        self.requests.append(request)
        self.waiting += 1
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        answer = self.answers.pop(0) if self.answers else FakeReply(b"{}")
        if isinstance(answer, BaseException):
            raise answer
        self.replies.append(answer)
        return answer

    def begin(self, request, listener):
        begun = Begun(listener)
        begun.wait_for(asyncio.ensure_future(self.open(request)))
        return begun

    async def models(self, account, *, fresh=False):
        self.models_asked.append(account)
        self.models_wanted_fresh.append(fresh)
        return ModelList(
            account or "default", self.catalogue, self.models_age, self.models_failure
        )

    async def enable_model(self, account, model):
        self.enabled.append((account, model))
        return account or "default", "enabled"

    def pacing(self, account):
        return self.pacing_view

    def last_refusal(self, account):
        return self.refusals.get(account)

    def note_refusal(self, account, failure):
        self.noted.append((account, failure))

    def quota(self, account):
        return self.quotas.get(account, {})
