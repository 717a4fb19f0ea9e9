"""How everything stands that is promised or needed: one check a thing, looked at anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from brokerd.core.access.scopes import HTTP
from brokerd.core.checks import Check, Verdict
from brokerd.core.given import SOURCES
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from brokerd.core.access import Rule
    from brokerd.errors import Failure
    from brokerd.views import AccountView


__all__ = [
    "Doctor",
    "audit_check",
    "grants_check",
    "http_check",
    "keys_check",
    "lock_check",
]


@runtime_checkable
class _CrossesTheBus(Protocol):
    """A store whose secrets cross a bus."""

    def transport_check(self) -> Check:
        """Say whether somebody who watches that bus sees them."""
        ...


class Doctor:
    """Asks each part in turn. Each argument looks at one thing; none raises but `store`."""

    def __init__(
        self,
        *,
        effective: Callable[[], Sequence[Check]],
        config_problem: Callable[[], str],
        store: Callable[[], Awaitable[object]],
        accounts: Callable[[], Sequence[AccountView]],
        further: Callable[[], Iterable[Check]],
    ) -> None:
        """`store` returns where a new login would go; raises BrokerError what is in the way."""
        self._effective = effective
        self._config_problem = config_problem
        self._store = store
        self._accounts = accounts
        self._further = further

    async def look(self) -> list[Check]:
        """Return all checks, those first that people ask about first."""
        accounts = self._accounts()
        return [
            self._configuration(),
            *await self._stores(is_needed=not accounts),
            *([_account_check(view) for view in accounts] or [_NOBODY]),
            *self._effective(),
            *self._further(),
        ]

    def _configuration(self) -> Check:
        problem = self._config_problem()
        if not problem:
            return Check("configuration", Verdict.OK, "as it stands in the file")
        mend = f"Start it anew: {_RESTART}"
        if _RESTART not in problem:
            mend = "Mend it, then: systemctl --user reload copilot-broker"
        return Check("configuration", Verdict.ERROR, f"not reloaded: {problem}", mend)

    async def _stores(self, *, is_needed: bool) -> list[Check]:
        try:
            store = await self._store()
        except BrokerError as error:
            verdict = Verdict.ERROR if is_needed else Verdict.WARNING
            return [_of_failure("login-store", verdict, error.failure)]
        kind = getattr(store, "kind", "")
        checks = [Check("login-store", Verdict.OK, f"new logins are kept by: {kind}")]
        if isinstance(store, _CrossesTheBus):
            checks.append(store.transport_check())
        return checks


_RESTART = "systemctl --user restart copilot-broker"
"""Stands in the problems that it mends."""

_NOBODY = Check("account", Verdict.WARNING, "nobody is signed in", "Sign in: copilot-cred login")


def _account_check(view: AccountView) -> Check:
    return replace(_account(view), account=view.name)


def _account(view: AccountView) -> Check:
    name = f"account-{view.name}"
    if view.error is not None:
        verdict = Verdict.ERROR if view.expires_in is None else Verdict.WARNING
        return _of_failure(name, verdict, view.error)
    if view.unsaved:
        told = "its login is in memory only, for its store fails"
        return Check(name, Verdict.WARNING, told, "See why: copilot-cred status")
    if view.state == "signed_out":
        mend = f"Sign in: copilot-cred login --account {view.name}"
        return Check(name, Verdict.WARNING, "signed out", mend)
    who = f"{view.login or 'somebody'} on {view.host}"
    if view.state != "ready":
        return Check(name, Verdict.OK, f"{who}, and a token is on its way")
    verb = "comes from" if view.store in SOURCES else "kept by"
    return Check(name, Verdict.OK, f"{who}, login {verb}: {view.store}")


def grants_check(rules: Sequence[Rule], *, has_labels: bool) -> Check:
    """Say what rules there are; one that nobody can be spared is one to know of."""
    count = f"{len(rules)} rules" if len(rules) != 1 else "one rule"
    told = f"{count} from the configuration" if rules else "no rules: sockets give what they give"
    blunt = [rule.where for rule in rules if rule.label is not None]
    if blunt and not has_labels:
        told = (
            "this kernel tells no security labels, so what names one holds for everybody: "
            + ", ".join(blunt)
        )
        mend = "Name a unit or a socket there instead, then see: copilot-cred grants --list"
        return Check("grants", Verdict.WARNING, told, mend)
    return Check("grants", Verdict.OK, told)


def audit_check(file: str | None) -> Check:
    """Say where the audit log goes: `file`, or the journal."""
    told = "in the journal" if file is None else f"there is no journal, so in {file}"
    return Check("audit", Verdict.OK, f"{told}; see: copilot-cred audit")


def lock_check(*, is_locked: bool) -> Check:
    """Say whether anything is to be had."""
    if is_locked:
        mend = "Unlock it: copilot-cred unlock"
        return Check("lock", Verdict.WARNING, "locked: nobody gets anything", mend)
    return Check("lock", Verdict.OK, "not locked")


def http_check(listeners: Collection[str], tcp: str, failure: Failure | None) -> Check:
    """Say where the HTTP door is served: `tcp` is what the configuration wants besides.

    `failure` is why that cannot be had.
    """
    if failure is not None:
        return _of_failure("http", Verdict.ERROR, failure)
    if HTTP not in listeners:
        told = "the service manager has handed over no socket for it, so http.sock is not served"
        mend = f"Install the units again with packaging/set-up, then: {_RESTART}"
        return Check("http", Verdict.WARNING, told, mend)
    told = f"served on http.sock and {tcp}" if tcp else "served on http.sock, and not by TCP"
    return Check("http", Verdict.OK, told)


def keys_check(read: Callable[[], None], *, is_needed: bool) -> Check:
    """Say whether keys work: `read` raises BrokerError while their file cannot be read.

    `is_needed`: somebody may come who gets nothing without one.
    """
    try:
        read()
    except BrokerError as error:
        verdict = Verdict.ERROR if is_needed else Verdict.WARNING
        return _of_failure("http-keys", verdict, error.failure)
    return Check("http-keys", Verdict.OK, "can be read; see: copilot-cred key list")


def _of_failure(name: str, verdict: Verdict, failure: Failure) -> Check:
    return Check(name, verdict, failure.message, failure.hint)
