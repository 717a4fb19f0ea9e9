"""`quota.*`: what is left of a plan, and the token that may read the bill.

`quota.get {account?, fresh?, pat?, tier?}` (scope status; with a `pat`: admin) →

    {account, host, login, source, age, plan, sku, tier, has_pat,
     kinds: {NAME: {entitlement, used, remaining, percent_remaining, unlimited, overage,
                    overage_permitted, unit, resets_at, blocked}},
     models: {NAME: used},
     tried: [{source, outcome, class?, code?, message?, hint?, url?, retry_after?}]}

Any number may be nil, a fraction or (`remaining`) below zero. `source` is `billing`, `seat`,
`headers` or `token`; `tried` has all four in this order, with the `outcome` `used`, `added`,
`nothing`, `failed`, `not_needed` or `not_configured`, and why, unless it was used or added
something. `age` in seconds or nil; `resets_at` in Unix seconds or nil; `unit` is `requests` or
`credits`.

`quota.set_pat {pat, account?}` (admin) → as `quota.get`; the token is kept only if it works.
`quota.forget_pat {account?}` (admin) → {account, forgotten}: whether there was one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.access import Scope
from brokerd.rpc.call import Later
from brokerd.rpc.failures import error_of
from brokerd.rpc.params import flag_param, needed_text, text_param


if TYPE_CHECKING:
    from brokerd.broker.quotas import Quotas
    from brokerd.core.quota import Quota
    from brokerd.rpc.call import Answer, Call, Rows
    from brokerd.views import QuotaAttempt, QuotaView


__all__ = ["QuotaMethods", "quota_map"]


class QuotaMethods:
    """See the module's docstring."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {
            "quota.get": self._get,
            "quota.set_pat": self._set_pat,
            "quota.forget_pat": self._forget_pat,
        }

    def _get(self, call: Call) -> Later:
        account = text_param(call.params, "account")
        fresh = flag_param(call.params, "fresh") and call.caller.scope > Scope.STATUS
        pat, tier = text_param(call.params, "pat"), text_param(call.params, "tier")
        if pat is not None:
            # Whoever may only look must not have GitHub shown tokens of their choice.
            call.caller.check("quota.set_pat", account)

        async def told() -> Answer:
            return quota_map(await self._quotas.get(account, fresh=fresh, pat=pat, tier=tier))

        return Later(told)

    def _set_pat(self, call: Call) -> Later:
        pat, account = needed_text(call.params, "pat"), text_param(call.params, "account")

        async def kept() -> Answer:
            return quota_map(await self._quotas.set_pat(pat, account))

        return Later(kept)

    def _forget_pat(self, call: Call) -> Later:
        account = text_param(call.params, "account")

        async def forgotten() -> Answer:
            name, was_there = await self._quotas.forget_pat(account)
            return {"account": name, "forgotten": was_there}

        return Later(forgotten)


def quota_map(view: QuotaView) -> dict[str, object]:
    """Show what is left of a plan."""
    return {
        "account": view.account,
        "host": view.host,
        "login": view.login,
        "source": view.source,
        "age": view.age,
        "plan": view.plan,
        "sku": view.sku,
        "tier": view.tier,
        "has_pat": view.has_pat,
        "kinds": {each.name: _kind_map(each) for each in view.kinds},
        "models": dict(view.models),
        "tried": [_attempt_map(each) for each in view.tried],
    }


def _kind_map(kind: Quota) -> dict[str, object]:
    return {
        "entitlement": kind.entitlement,
        "used": kind.used,
        "remaining": kind.remaining,
        "percent_remaining": kind.percent_remaining,
        "unlimited": kind.unlimited,
        "overage": kind.overage,
        "overage_permitted": kind.overage_permitted,
        "unit": kind.unit,
        "resets_at": kind.resets_at,
        "blocked": kind.blocked,
    }


def _attempt_map(attempt: QuotaAttempt) -> dict[str, object]:
    shown: dict[str, object] = {"source": attempt.source, "outcome": attempt.outcome}
    if attempt.failure is not None:
        shown |= error_of(attempt.failure).to_map()
    return shown
