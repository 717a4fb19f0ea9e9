"""One `[[grant]]` of the configuration: whom it is about, and what it leaves them.

A rule that names a listener and nobody in particular says what that listener gives. Every other
rule only takes away, so a label that a peer can choose for itself never helps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from brokerd.core.access.scopes import Scope


if TYPE_CHECKING:
    from brokerd.core.peer import Peer


__all__ = ["ANY_SANDBOX", "LABELS", "SANDBOXES", "WHAT", "WHO", "Rule"]

SANDBOXES: Final = ("flatpak", "snap", "container")
"""The kinds of sandbox that are told apart (`Peer.sandbox`)."""

ANY_SANDBOX: Final = "any"
"""Matches each of them."""

LABELS: Final = ("unit", "label", "sandbox")
"""Keys for what a process can choose or hide."""

WHO: Final = ("listener", "uid", "gid", *LABELS, "key")
WHAT: Final = ("scope", "models", "accounts", "requests_per_minute", "budget")


@dataclass(frozen=True)
class Rule:
    """None is a key that the rule does not have."""

    where: str = field(default="", compare=False)
    """Where it stands: `config.toml:12`. The same rule on another line is the same rule."""
    listener: str | None = None
    """Name of the socket that somebody came through."""
    uid: int | None = None
    gid: int | None = None
    """Primary group at connect time (unix(7), SO_PEERCRED)."""
    unit: str | None = None
    """Pattern (fnmatch(3)) for the systemd unit."""
    label: str | None = None
    """Pattern for the security label."""
    sandbox: str | None = None
    """One of `SANDBOXES`, or `ANY_SANDBOX`."""
    key: str | None = None
    """Name of the key that was shown to the HTTP door; who shows none is not meant."""
    scope: Scope | None = None
    models: tuple[str, ...] | None = None
    """Patterns; a model must match one."""
    accounts: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    """Together for all that the rule applies to."""
    budget: int | None = None
    """Prompt and completion tokens a day (UTC), together for all that the rule applies to."""

    @property
    def who(self) -> dict[str, object]:
        """The keys that say whom it is about, as in the configuration."""
        return {key: value for key in WHO if (value := getattr(self, key)) is not None}

    @property
    def what(self) -> dict[str, object]:
        """The keys that say what it leaves, as in the configuration."""
        found = {key: value for key in WHAT if (value := getattr(self, key)) is not None}
        if self.scope is not None:
            found["scope"] = self.scope.label
        return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}

    @property
    def purse(self) -> str:
        """What its budget is counted under: it stays when the rule moves, or its limits change."""
        return ", ".join(f"{key} {value}" for key, value in self.who.items()) or "everybody"

    @property
    def names_a_label(self) -> bool:
        """Whether it depends on what a process can choose or hide."""
        return (self.unit, self.label, self.sandbox) != (None, None, None)

    @property
    def speaks_for_listener(self) -> bool:
        """Whether it says what a listener gives, instead of taking away."""
        names_somebody = (self.uid, self.gid, self.key) != (None,) * 3 or self.names_a_label
        return self.listener is not None and self.scope is not None and not names_somebody

    @property
    def lets_in(self) -> bool:
        """Whether it lets users in that are not the broker's own; a key lets nobody in."""
        names_user = self.uid is not None or self.gid is not None
        return names_user and self.key is None and not self.names_a_label

    @property
    def ceiling(self) -> Scope:
        """The most that it leaves."""
        ceiling = Scope.ADMIN if self.scope is None else self.scope
        if self.accounts is not None:  # admin reaches across accounts
            ceiling = min(ceiling, Scope.TOKEN)
        if self.models is not None or self.budget is not None:
            # A token that was lent knows no models, and what is asked with it nobody counts.
            ceiling = min(ceiling, Scope.COMPLETE)
        return ceiling

    def applies_to(self, peer: Peer, listener: str) -> bool:
        """Whether it takes away from this peer on this listener.

        A label that is not known could be any: the rule applies.
        """
        return (
            self.listener in (None, listener)
            and self.uid in (None, peer.uid)
            and self.gid in (None, peer.gid)
            and _may_match(self.unit, peer.unit)
            and _may_match(self.label, peer.label)
            and self._may_be_sandbox(peer.sandbox)
            and self.key in (None, peer.key)
        )

    def _may_be_sandbox(self, sandbox: str) -> bool:
        if self.sandbox == ANY_SANDBOX:
            return sandbox != "none"
        return self.sandbox is None or sandbox in ("", self.sandbox)


def _may_match(pattern: str | None, known: str) -> bool:
    return pattern is None or not known or fnmatchcase(known, pattern)
