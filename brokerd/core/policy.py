"""Who may do what: a pure decision from (peer, listener, operation), made before anything is done.

Rights come from the named socket a caller came through and from whose process it is, nothing else:

    status ⊂ complete ⊂ token ⊂ admin

A higher scope holds all lower ones. What is not written here is refused: there is no unknown
operation, and an unknown listener gives the least. No operation hands out a GitHub token.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from brokerd.core.hints import addressed
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.peer import Peer


__all__ = ["LISTENER_SCOPES", "OPERATIONS", "Policy", "Scope", "direct_mode", "peer_gone"]


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
        """The word used on the wire and in the audit log."""
        return self.name.lower()


LISTENER_SCOPES: Mapping[str, Scope] = MappingProxyType(
    {"rpc": Scope.ADMIN, "http": Scope.COMPLETE}
)
"""What each named socket gives the owner's processes; any further socket gives `status`."""

OPERATIONS: Mapping[str, Scope | None] = MappingProxyType(
    {
        "broker.hello": None,
        "broker.status": Scope.STATUS,
        "broker.refresh": Scope.ADMIN,
        "token.get": Scope.TOKEN,
        "token.watch": Scope.TOKEN,
        "account.login": Scope.ADMIN,
        "account.logout": Scope.ADMIN,
        "account.list": Scope.ADMIN,
        "account.use": Scope.ADMIN,
        "completion.create": Scope.COMPLETE,
        "models.list": Scope.STATUS,
        "models.enable": Scope.ADMIN,
        "http.request": Scope.STATUS,
    }
)
"""The scope each operation needs; None: to be connected is enough."""

_NAME_SHOWN = 64
"""Characters of a peer's own word repeated back to it."""


@dataclass(frozen=True)
class Policy:
    """The rules of one broker."""

    own_uid: int
    """Who the broker works for: rights of the listeners are theirs."""
    allowed_uids: frozenset[int] = frozenset()
    """Further uids that may connect; they get `status` and no more."""
    listener_scopes: Mapping[str, Scope] = field(default_factory=lambda: LISTENER_SCOPES)

    def refuse_peer(self, peer: Peer) -> Failure | None:
        """Why this peer must be closed before a byte is read; None lets it in."""
        if peer.uid == self.own_uid or peer.uid in self.allowed_uids:
            return None
        return Failure(
            ErrorClass.DENIED,
            "uid_not_allowed",
            f"user id {peer.uid} may not use the broker of user id {self.own_uid}",
            "Each user runs a broker of their own: systemctl --user start copilot-broker.socket",
        )

    def scope_of(self, peer: Peer, listener: str) -> Scope:
        """Rights of an admitted peer on a connection through this listener."""
        if peer.uid != self.own_uid:
            return Scope.STATUS
        return self.listener_scopes.get(listener, Scope.STATUS)

    def refuse_operation(self, scope: Scope, operation: str) -> Failure | None:
        """Why a connection with this scope may not do it; None allows it."""
        if operation not in OPERATIONS:
            return Failure(
                ErrorClass.USAGE,
                "unknown_method",
                f"there is no method {operation[:_NAME_SHOWN]!r}",
                "See client/PROTOCOL.md; an older broker may lack it: "
                "systemctl --user restart copilot-broker",
            )
        needed = OPERATIONS[operation]
        if needed is None or scope >= needed:
            return None
        return Failure(
            ErrorClass.DENIED,
            "scope_too_low",
            f"{operation} needs the scope {needed.label}, this connection has {scope.label}",
            "Use the broker's own socket: unset COPILOT_BROKER_SOCKET",
        )


def peer_gone() -> Failure:
    """Why a secret stays here although it was asked for: a connection dies with its process."""
    return Failure(
        ErrorClass.DENIED,
        "peer_gone",
        "the process that opened this connection has ended",
        "Open a connection of your own: copilot-cred get",
    )


def direct_mode(account: str = DEFAULT_ACCOUNT) -> Failure:
    """Why an account in direct mode lends no token: it would be the person's GitHub token."""
    failure = Failure(
        ErrorClass.DENIED,
        "direct_mode",
        "this account uses its GitHub login directly, which never leaves the broker",
        'Where config.toml sets mode = "direct", set "auto" and reload; else sign in with another '
        "app: copilot-cred login --client-id vscode",
    )
    return failure if account == DEFAULT_ACCOUNT else addressed(failure, account)
