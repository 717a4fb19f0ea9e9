"""What there is to be allowed: the scopes, what each socket gives, what each operation needs.

    status ⊂ complete ⊂ token ⊂ admin

A higher scope holds all lower ones. What is not written here is refused: there is no unknown
operation, and an unknown listener gives the least. No operation hands out a GitHub token.
"""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "COUNTED",
    "HTTP",
    "HTTP_DOORS",
    "HTTP_RUN",
    "HTTP_TCP",
    "LISTENER_SCOPES",
    "OF_AN_ACCOUNT",
    "OPERATIONS",
    "SPENDING",
    "Scope",
]


class Scope(IntEnum):
    """What a connection may do; each holds all smaller ones."""

    STATUS = 1
    """See how the broker is."""
    COMPLETE = 2
    """Have completions made, without seeing a token."""
    TOKEN = 3
    """Be lent a Copilot token."""
    ADMIN = 4
    """Sign in and out, refresh, choose accounts, accept a model's terms."""

    @property
    def label(self) -> str:
        """The word used in the configuration, on the wire and in the audit log."""
        return self.name.lower()


HTTP: Final = "http"
"""The HTTP door's own socket."""

HTTP_TCP: Final = "http-tcp"
"""The HTTP door on loopback TCP, where there is one (`[http] tcp`); it wants a key."""

HTTP_RUN: Final = "http-run"
"""The HTTP door on loopback TCP for one run of a program (`copilot-cred exec`), with its key."""

HTTP_DOORS: Final = frozenset({HTTP, HTTP_TCP, HTTP_RUN})
"""The listeners of the HTTP door, which lends no token and administers nothing, whatever rules."""

LISTENER_SCOPES: Mapping[str, Scope] = MappingProxyType(
    {
        "rpc": Scope.ADMIN,
        HTTP: Scope.COMPLETE,
        HTTP_TCP: Scope.COMPLETE,
        HTTP_RUN: Scope.COMPLETE,
    }
)
"""What each named socket gives; any further socket gives `status`."""

OPERATIONS: Mapping[str, Scope | None] = MappingProxyType(
    {
        "broker.hello": None,
        "broker.status": Scope.STATUS,
        "broker.doctor": Scope.STATUS,
        "broker.refresh": Scope.ADMIN,
        "broker.lock": Scope.ADMIN,
        "broker.unlock": Scope.ADMIN,
        "token.get": Scope.TOKEN,
        "token.watch": Scope.TOKEN,
        "account.login": Scope.ADMIN,
        "account.logout": Scope.ADMIN,
        "account.list": Scope.ADMIN,
        "account.use": Scope.ADMIN,
        "completion.create": Scope.COMPLETE,
        "models.list": Scope.STATUS,
        "models.enable": Scope.ADMIN,
        "quota.get": Scope.STATUS,
        "usage.report": Scope.STATUS,
        "quota.set_pat": Scope.ADMIN,
        "quota.forget_pat": Scope.ADMIN,
        "grant.explain": Scope.STATUS,
        "grant.list": Scope.ADMIN,
        "key.create": Scope.ADMIN,
        "key.lease": Scope.ADMIN,
        "key.mint": Scope.ADMIN,
        "key.list": Scope.ADMIN,
        "key.revoke": Scope.ADMIN,
        "http.request": Scope.STATUS,
    }
)
"""The scope each operation needs; None: to be connected is enough. `grant.explain` is about the
caller itself; who asks about another one needs what `grant.list` needs."""

OF_AN_ACCOUNT: Final = frozenset(
    {"token.get", "token.watch", "completion.create", "models.list", "quota.get"}
)
"""They are about the default account where they name none. All others that are need `admin`, which
a rule that names accounts never leaves."""

COUNTED: Final = frozenset({"token.get", "token.watch", "completion.create"})
"""What `requests_per_minute` counts."""

SPENDING: Final = frozenset({"completion.create"})
"""What a `budget` is about."""
