"""`broker.doctor`: how everything stands that is promised or needed, looked at anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from brokerd.rpc.call import Later


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from brokerd.core.checks import Check
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["DoctorMethods"]


class DoctorMethods:
    """See the module's docstring. Whoever asks while somebody is looking waits for the same."""

    def __init__(self, checks: Callable[[], Awaitable[Sequence[Check]]]) -> None:
        self._checks = checks
        self._looking: asyncio.Task[Sequence[Check]] | None = None

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {"broker.doctor": self._doctor}

    def _doctor(self, call: Call) -> Later:
        async def looked() -> Answer:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look(), name="doctor")
                self._looking.add_done_callback(self._on_looked)
            checks = await asyncio.shield(self._looking)
            may_know = call.caller.may_know
            told = [each for each in checks if not each.account or may_know(each.account)]
            return {"checks": [_check_map(check) for check in told]}

        return Later(looked)

    def _on_looked(self, task: asyncio.Task[Sequence[Check]]) -> None:
        self._looking = None
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be left

    async def _look(self) -> Sequence[Check]:
        return await self._checks()


def _check_map(check: Check) -> Answer:
    return {
        "name": check.name,
        "verdict": check.verdict.value,
        "told": check.told,
        "mend": check.mend,
    }
