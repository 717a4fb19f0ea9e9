"""`key.*`: the keys of the HTTP door. A key's text is in the answer that makes it, and nowhere.

What a key limits is checked by the same rules as the keys of a `[[grant]]` in config.toml. A key
that passes is made for a program that starts now: so whoever asks for one learns at once that
nobody is signed in.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.access.settings import value_of
from brokerd.core.keys import BUDGET_MAX, EXPIRES_MAX, Key, key_name
from brokerd.core.passing import MINTED_LIFE_MAX, Passing, PassingKey, key_label
from brokerd.core.setting_checks import NotAllowedError, account_name
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.rpc.call import Later
from brokerd.rpc.failures import bad_params
from brokerd.rpc.params import count_param, needed_text, number_param, text_param


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.gate import Caller, Gate
    from brokerd.rpc.call import Answer, Call, Rows

    LeaseRun = Callable[[Caller, Passing], Awaitable[tuple[PassingKey, str]]]


__all__ = ["KeyMethods", "no_runs"]

LOOK_TIMEOUT: Final = 2.0
"""Seconds to find out whether the account can be used: longer than an exchange takes, shorter than
the client waits. Who is not known by then is let go on."""


async def no_runs(_by: Caller, _wanted: Passing) -> tuple[PassingKey, str]:
    """Lease nothing, where there is no HTTP door."""
    text = "this broker serves no HTTP"
    hint = "Start it as it is installed: systemctl --user restart copilot-broker"
    raise PermanentError(Failure(ErrorClass.USAGE, "no_runs", text, hint))


class KeyMethods:
    """See the module's docstring."""

    def __init__(self, gate: Gate, broker: Broker, lease_run: LeaseRun) -> None:
        """`lease_run` serves the process that asks until it ends (`app.runs`)."""
        self._gate = gate
        self._broker = broker
        self._lease_run = lease_run

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {
            "key.create": self._create,
            "key.lease": self._lease,
            "key.list": self._list,
            "key.mint": self._mint,
            "key.revoke": self._revoke,
        }

    def _create(self, call: Call) -> Answer:
        key, text = self._gate.create_key(_wanted(call.params))
        return {"key": text, **_shown(key, 0)}

    def _lease(self, call: Call) -> Later:
        params = call.params
        wanted = Passing(**_label(params), **_limits(params), **_amounts(params))

        async def leased() -> Answer:
            await self._look(wanted.account)
            key, text = await self._lease_run(call.caller, wanted)
            return {"key": text, **_shown(key, 0)}

        return Later(leased)

    def _mint(self, call: Call) -> Later:
        params = call.params
        wanted = Passing(**_label(params), **_limits(params))
        if wanted.models is None:
            raise bad_params("models must be given: patterns, of which a model must match one")
        lasts = number_param(params, "expires_in", math.inf)
        if not 1 <= lasts <= MINTED_LIFE_MAX:
            most = MINTED_LIFE_MAX
            raise bad_params(f"expires_in must be a number of seconds from 1 to {most}")

        async def minted() -> Answer:
            await self._look(wanted.account)
            key, text = self._gate.passing.mint(call.caller, wanted, math.ceil(lasts))
            return {"key": text, **_shown(key, self._gate.passing.spent(key.name))}

        return Later(minted)

    async def _look(self, account: str | None) -> None:
        """Raise PermanentError where the account can surely not be used, Transient if locked."""
        try:
            await self._broker.lease(account, min_valid=0.0, timeout=LOOK_TIMEOUT)
        except TransientError as error:
            if error.failure.error_class is ErrorClass.LOCKED:
                raise
            # Whatever ails the network now need not ail the program that starts.

    def _list(self, _call: Call) -> Answer:
        return {"keys": [_shown(key, spent) for key, spent in self._gate.list_keys()]}

    def _revoke(self, call: Call) -> Answer:
        name = needed_text(call.params, "name")
        return {"name": name, "connections": self._gate.revoke_key(name)}


def _wanted(params: Mapping[str, Any]) -> Callable[[int, str], Key]:
    """Return what makes the key, of its time and digest. Raises PermanentError (USAGE)."""
    name = _checked("name", key_name, needed_text(params, "name"))
    limits = _limits(params) | _amounts(params)
    lasts = number_param(params, "expires_in", math.inf)
    if not 1 <= lasts <= EXPIRES_MAX and lasts != math.inf:
        raise bad_params(f"expires_in must be a number of seconds from 1 to {EXPIRES_MAX}")

    def make(created: int, digest: str) -> Key:
        expires = None if lasts == math.inf else created + math.ceil(lasts)
        return Key(name, digest, created, expires, **limits)

    return make


def _label(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": _checked("label", key_label, needed_text(params, "label"))}


def _limits(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return which models and whose account. Raises PermanentError (USAGE)."""
    models, account = params.get("models"), text_param(params, "account")
    return {
        "models": None
        if models is None
        else _checked("models", partial(value_of, "models"), models),
        "account": None if account is None else _checked("account", account_name, account),
    }


def _amounts(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return how often and how much. Raises PermanentError (USAGE)."""
    key = "requests_per_minute"
    rate, budget = params.get(key), count_param(params, "budget")
    if budget is not None and not 1 <= budget <= BUDGET_MAX:
        raise bad_params(f"budget must be a number from 1 to {BUDGET_MAX}: tokens a day")
    return {
        key: None if rate is None else _checked(key, partial(value_of, key), rate),
        "budget": budget,
    }


def _checked(key: str, check: Callable[[Any], Any], value: object) -> Any:
    try:
        return check(value)
    except NotAllowedError as allowed:
        raise bad_params(f"{key} must be {allowed}") from None


def _shown(key: Key, spent: int) -> dict[str, Any]:
    """Show everything but text and digest; nil is no end, or no limit.

    Of a key that passes also what it is.
    """
    shown: dict[str, Any] = {
        "name": key.name,
        "created_at": key.created,
        "expires_at": key.expires,
        "models": None if key.models is None else list(key.models),
        "account": key.account,
        "requests_per_minute": key.requests_per_minute,
        "budget": key.budget,
        "spent_today": spent,
    }
    if isinstance(key, PassingKey):
        shown |= {"kind": key.kind, "label": key.label}
        if key.process is not None:
            shown |= {"address": key.at, "pid": key.process.pid}
    return shown
