"""Lets connections in, and decides anew about those inside when the rules change."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from brokerd.core.access import Policy, Rates, Rule, peer_gone
from brokerd.core.audit import GRANTS_CHANGED
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import PermanentError
from brokerd.gate.backlog import Backlog
from brokerd.gate.caller import Caller, Ground
from brokerd.gate.verdicts import Verdicts


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brokerd.core.access import Decision
    from brokerd.core.peer import Peer


__all__ = ["Gate"]

log = logging.getLogger(__name__)


class Gate:
    """Admits connections; one per daemon, used by every door."""

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        own_uid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        default_account: Callable[[], str] = lambda: DEFAULT_ACCOUNT,
    ) -> None:
        """`clock` gives seconds for the rates, `default_account` who is meant by no name."""
        own = os.getuid() if own_uid is None else own_uid
        self._policy = Policy(own, tuple(rules))
        self._ground = Ground(Rates(), clock, default_account, Verdicts(clock), Backlog())

    @property
    def connections(self) -> int:
        """How many callers are inside now."""
        return len(self._ground.inside)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold now, in the order of the configuration."""
        return self._policy.rules

    def explain(self, peer: Peer, listener: str) -> Decision:
        """Say what this peer could do, and by which rule; nothing is written down."""
        return self._policy.decide(peer, listener)

    def admit(self, peer: Peer, listener: str) -> Caller:
        """Let a peer in that came through this named socket, before a byte of it is read.

        Close the caller in the end. Raises PermanentError (DENIED) when its uid is not allowed or
        its process is gone.
        """
        verdicts = self._ground.verdicts
        verdicts.write_due()
        decision = self._policy.decide(peer, listener)
        failure = peer_gone() if decision.failure is None and peer.gone else decision.failure
        if failure is not None or decision.rights is None:
            assert failure is not None
            verdicts.peer(peer, listener, failure)
            raise PermanentError(failure)
        return Caller(peer, listener, decision.rights, self._ground)

    def regrant(self, rules: Iterable[Rule]) -> None:
        """Let these rules hold from now on, for those inside from their next request.

        Who may not be inside any more is told through `Caller.on_revoked`.
        """
        self._ground.verdicts.end_all()  # each with the rights of its time
        before = self._policy
        self._policy = Policy(before.own_uid, tuple(rules))
        self._ground.rates.keep(self._policy.rules)
        for caller in list(self._ground.inside):  # those that leave now change it
            caller.decided(self._policy.decide(caller.peer, caller.listener))
        if self._policy != before:
            count = len(self._policy.rules)
            log.info(GRANTS_CHANGED.message, extra=GRANTS_CHANGED.extra(COUNT=count))

    def catch_up(self) -> None:
        """Write down what connections that have ended left to be written."""
        self._ground.backlog.catch_up()

    def close(self) -> None:
        """Write down what is only counted so far, as the last thing; closing twice is no error."""
        self.catch_up()
        self._ground.verdicts.end_all()
