"""An account as `account.list` and `broker.status` show it: the login, and how its use goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.rpc.failures import error_of


if TYPE_CHECKING:
    from brokerd.core.quota_header import QuotaSnapshot
    from brokerd.errors import Failure
    from brokerd.proxy import Proxy
    from brokerd.views import AccountView, PacingView


__all__ = ["account_map", "full_account_map"]


def account_map(view: AccountView) -> dict[str, object]:
    """Show the login and its token, as the broker knows them."""
    return {
        "name": view.name,
        "host": view.host,
        "user_id": view.user_id,
        "login": view.login,
        "client_id": view.client_id,
        "scopes": view.scopes,
        "mode": view.mode,
        "mode_reason": view.mode_reason,
        "source": view.source,
        "store": view.store,
        "default": view.default,
        "state": view.state,
        "unsaved": view.unsaved,
        "login_expires_in": view.login_expires_in,
        "sku": view.sku,
        "api_base": view.api_base,
        "token_id": view.token_id,
        "expires_in": view.expires_in,
        "refresh_in": view.refresh_in,
        "error": None if view.error is None else error_of(view.error).to_map(),
    }


def full_account_map(view: AccountView, proxy: Proxy) -> dict[str, object]:
    """Show besides what upstream makes of the account's requests."""
    return {
        **account_map(view),
        "pacing": _pacing_map(proxy.pacing(view.name)),
        "refusal": _refusal_map(proxy.last_refusal(view.name)),
        "quota": {name: _quota_map(snapshot) for name, snapshot in proxy.quota(view.name).items()},
    }


def _pacing_map(view: PacingView) -> dict[str, object]:
    shown: dict[str, object] = {
        "cooldown_in": view.cooldown_in,
        "models": dict(view.models),
        "circuit": view.circuit,
        "limit": view.limit,
        "in_flight": view.in_flight,
        "queued": view.queued,
    }
    if view.reason is not None:
        shown["reason"] = error_of(view.reason).to_map()
    return shown


def _refusal_map(last: tuple[Failure, float] | None) -> dict[str, object] | None:
    if last is None:
        return None
    failure, ago = last
    return {**error_of(failure).to_map(), "ago": ago}


def _quota_map(snapshot: QuotaSnapshot) -> dict[str, object]:
    return {
        "entitlement": snapshot.entitlement,
        "percent_remaining": snapshot.percent_remaining,
        "overage": snapshot.overage,
        "overage_permitted": snapshot.overage_permitted,
        "resets_at": snapshot.resets_at,
    }
