"""What the head of a request asks for, and whether it may be looked at: made once for each head.

Nothing that may change goes in: no rights, no configuration, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from brokerd.core.completions import ALLOWED_HEADERS, checked_headers
from brokerd.core.dialects.dialect import Dialect
from brokerd.core.http_guard import refuse
from brokerd.core.setting_checks import NotAllowedError, account_name
from brokerd.errors import BrokerError, ErrorClass, Failure
from brokerd.gateway.routes import Endpoint, find


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.gateway.messages import Head
    from brokerd.gateway.routes import Route


__all__ = ["ACCOUNT", "KEY_MARK", "Plan", "plan_of"]

ACCOUNT: Final = "x-copilot-broker-account"
"""The caller's word for whose login to use."""

KEY_MARK: Final = "cpb_"
"""What our keys begin with. Tools that want some key are given any word on a Unix socket."""

_BEARER: Final = "bearer "


class Plan(NamedTuple):
    """Of one head at one listener."""

    hostile: str | None
    """Why it gets a bare 403 (`core.http_guard`); None: it may be looked at."""
    route: Route | None
    """None: nothing is here."""
    dialect: Dialect
    """What the caller speaks."""
    secret: str
    """What it shows as its key; it has to be one of ours where the listener wants one."""
    account: str | None
    """Whose login it asks for; None: it does not say."""
    bad_account: Failure | None
    """Why that can be no account: its name is repeated in answers and logs."""
    headers: Mapping[str, str]
    """Those of its turn that are passed on."""
    bad_header: Failure | None
    """Why one of them cannot be."""

    def __repr__(self) -> str:
        """Show no key."""
        return f"Plan({self.hostile!r}, {self.route!r})"


def plan_of(head: Head, hosts: frozenset[str]) -> Plan:
    """Return what a head asks for at a listener of these names (`core.http_guard.hosts_of`)."""
    route = find(head.path)
    account = head.headers.get(ACCOUNT) or None
    given = {name: value for name, value in head.headers.items() if name in ALLOWED_HEADERS}
    bad_header = None
    try:
        given = checked_headers(given)
    except BrokerError as error:
        bad_header = error.failure
    return Plan(
        refuse(head.method, head.headers, hosts, has_body=head.has_body),
        route,
        _dialect_of(head, route),
        _secret(head.headers),
        account,
        _bad_account(account) if account else None,
        given,
        bad_header,
    )


def _secret(headers: Mapping[str, str]) -> str:
    """Return what a tool shows as its key: `Authorization: Bearer`, or Anthropic's `x-api-key`.

    Where both are there, and only one of them is ours, it is that one.
    """
    authorization = headers.get("authorization", "")
    bearer = authorization[7:].strip() if authorization[:7].lower() == _BEARER else ""
    key = headers.get("x-api-key", "").strip()
    return key if key.startswith(KEY_MARK) or not bearer else bearer


def _bad_account(named: str) -> Failure | None:
    try:
        account_name(named)
    except NotAllowedError as allowed:
        return Failure(
            ErrorClass.USAGE,
            "bad_account",
            f"an account's name in {ACCOUNT} must be {allowed}",
            "See the names: copilot-cred account list",
        )
    return None


def _dialect_of(head: Head, route: Route | None) -> Dialect:
    if route is not None and route.path:
        return Dialect.of(route.path)
    is_anthropic = route is not None and route.endpoint is Endpoint.COUNT_TOKENS
    if is_anthropic or "anthropic-version" in head.headers:
        return Dialect.MESSAGES
    return Dialect.CHAT
