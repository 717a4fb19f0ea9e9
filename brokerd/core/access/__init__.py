"""Who may do what: a pure decision, made before anything is done.

`scopes` names what there is to allow, `rules` what the configuration says of it, `deciding` makes
`rights` of both, `refusals` says no in words and `rates` says not now.
"""

from __future__ import annotations

from brokerd.core.access.deciding import Decision, Policy, Step
from brokerd.core.access.key_refusals import (
    key_budget,
    key_elsewhere,
    key_expired,
    key_missing,
    key_revoked,
    key_unknown,
)
from brokerd.core.access.rates import Rates
from brokerd.core.access.refusals import budget, direct_mode, peer_gone
from brokerd.core.access.rights import Rights
from brokerd.core.access.rules import Rule
from brokerd.core.access.scopes import (
    COUNTED,
    LISTENER_SCOPES,
    OF_AN_ACCOUNT,
    OPERATIONS,
    SPENDING,
    Scope,
)


__all__ = [
    "COUNTED",
    "LISTENER_SCOPES",
    "OF_AN_ACCOUNT",
    "OPERATIONS",
    "SPENDING",
    "Decision",
    "Policy",
    "Rates",
    "Rights",
    "Rule",
    "Scope",
    "Step",
    "budget",
    "direct_mode",
    "key_budget",
    "key_elsewhere",
    "key_expired",
    "key_missing",
    "key_revoked",
    "key_unknown",
    "peer_gone",
]
