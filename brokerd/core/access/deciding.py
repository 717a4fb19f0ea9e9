"""The decision, pure: from who is asking and through which socket to what they may do, and why.

The listener gives, and everything else takes away: rights are an intersection, so the order of
the rules plays no part. The uid is the gate. Labels never raise rights (a process can choose or
hide them), and where no rule names one they play no part at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from brokerd.core.access.key_refusals import key_unknown
from brokerd.core.access.refusals import uid_not_allowed
from brokerd.core.access.rights import Rights
from brokerd.core.access.rules import LABELS
from brokerd.core.access.scopes import HTTP_DOORS, LISTENER_SCOPES, Scope


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from brokerd.core.access.rules import Rule
    from brokerd.core.peer import Peer
    from brokerd.errors import Failure


__all__ = ["Decision", "Policy", "Step"]


class Step(NamedTuple):
    """One thing that had a say."""

    where: str
    """`config.toml:12`, `listener rpc` or `user id 1000`."""
    effect: str
    """What it did, to be read after that: `leaves at most status`."""


@dataclass(frozen=True)
class Decision:
    """Either rights or a failure, and how it came to that."""

    rights: Rights | None
    failure: Failure | None
    """Why the peer must be closed before a byte is read."""
    steps: tuple[Step, ...]

    @property
    def admitted(self) -> bool:
        """Whether the peer comes in."""
        return self.rights is not None


@dataclass(frozen=True)
class Policy:
    """The rules of one broker."""

    own_uid: int
    """Who the broker works for."""
    rules: tuple[Rule, ...] = ()
    keys: Mapping[str, Rule] = field(default_factory=lambda: MappingProxyType({}))
    """What each key leaves to whoever shows it, by its name."""

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """Those of the configuration, then those of the keys."""
        return (*self.rules, *self.keys.values())

    def decide(self, peer: Peer, listener: str) -> Decision:
        """Say what a peer may do that came through this named socket."""
        speakers = [r for r in self.rules if r.speaks_for_listener and r.listener == listener]
        others = [
            rule
            for rule in self.rules
            if not rule.speaks_for_listener and rule.applies_to(peer, listener)
        ]
        if peer.uid != self.own_uid and not any(rule.lets_in for rule in others):
            failure = uid_not_allowed(peer.uid, self.own_uid)
            effect = f"is not the broker's own {self.own_uid}, and no rule lets it in"
            return Decision(None, failure, (Step(f"user id {peer.uid}", effect),))
        if peer.key:  # looked up by name: who shows no key waits for none
            of_key = self.keys.get(peer.key)
            if of_key is None:
                return Decision(None, key_unknown(), (Step(f"key {peer.key}", "is not known"),))
            others.append(of_key)
        scope, steps = _given(listener, speakers)
        if peer.uid != self.own_uid:
            scope = min(scope, Scope.TOKEN)
            effect = f"is not the broker's own {self.own_uid}: token at most"
            steps.append(Step(f"user id {peer.uid}", effect))
        accounts: frozenset[str] | None = None
        applied = (*speakers, *others)
        for rule in applied:
            scope = min(scope, rule.ceiling)
            if rule.accounts is not None:
                named = frozenset(rule.accounts)
                accounts = named if accounts is None else accounts & named
            steps.extend(Step(rule.where, effect) for effect in _effects(rule, peer))
        rights = Rights(
            scope,
            accounts,
            models=frozenset(rule.models for rule in applied if rule.models is not None),
            limits=frozenset(rule for rule in applied if rule.requests_per_minute is not None),
            budgets=frozenset(rule for rule in applied if rule.budget is not None),
        )
        return Decision(rights, None, tuple(steps))


def _given(listener: str, speakers: list[Rule]) -> tuple[Scope, list[Step]]:
    """Return what the listener gives; of several rules that say so the lowest."""
    scope = LISTENER_SCOPES.get(listener, Scope.STATUS)
    steps = [Step(f"listener {listener}", f"gives {scope.label}")]
    said = [rule.scope for rule in speakers if rule.scope is not None]
    for rule, given in zip(speakers, said, strict=True):
        steps.append(Step(rule.where, f"lets the listener {listener} give {given.label} instead"))
    scope = min(said, default=scope)
    if listener in HTTP_DOORS and scope > Scope.COMPLETE:
        scope = Scope.COMPLETE
        steps.append(Step(f"listener {listener}", "never gives more than complete"))
    return scope, steps


def _effects(rule: Rule, peer: Peer) -> Iterator[str]:
    because = _because(rule, peer)
    if rule.scope is not None and not rule.speaks_for_listener:
        yield f"leaves at most {rule.scope.label}{because}"
    if rule.models is not None:
        note = ", and no token: a token that was lent knows no models"
        yield f"leaves the models {', '.join(rule.models)}{note}{because}"
    if rule.accounts is not None:
        note = ", and nothing that reaches across accounts"
        yield f"leaves the accounts {', '.join(rule.accounts)}{note}{because}"
    if rule.requests_per_minute is not None:
        together = "together for all that it applies to"
        yield f"allows {rule.requests_per_minute} requests a minute, {together}{because}"
    if rule.budget is not None:
        note = "together for all that it applies to, and no token: nobody counts its use"
        yield f"allows {rule.budget} tokens a day (UTC), {note}{because}"


def _because(rule: Rule, peer: Peer) -> str:
    """Say whom the rule names, and what of that is not known."""
    reasons = [
        f"{word} is {getattr(peer, key)}"
        for key, word in (("uid", "user id"), ("gid", "group id"), ("key", "key"))
        if getattr(rule, key) is not None
    ]
    if rule.listener is not None and not rule.speaks_for_listener:
        reasons.insert(0, f"listener is {rule.listener}")
    for key in LABELS:
        if getattr(rule, key) is not None:
            known = getattr(peer, key)
            reasons.append(f"{key} is {known}" if known else f"{key} is not known and could match")
    return f" (its {', '.join(reasons)})" if reasons else ""
