"""Having GitHub kill a login for good: first there, and only then is it forgotten here.

The other order could leave a living token that nobody has any more, and so nobody can revoke.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.broker.failures import (
    error_for,
    not_revoked,
    nothing_to_revoke,
    unknown_account,
)
from brokerd.core.audit import LOGIN_REVOKED
from brokerd.core.machine.effects import RenewToken, SaveLogin
from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.broker.roster import Roster
    from brokerd.core.tokens import GitHubToken
    from brokerd.ports import GitHub, LoginStores


__all__ = ["revoke_login"]

log = logging.getLogger(__name__)


async def revoke_login(
    roster: Roster, github: Callable[[str], GitHub], stores: LoginStores, name: str
) -> None:
    """Revoke the newest login that there is under that name; nothing is forgotten yet.

    Raises PermanentError USAGE for an unknown account or when no login is kept, what its store
    raises, and why GitHub did not do it.
    """
    entry = roster.index.entries().get(name)
    if entry is None:
        is_known = name in roster.accounts or name in roster.attempts
        raise error_for(nothing_to_revoke(name) if is_known else unknown_account(name))
    runner = roster.accounts.get(name)
    if runner is not None:
        # What a renewal under way brings would outlive the tokens that we know.
        await runner.until_past(RenewToken, SaveLogin)
    login = runner.login if runner else None
    if login is None:
        login = await stores.get(entry.store).load(entry.key)
    if login is None:
        raise error_for(nothing_to_revoke(name))
    token: GitHubToken | None = None
    while login is not None and login.token != token:  # again if it was renewed meanwhile
        token = login.token
        try:
            await github(entry.host).revoke(token)
        except BrokerError as error:
            failure = not_revoked(name, entry.host, error.failure)
            raise type(error)(roster.addressed(name, failure)) from error
        login = runner.login if runner else None
    log.info(LOGIN_REVOKED.message, extra=LOGIN_REVOKED.extra(ACCOUNT=name, HOST=entry.host))
    for other in roster.names_sharing(name, entry):
        log.warning(
            "login of this account was revoked under another name",
            extra={"ACCOUNT": other, "REVOKED_AS": name},
        )
