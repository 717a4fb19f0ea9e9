"""What is sent of a caller's turn: its own headers, and what they leave unsaid."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.core.completions import TURN_PATHS
from brokerd.core.request_id import new_request_id
from brokerd.core.turns import Turn, may_be_agents, may_have_image, read_turn


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.completions import CompletionRequest


__all__ = ["TELL_PAUSE", "TurnHeaders"]

log = logging.getLogger(__name__)

TELL_PAUSE = 1.0
"""Seconds in which a derived initiator that stays the same is logged once: a record costs more
than all else that is done for a turn, and a person's turns are seconds apart."""

NO_AGENT = Turn("user", "no_agent_role", has_image=False)
"""Of a body that names no role of an agent's."""


class TurnHeaders:
    """Makes them; what the caller says is never changed, and then nothing is read for it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._told: dict[str, tuple[Turn, float]] = {}
        """Account → what its log was last told of a derived initiator, and when."""

    def of(self, request: CompletionRequest, account: str) -> tuple[dict[str, str], str]:
        """Return what is sent besides the identity, and where its initiator comes from."""
        headers = dict(request.headers)
        if "x-request-id" not in headers:
            headers["x-request-id"] = new_request_id()
        has_initiator = "x-initiator" in headers
        has_vision = "copilot-vision-request" in headers
        if has_initiator and (has_vision or not may_have_image(request.body)):
            return headers, "caller"
        if request.path not in TURN_PATHS:
            return headers, "no_turn"
        if may_be_agents(request.body) or may_have_image(request.body):
            turn = read_turn(request.body)
        else:
            turn = NO_AGENT
        if turn.has_image and not has_vision:
            headers["copilot-vision-request"] = "true"
        if has_initiator:
            return headers, "caller"
        headers["x-initiator"] = turn.initiator
        self._tell_derived(account, turn)
        return headers, turn.reason

    def _tell_derived(self, account: str, turn: Turn) -> None:
        told, at = self._told.get(account, (None, 0.0))
        now = self._monotonic()
        if told == turn and now - at < TELL_PAUSE:
            return
        self._told[account] = turn, now
        extra = {"ACCOUNT": account, "INITIATOR": turn.initiator, "REASON": turn.reason}
        log.info("initiator derived", extra=extra)
