"""`usage.report`: who has used how much, as the ledger has it.

`usage.report {since?, until?, by?, account?}` (scope status) →

    {since, until, by, rows: [{day?, kind?, client?, label?, account?, model?,
      requests, user_turns, agent_turns, errors, untold,
      prompt_tokens, completion_tokens, cached_tokens, estimated_premium, unpriced_turns}],
     more}

`since` and `until` are moments in Unix seconds; the days (UTC) that they fall into are told whole.
Without them it is today and the six days before. `by` is a list of `day`, `client`, `account` and
`model`, without it all four; rows are sums of all that is not named. `more` says that there are
too many rows to tell. Callers that are limited to some accounts learn of these.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.keys import day_of
from brokerd.core.ledger.asked import GROUPS, Asked, day_text, row_map
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.rpc.call import Later
from brokerd.rpc.failures import bad_params
from brokerd.rpc.params import number_param, text_param


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from brokerd.core.ledger.asked import Report
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["UsageMethods", "nothing_counted"]

DAYS: Final = 7
"""Told without being asked for others."""

LATEST: Final = 4e9
"""Unix seconds: another century."""


class UsageMethods:
    """See the module's docstring."""

    def __init__(
        self,
        report: Callable[[Asked], Awaitable[Report]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`report` answers from the ledger; raises BrokerError. `wall` gives Unix seconds."""
        self._report = report
        self._wall = wall

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {"usage.report": self._told}

    def _told(self, call: Call) -> Later:
        params, granted = call.params, call.caller.rights.accounts
        now = self._wall()
        until = day_of(min(number_param(params, "until", now), LATEST))
        since = day_of(number_param(params, "since", max(0.0, (until - DAYS + 1) * 86_400.0)))
        if since > until:
            raise bad_params("since must not be after until")
        account = text_param(params, "account")  # looked at by the gate
        accounts = None if granted is None else tuple(sorted(granted))
        asked = Asked(since, until, _by(params), accounts if account is None else (account,))

        async def told() -> Answer:
            report = await self._report(asked)
            rows = [row_map(report.columns, *row) for row in report.rows]
            return {
                "since": day_text(since),
                "until": day_text(until),
                "by": list(asked.by),
                "rows": rows,
                "more": report.has_more,
            }

        return Later(told)


def _by(params: Mapping[str, Any]) -> tuple[str, ...]:
    by = params.get("by")
    if by is None:
        return tuple(GROUPS)
    names = [by] if isinstance(by, str) else by
    if not isinstance(names, list) or not all(
        isinstance(each, str) and each in GROUPS for each in names
    ):
        raise bad_params(f"by must be a list of {', '.join(GROUPS)}")
    return tuple(dict.fromkeys(names))


async def nothing_counted(_asked: Asked) -> Report:
    """Answer for a broker without a ledger."""
    raise PermanentError(_OFF)


_OFF: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "usage_off",
    "this broker counts no usage",
    "Set [usage] keep in config.toml, then: systemctl --user reload copilot-broker",
)
