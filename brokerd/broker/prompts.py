"""A person asked to approve a login: one record when that begins, one when it ends, whichever way.

A prompt is open while the machine is in `AwaitingUser`; whoever drives the machine reports each
step here. Approved means by the person: what becomes of the login then is told by other records.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.core.audit import PROMPT_ENDED, PROMPTED, microseconds
from brokerd.core.machine.states import AwaitingUser, SignedOut


if TYPE_CHECKING:
    from brokerd.core.machine.states import State
    from brokerd.ports import Clock


__all__ = ["Prompt"]

log = logging.getLogger(__name__)

_RESULTS = {"expired_token": "expired", "access_denied": "denied"}
"""RESULT by the code of the failure that GitHub's answer became; any other one is `failed`."""


class Prompt:
    """The prompts of one account: one at a time."""

    def __init__(self, account: str, host: str, client_id: str, clock: Clock) -> None:
        self._account = account
        self._host = host
        self._client_id = client_id
        self._clock = clock
        self._begun_at: float | None = None

    def follow(self, state: State) -> None:
        """Take note of the state that the machine is in now."""
        match state:
            case AwaitingUser():
                self._begin()
            case SignedOut(reason=why):
                self._end(_RESULTS.get(why.code, "failed") if why else "cancelled")
            case _:
                self._end("approved")

    def cancel(self) -> None:
        """Know that nobody drives the machine any more."""
        self._end("cancelled")

    def _begin(self) -> None:
        if self._begun_at is not None:
            return
        self._begun_at = self._clock.boottime()
        extra = PROMPTED.extra(ACCOUNT=self._account, HOST=self._host, CLIENT=self._client_id)
        log.info(PROMPTED.message, extra=extra)

    def _end(self, result: str) -> None:
        if self._begun_at is None:
            return
        took = self._clock.boottime() - self._begun_at
        self._begun_at = None
        extra = PROMPT_ENDED.extra(
            ACCOUNT=self._account,
            HOST=self._host,
            RESULT=result,
            LATENCY_USEC=microseconds(took),
        )
        log.info(PROMPT_ENDED.message, extra=extra)
