"""What one connection may do: a scope, and what it is limited to within that scope."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from brokerd.core.access.refusals import (
    account_not_granted,
    model_not_granted,
    scope_too_low,
    unknown_method,
)
from brokerd.core.access.scopes import OF_AN_ACCOUNT, OPERATIONS, Scope


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.access.rules import Rule
    from brokerd.errors import Failure


__all__ = ["Rights"]


@dataclass(frozen=True)
class Rights:
    """See the module's docstring; without limits it is the scope alone."""

    scope: Scope
    accounts: frozenset[str] | None = None
    """Names of the accounts; None: all of them."""
    models: frozenset[tuple[str, ...]] = frozenset()
    """Lists of patterns, of each of which a model must match one; empty: every model."""
    limits: frozenset[Rule] = frozenset()
    """Rules with `requests_per_minute`, each of which holds."""
    budgets: frozenset[Rule] = frozenset()
    """Rules with a `budget`, each of which holds."""

    @property
    def is_limited(self) -> bool:
        """Whether there is more to ask than the scope."""
        return bool(self.accounts is not None or self.models or self.limits or self.budgets)

    @property
    def requests_per_minute(self) -> int | None:
        """The smallest of its limits; None: as many as it likes."""
        return min((rule.requests_per_minute or 0 for rule in self.limits), default=None)

    @property
    def budget(self) -> int | None:
        """The smallest of its budgets; None: as many tokens as it likes."""
        return min((rule.budget or 0 for rule in self.budgets), default=None)

    def refuse_operation(self, operation: str) -> Failure | None:
        """Why the scope does not hold it (DENIED), or that there is no such thing (USAGE)."""
        if operation not in OPERATIONS:
            return unknown_method(operation)
        needed = OPERATIONS[operation]
        if needed is None or self.scope >= needed:
            return None
        return scope_too_low(operation, needed, self.scope)

    def refuse_account(self, account: object) -> Failure | None:
        """Why it may not be this account (DENIED); `account` is of any type."""
        if self.accounts is None or (isinstance(account, str) and account in self.accounts):
            return None
        return account_not_granted(account, self.accounts)

    def refuse_model(self, model: object) -> Failure | None:
        """Why it may not be this model (DENIED); a request that names none may want any."""
        name = model if isinstance(model, str) else ""
        if all(any(fnmatchcase(name, each) for each in patterns) for patterns in self.models):
            return None
        return model_not_granted(model, self.models)

    def refuse(
        self,
        operation: str,
        account: object,
        model: object,
        default_account: Callable[[], str],
    ) -> Failure | None:
        """Why this may not be done, rates left out; None allows it.

        `account` and `model` are the peer's words, of any type; None or "": it names none.
        """
        if (failure := self.refuse_operation(operation)) is not None:
            return failure
        if self.accounts is not None and (account or operation in OF_AN_ACCOUNT):
            failure = self.refuse_account(account or default_account())
        if failure is None and (model is not None or operation == "completion.create"):
            failure = self.refuse_model(model)
        return failure
