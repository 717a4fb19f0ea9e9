"""`key.*`: the keys of the HTTP door. A key's text is in the answer to `key.create`, and nowhere.

What a key limits is checked by the same rules as the keys of a `[[grant]]` in config.toml.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from brokerd.core.access.settings import value_of
from brokerd.core.keys import BUDGET_MAX, EXPIRES_MAX, Key, key_name
from brokerd.core.setting_checks import NotAllowedError, account_name
from brokerd.rpc.failures import bad_params
from brokerd.rpc.params import count_param, needed_text, number_param, text_param


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.gate import Gate
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["KeyMethods"]


class KeyMethods:
    """See the module's docstring."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {
            "key.create": self._create,
            "key.list": self._list,
            "key.revoke": self._revoke,
        }

    def _create(self, call: Call) -> Answer:
        key, text = self._gate.create_key(_wanted(call.params))
        return {"key": text, **_shown(key, 0)}

    def _list(self, _call: Call) -> Answer:
        return {"keys": [_shown(key, spent) for key, spent in self._gate.list_keys()]}

    def _revoke(self, call: Call) -> Answer:
        name = needed_text(call.params, "name")
        return {"name": name, "connections": self._gate.revoke_key(name)}


def _wanted(params: Mapping[str, Any]) -> Callable[[int, str], Key]:
    """Return what makes the key, of its time and digest. Raises PermanentError (USAGE)."""
    name = _checked("name", key_name, needed_text(params, "name"))
    account = text_param(params, "account")
    limits: dict[str, Any] = {
        key: _checked(key, partial(value_of, key), params[key])
        for key in ("models", "requests_per_minute")
        if params.get(key) is not None
    }
    limits["account"] = None if account is None else _checked("account", account_name, account)
    limits["budget"] = budget = count_param(params, "budget")
    if budget is not None and not 1 <= budget <= BUDGET_MAX:
        raise bad_params(f"budget must be a number from 1 to {BUDGET_MAX}: tokens a day")
    lasts = number_param(params, "expires_in", math.inf)
    if not 1 <= lasts <= EXPIRES_MAX and lasts != math.inf:
        raise bad_params(f"expires_in must be a number of seconds from 1 to {EXPIRES_MAX}")

    def make(created: int, digest: str) -> Key:
        expires = None if lasts == math.inf else created + math.ceil(lasts)
        return Key(name, digest, created, expires, **limits)

    return make


def _checked(key: str, check: Callable[[Any], Any], value: object) -> Any:
    try:
        return check(value)
    except NotAllowedError as allowed:
        raise bad_params(f"{key} must be {allowed}") from None


def _shown(key: Key, spent: int) -> dict[str, Any]:
    """Show everything but text and digest; nil is no end, or no limit."""
    return {
        "name": key.name,
        "created_at": key.created,
        "expires_at": key.expires,
        "models": None if key.models is None else list(key.models),
        "account": key.account,
        "requests_per_minute": key.requests_per_minute,
        "budget": key.budget,
        "spent_today": spent,
    }
