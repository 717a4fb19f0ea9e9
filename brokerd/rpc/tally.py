"""One completion of the RPC door, from its question on, until what became of it is told: once."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from brokerd.core.pacing import model_of
from brokerd.core.unseen_usage import unseen_answer, unseen_prompt
from brokerd.core.usage_tail import UsageTail
from brokerd.proxy.outcome import Outcome


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.completions import CompletionRequest
    from brokerd.gate import Caller
    from brokerd.proxy import Answer
    from brokerd.proxy.begun import Begun


__all__ = ["Tally"]


class Tally:
    """See the module's docstring. It holds nothing of the request's body but its size."""

    __slots__ = (
        "_account", "_caller", "_head_seconds", "_initiator", "_is_over", "_model", "_on_end",
        "_path", "_since", "_status", "_unseen_prompt", "begun", "prompt_bytes", "tail",
    )  # fmt: skip

    def __init__(
        self, caller: Caller, request: CompletionRequest, on_end: Callable[[Outcome], None]
    ) -> None:
        self._caller = caller
        self._on_end = on_end
        self._path = request.path
        self._model = model_of(request.naming)
        self._unseen_prompt = unseen_prompt(request.body) if caller.has_budget else 0
        self._account = self._initiator = ""
        self._status = 0
        self.begun: Begun | None = None
        """Set while there is no answer."""
        self._head_seconds: float | None = None
        self._is_over = False
        self._since = monotonic()
        self.prompt_bytes = len(request.body)
        """Of the body, which is kept until upstream has answered."""
        self.tail = UsageTail()
        """For whoever takes the answer: to be fed all of it."""

    def answered(self, answer: Answer, account: str) -> None:
        """Know that the head is there."""
        self._head_seconds = monotonic() - self._since
        self._status = answer.status
        self._account, self._initiator = account, answer.initiator
        self.begun = None

    def over(self, code: str = "") -> None:
        """Tell what became of it; `code` is that of the error, "" for none. Twice is no error."""
        if self._is_over:
            return
        self._is_over = True
        begun, self.begun = self.begun, None
        if begun is not None and begun.sent is not None:
            self._account, self._initiator = begun.sent
        usage = self.tail.usage()
        outcome = Outcome(
            self._path,
            self._caller,
            self._status,
            self._account,
            self._model,
            code,
            monotonic() - self._since,
            self._head_seconds,
            usage,
            0,
            self._initiator,
            self._status,
        )
        spent = 0
        if usage is not None and usage.total:
            spent = usage.total
        elif outcome.was_served and self._caller.has_budget:
            spent = max(1, self._unseen_prompt + unseen_answer(self.tail.size))
        self._on_end(outcome._replace(spent=spent))
