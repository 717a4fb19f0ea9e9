"""`grant.*`: which rules there are, and what they leave a caller, with the reasons.

Who asks about itself learns what the gate decided for it. Who asks about another process, or one
that might be, learns of rules that are not its own, and needs for that what `grant.list` needs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from brokerd.core.peer import Peer
from brokerd.rpc.failures import bad_params, error_of
from brokerd.rpc.params import count_param, text_param


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from brokerd.core.access import Decision, Rights
    from brokerd.gate import Gate
    from brokerd.rpc.call import Answer, Call, Rows


__all__ = ["SANDBOXES", "GrantMethods"]

SANDBOXES = ("none", "flatpak", "snap", "container")
"""What `sandbox` may be (`Peer.sandbox`); not to name one is not to know it."""


class GrantMethods:
    """See the module's docstring."""

    def __init__(
        self,
        gate: Gate,
        peer_by_pid: Callable[[int], Peer],
        listeners: Callable[[], Iterable[str]],
    ) -> None:
        """`peer_by_pid` finds a process as if it had connected; raises BrokerError, OSError.

        `listeners` names the sockets that are open.
        """
        self._gate = gate
        self._peer_by_pid = peer_by_pid
        self._listeners = listeners

    def rows(self) -> Rows:
        """Return the family's part of the table."""
        return {"grant.explain": self._explain, "grant.list": self._list}

    def _list(self, _call: Call) -> Answer:
        rules = [
            {"where": rule.where, "who": rule.who, "what": rule.what} for rule in self._gate.rules
        ]
        listeners = sorted(set(self._listeners()))
        return {"rules": rules, "listeners": listeners, "connections": self._gate.connections}

    def _explain(self, call: Call) -> Answer:
        caller, params = call.caller, call.params
        pid, listener = count_param(params, "pid"), text_param(params, "listener")
        changes = _changes(params)
        if pid is None and listener is None and not changes:
            return self._shown(caller.peer, caller.listener)
        caller.check("grant.list")
        found = self._found(pid)
        try:
            return self._shown(replace(found, **changes), listener or caller.listener)
        finally:
            found.close()

    def _found(self, pid: int | None) -> Peer:
        """Return that process; without one somebody of our own user of whom no label is known."""
        if pid is None:
            return Peer(pid=0, uid=os.getuid(), gid=os.getgid())
        try:
            return self._peer_by_pid(pid)
        except OSError as error:
            raise bad_params(f"process {pid} cannot be looked at: {error.strerror}") from error

    def _shown(self, peer: Peer, listener: str) -> Answer:
        decision = self._gate.explain(peer, listener)
        shown: Answer = {
            "peer": _peer_map(peer),
            "listener": listener,
            "admitted": decision.admitted,
            **_rights_map(decision.rights),
            "steps": _steps(decision),
        }
        if decision.failure is not None:
            shown["error"] = error_of(decision.failure).to_map()
        return shown


def _changes(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be taken as known of the peer. Raises PermanentError (USAGE)."""
    named: dict[str, Any] = {
        **{name: text_param(params, name) for name in ("unit", "label", "sandbox", "key")},
        **{name: count_param(params, name) for name in ("uid", "gid")},
    }
    if named["sandbox"] not in (None, *SANDBOXES):
        raise bad_params(f"sandbox must be one of {', '.join(SANDBOXES)}")
    return {name: value for name, value in named.items() if value is not None}


def _peer_map(peer: Peer) -> Mapping[str, Any]:
    return {
        "pid": peer.pid,
        "uid": peer.uid,
        "gid": peer.gid,
        "unit": peer.unit,
        "label": peer.label,
        "sandbox": peer.sandbox,
        "comm": peer.comm,
        "exe": peer.exe,
        "weak": peer.weak,
        "key": peer.key,
    }


def _rights_map(rights: Rights | None) -> Mapping[str, Any]:
    """Show what they are limited to; nil is no limit, or no rights at all."""
    if rights is None:
        return dict.fromkeys(("scope", "models", "accounts", "requests_per_minute", "budget"))
    return {
        "scope": rights.scope.label,
        "models": _models(sorted(rights.models)),
        "accounts": None if rights.accounts is None else sorted(rights.accounts),
        "requests_per_minute": rights.requests_per_minute,
        "budget": rights.budget,
    }


def _models(lists: list[tuple[str, ...]]) -> list[str] | None:
    """Show the patterns; of several lists one line, as a model must match one of each."""
    if len(lists) <= 1:
        return list(lists[0]) if lists else None
    return [" & ".join(f"({', '.join(patterns)})" for patterns in lists)]


def _steps(decision: Decision) -> list[dict[str, str]]:
    return [{"where": step.where, "effect": step.effect} for step in decision.steps]
