"""Lets connections in, and decides anew about those inside when the rules change."""

from __future__ import annotations

import logging
import os
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.access import (
    Decision,
    Policy,
    Rates,
    Rule,
    key_elsewhere,
    key_missing,
    key_revoked,
    peer_gone,
)
from brokerd.core.audit import GRANTS_CHANGED, KEY_CREATED, KEY_REVOKED
from brokerd.core.keys import RANDOM_BYTES, digest_of, text_of
from brokerd.core.passing import PassingKey
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import BrokerError, PermanentError
from brokerd.gate.backlog import Backlog
from brokerd.gate.caller import Caller, Ground
from brokerd.gate.keyed import KeyedCaller
from brokerd.gate.keyring import Keyring, NoKeys
from brokerd.gate.passing import PassingKeys
from brokerd.gate.verdicts import Verdicts


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from brokerd.core.keys import Key
    from brokerd.core.peer import Peer
    from brokerd.gate.keyed import Ring
    from brokerd.ports import KeyStore


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
        keys: KeyStore | None = None,
        wall: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """`clock` gives seconds for the rates, `default_account` who is meant by no name.

        `keys` are those of the HTTP door; for them `wall` gives Unix seconds, and `random` bytes
        that nobody can guess.
        """
        own = os.getuid() if own_uid is None else own_uid
        self._policy = Policy(own, tuple(rules))
        self._keyring = Keyring(keys or NoKeys(), clock, wall)
        purse = self._keyring.of_rules
        self._ground = Ground(Rates(), clock, default_account, Verdicts(clock), Backlog(), purse)
        self._random = random
        self.passing = PassingKeys(wall, random, on_change=self._take_rules, expel=self._expel)
        """The keys that nobody has named: of runs, and minted ones."""
        self._with_keys: dict[Caller, dict[str, KeyedCaller]] = {}
        """Connections that have shown keys, by the keys' digests."""
        try:
            self.read_keys()
        except BrokerError as error:  # the other doors need none; who shows one is told
            log.warning("keys not read", extra={"REASON": str(error)})

    @property
    def connections(self) -> int:
        """How many callers are inside now."""
        return len(self._ground.inside)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold now: the configuration's in its order, then those of the keys."""
        return self._policy.all_rules

    def explain(self, peer: Peer, listener: str) -> Decision:
        """Say what this peer could do, and by which rule; nothing is written down."""
        return self._policy.decide(peer, listener)

    def admit(self, peer: Peer, listener: str, at: str = "") -> Caller:
        """Let a peer in that came through this named socket, before a byte of it is read.

        `at` is the address of the run that it came to, where every run has one of its own.

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
        return Caller(peer, listener, decision.rights, self._ground, at=at)

    def regrant(self, rules: Iterable[Rule]) -> None:
        """Let these rules hold from now on, for those inside from their next request.

        Who may not be inside any more is told through `Caller.on_revoked`.
        """
        self._ground.verdicts.end_all()  # each with the rights of its time
        before = self._policy.rules
        self._policy = replace(self._policy, rules=tuple(rules))
        self._ground.rates.keep(self._policy.all_rules)
        for caller in list(self._ground.inside):  # those that leave now change it
            decision = self._policy.decide(caller.peer, caller.listener)
            caller.decided(decision)
            if decision.admitted:
                for keyed in self._with_keys.get(caller, {}).values():
                    keyed.redecide(self._policy)
        if self._policy.rules != before:
            count = len(self._policy.rules)
            log.info(GRANTS_CHANGED.message, extra=GRANTS_CHANGED.extra(COUNT=count))

    # -- keys of the HTTP door ----------------------------------------------------------------

    def with_key(self, caller: Caller, secret: str) -> Caller:
        """Return this connection's caller with the rights that a key leaves; "" is no key.

        To be called for each request that shows one. What it returns is the connection's, and is
        closed with it. Raises PermanentError, DENIED `key_missing`, `key_unknown`, `key_revoked`,
        `key_elsewhere` or `key_expired`, and the store's where the keys cannot be read.
        """
        digest = digest_of(secret)
        keyed = self._with_keys.get(caller, {}).get(digest)
        if keyed is None:
            try:
                keyed = self._keyed(caller, secret)
            except BrokerError as error:
                caller.tell_denied("http.request", error.failure)
                raise
            self._keep(caller, digest, keyed)
        keyed.prove_valid()
        return keyed

    def list_keys(self) -> list[tuple[Key, int]]:
        """Return every key with the tokens that it has used today (UTC); may raise the store's.

        First the kept ones, then those that pass.
        """
        self.read_keys()
        rings = (self._keyring, self.passing)
        return [(key, ring.spent(key.name)) for ring in rings for key in ring.keys]

    def create_key(self, make: Callable[[int, str], Key]) -> tuple[Key, str]:
        """Keep a new key and return it with its text, which is kept nowhere.

        `make` returns it from the Unix seconds of now and its digest. Raises PermanentError USAGE
        `key_exists` (one that has not expired) or `too_many_keys`, or what the store does.
        """
        self.read_keys()
        text = text_of(self._random(RANDOM_BYTES))
        created = int(self._keyring.wall())
        key = make(created, digest_of(text))
        replaced = self._keyring.add(key)
        if replaced is not None:
            self._expel(replaced)
        self._take_rules()
        lifetime = 0 if key.expires is None else key.expires - created
        log.info(KEY_CREATED.message, extra=KEY_CREATED.extra(KEY=key.name, LIFETIME=lifetime))
        return key, text

    def revoke_key(self, name: str) -> int:
        """Forget a key, and tell those who use it through `Caller.on_revoked`: they are closed.

        Returns how many connections that were.

        Raises PermanentError USAGE `key_not_found`, or what the store does.
        """
        if (passing := self.passing.named(name)) is not None:
            count = self.passing.revoke(passing)
            log.info(KEY_REVOKED.message, extra=KEY_REVOKED.extra(KEY=name, COUNT=count))
            return count
        self.read_keys()
        key = self._keyring.revoke(name)
        self._take_rules()
        count = self._expel(key)
        log.info(KEY_REVOKED.message, extra=KEY_REVOKED.extra(KEY=name, COUNT=count))
        return count

    def read_keys(self) -> None:
        """Read the keys unless that was done; raises BrokerError where they cannot be read."""
        if self._keyring.read():
            self._take_rules()

    def _keyed(self, caller: Caller, secret: str) -> KeyedCaller:
        if not secret:
            raise PermanentError(key_missing())
        ring, key = self._shown(secret)
        # A run's key is good at its run's address, and at that one no other is.
        if (key.at if isinstance(key, PassingKey) else "") != caller.at:
            raise PermanentError(key_elsewhere(key.name))
        decision = self._policy.decide(replace(caller.peer, key=key.name), caller.listener)
        if decision.rights is None:
            assert decision.failure is not None
            raise PermanentError(decision.failure)
        return KeyedCaller(caller, key, decision.rights, self._ground, ring)

    def _shown(self, secret: str) -> tuple[Ring, Key]:
        if (passing := self.passing.shown(secret)) is not None:
            return self.passing, passing
        self.read_keys()
        return self._keyring, self._keyring.shown(secret)

    def _keep(self, caller: Caller, digest: str, keyed: KeyedCaller) -> None:
        own = self._with_keys.get(caller)
        if own is None:
            own = self._with_keys[caller] = {}
            caller.on_close += (lambda: self._forget_keys(caller),)
        own[digest] = keyed
        caller.on_close += (keyed.close,)

    def _forget_keys(self, caller: Caller) -> None:
        del self._with_keys[caller]

    def _take_rules(self) -> None:
        keys = {**self._keyring.rules, **self.passing.rules}
        self._policy = replace(self._policy, keys=keys)
        self._ground.rates.keep(self._policy.all_rules)

    def _expel(self, key: Key) -> int:
        """Close what uses a key that does not hold any more; return how many connections.

        At a run's address that is everybody: without the key too.
        """
        if isinstance(key, PassingKey) and key.at:
            there = [each for each in self._ground.inside if each.at == key.at]
            for caller in there:
                if caller.on_revoked is not None:
                    caller.on_revoked()
            return len(there)
        decision = Decision(None, key_revoked(key.name), ())
        using = [own[key.digest] for own in self._with_keys.values() if key.digest in own]
        for keyed in using:
            keyed.decided(decision)
        return len(using)

    def catch_up(self) -> None:
        """Write down what connections that have ended left to be written."""
        self._ground.backlog.catch_up()

    def close(self) -> None:
        """Write down what is only counted so far, as the last thing; closing twice is no error."""
        self._keyring.write()
        self.catch_up()
        self._ground.verdicts.end_all()
