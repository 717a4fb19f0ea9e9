"""Accounts whose login comes from outside: started, replaced and ended as configuration says.

At each start GitHub is asked whose the token is: it may be another person's than the last time.
Until it has answered, nothing is lent; without a network that is asked again and again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.broker.failures import error_for, given_login, login_in_the_way, not_to_be_given_up
from brokerd.broker.locking import BROKER_LOCKED
from brokerd.core.given import SOURCES
from brokerd.core.machine.events import GivenUnusable, Locked, TokenGiven
from brokerd.core.machine.outcomes import REFUSED_BEFORE
from brokerd.core.machine.states import SignedOut
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker.account_runner import AccountRunner
    from brokerd.broker.dead_logins import DeadLogins
    from brokerd.broker.roster import Roster
    from brokerd.core.given import Given
    from brokerd.core.tokens import IndexEntry


__all__ = ["GivenLogins"]

log = logging.getLogger(__name__)


class GivenLogins:
    """Makes and ends their runners; `Roster.given` says which they are."""

    def __init__(
        self,
        roster: Roster,
        *,
        given: Callable[[], Mapping[str, Given]],
        host: Callable[[str], str],
        runner: Callable[[str, Given], AccountRunner],
        resume: Callable[[str, IndexEntry], None],
        dead_logins: Callable[[str], DeadLogins],
    ) -> None:
        """`given` reads what each such account is given now; `host` is that of an account.

        `runner` makes one that does nothing yet; `resume` starts that of a kept login;
        `dead_logins` are those of a host.
        """
        self._roster = roster
        self._given = given
        self._host = host
        self._runner = runner
        self._resume = resume
        self._dead_logins = dead_logins
        self._hosts: dict[str, str] = {}
        """Where each was started for."""

    def follow(self) -> None:
        """Have exactly those accounts that configuration names now, each with what it is given."""
        wanted = self._given()
        for name in [name for name in self._roster.given if name not in wanted]:
            self._end(name)
        for name, entry in self._roster.index.entries().items():
            if entry.store in SOURCES and name not in wanted:
                self._forget(name)  # of another start
        for name, given in wanted.items():
            is_same = self._roster.given.get(name) == given
            if not is_same or self._hosts.get(name) != self._host(name):
                self.start(name, given)

    def start(self, name: str, given: Given) -> None:
        """Begin with it, in the place of whatever there was."""
        self._roster.given[name] = given
        self._hosts[name] = self._host(name)
        attempt = self._roster.attempts.get(name)
        if attempt is not None:
            self._roster.end(attempt, given_login(name, given))
        runner = self._runner(name, given)
        self._roster.seat(name, runner)
        if self._roster.lock.is_locked:
            runner.feed(Locked(BROKER_LOCKED))
        else:
            self._begin(name, given, runner)

    def unlocked(self) -> None:
        """Begin with those that the lock has kept from it."""
        for name, given in self._roster.given.items():
            runner = self._roster.accounts[name]
            match runner.machine.state:
                case SignedOut(reason=reason) if reason is None or reason is BROKER_LOCKED:
                    self._begin(name, given, runner)
                case _:
                    pass

    def refuse_login(self, name: str) -> None:
        """Raise PermanentError USAGE if that account's login comes from outside."""
        if (given := self._roster.given.get(name)) is not None:
            raise error_for(given_login(name, given))

    def refuse_logout(self, name: str) -> None:
        """Raise the same of a sign-out; a kept login that is in the way may be forgotten."""
        given = self._roster.given.get(name)
        if given is not None and self._in_the_way(name) is None:
            raise error_for(not_to_be_given_up(name, given))

    def restart(self, name: str) -> None:
        """Begin anew if that account's login comes from outside: what was in its way is gone."""
        if (given := self._roster.given.get(name)) is not None:
            self.start(name, given)

    def _begin(self, name: str, given: Given, runner: AccountRunner) -> None:
        kept, failure = self._in_the_way(name), given.failure
        if kept is not None:
            failure = login_in_the_way(name, kept.store, given)
        elif given.token is not None and self._dead_logins(self._host(name)).has(given.token):
            failure = REFUSED_BEFORE
        extra = {"ACCOUNT": name, "SOURCE": given.source, "PLACE": given.place}
        if failure is None and given.token is not None:
            log.info("login comes from outside", extra=extra)
            runner.feed(TokenGiven(given.token, given.source))
        elif failure is not None:
            extra["ERROR_CODE"] = failure.code
            log.warning("login from outside is not used", extra=extra)
            runner.feed(GivenUnusable(failure))

    def _in_the_way(self, name: str) -> IndexEntry | None:
        """Return the login that a store keeps under this name: nobody but a person ends it."""
        entry = self._roster.index.entries().get(name)
        return entry if entry is not None and entry.store not in SOURCES else None

    def _end(self, name: str) -> None:
        del self._roster.given[name], self._hosts[name]
        self._roster.seat(name, None)
        kept = self._in_the_way(name)
        if kept is not None:
            self._resume(name, kept)
        else:
            self._forget(name)

    def _forget(self, name: str) -> None:
        try:
            self._roster.index.remove(name)
        except BrokerError as error:
            extra = {"ACCOUNT": name, "ERROR_CODE": error.failure.code}
            log.warning("account from outside not forgotten", extra=extra)
