"""`GET /` says what listens here, `GET /healthz` whether a completion could be had.

Health asks nobody: it says what is known. A token that is there, or is being fetched with nothing
known against it, is good health; a limit of upstream's is told beside it, for no restart mends
that. For whoever wants proof there is `copilot-cred doctor`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from brokerd.gateway.messages import Reply
from brokerd.gateway.plan import ACCOUNT


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from brokerd.errors import Failure
    from brokerd.gate import Caller
    from brokerd.gateway.messages import Request
    from brokerd.views import AccountView, LeasedToken, PacingView

    Accounts = Callable[[], Sequence[AccountView]]
    Leasable = Callable[[str | None, float], tuple[LeasedToken, int, float] | None]


__all__ = ["healthz", "root"]

MIN_VALID: Final = 10.0
"""Seconds that the token must live on, as for a completion."""

_FRESH: Final = {"content-type": "application/json", "cache-control": "no-store"}


def root(_request: Request, _caller: Caller, version: str) -> Reply:
    """`GET /` and `HEAD /`: for people, and for tools that knock before they ask."""
    about = {
        "name": "copilot-broker",
        "version": version,
        "message": "GitHub Copilot for the tools of this machine; base URL for OpenAI's API: "
        "this address with /v1, for Anthropic's: this address",
    }
    return Reply(200, dict(_FRESH), json.dumps(about).encode())


def healthz(
    _request: Request,
    caller: Caller,
    accounts: Accounts,
    leasable: Leasable,
    pacing: Callable[[str], PacingView],
    *,
    is_locked: bool = False,
) -> Reply:
    """`GET /healthz`: 200 when the default account can be used, 503 with the reason if not.

    `accounts`, `leasable` and `pacing` are the broker's and the proxy's. Who may not use the
    default account is told of the first that it may.
    """
    known = [view for view in accounts() if caller.may_know(view.name)]
    view = next((view for view in known if view.default), known[0] if known else None)
    if view is None:
        return _answer(503, "", {"status": "unavailable", "code": "no_account"})
    about: dict[str, Any] = {"account": view.name, "state": view.state}
    if is_locked:
        return _answer(503, view.name, {"status": "unavailable", **about, "code": "locked"})
    has_token = leasable(view.name, MIN_VALID) is not None
    if not has_token and (view.error is not None or view.state in ("signed_out", "awaiting_user")):
        return _answer(503, view.name, {**about, **_why(view.error, _SIGNED_OUT)})
    gate = pacing(view.name)
    if gate.cooldown_in is not None:
        about["cooldown_in"] = round(gate.cooldown_in, 1)
    if gate.reason is not None:
        about["limited_by"] = gate.reason.code
    return _answer(200, view.name, {"status": "ok", **about})


_SIGNED_OUT: Final = {
    "code": "login_required",
    "message": "nobody is signed in",
    "hint": "Run: copilot-cred login",
}


def _why(failure: Failure | None, usual: Mapping[str, str]) -> dict[str, str]:
    if failure is None:
        return {"status": "unavailable", **usual}
    return {
        "status": "unavailable",
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
    }


def _answer(status: int, account: str, page: Mapping[str, Any]) -> Reply:
    headers = dict(_FRESH)
    if account:
        headers[ACCOUNT] = account
    return Reply(status, headers, json.dumps(page).encode())
