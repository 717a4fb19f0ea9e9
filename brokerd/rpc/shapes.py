"""Values of the broker → maps of the wire, and the caller's maps → values. PROTOCOL.md in code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from brokerd.core.completions import (
    DEFAULT_PATH,
    CompletionRequest,
    checked_headers,
    normal_path,
)
from brokerd.rpc.failures import bad_params, error_of
from brokerd.views import LoginSucceeded, LoginWaiting, UserCodeIssued


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.ports import Reply
    from brokerd.views import AccountView, LeasedToken, LoginProgress, WatchState


__all__ = [
    "DEFAULT_MIN_VALID",
    "account_map",
    "completion_map",
    "completion_request",
    "lease_map",
    "number_param",
    "progress_map",
    "reply_account",
    "text_param",
    "token_map",
    "token_params",
    "watch_map",
]

DEFAULT_MIN_VALID = 60.0
"""Seconds a token should live on when the caller does not say: enough to start one request."""

ACCOUNT_HEADER = "x-copilot-broker-account"
"""Names the account that a completion was made with; the proxy sets it."""


def text_param(params: Mapping[str, Any], name: str) -> str | None:
    """Return an optional string; nil is the same as nothing. Raises PermanentError (USAGE)."""
    value = params.get(name)
    if value is None or isinstance(value, str):
        return value
    raise bad_params(f"{name} must be a string")


def number_param(params: Mapping[str, Any], name: str, default: float) -> float:
    """Return an optional finite number from 0 up. Raises PermanentError (USAGE)."""
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool):
        # msgpack integers are of 64 bits, so this never overflows
        number = float(value)
        if math.isfinite(number) and number >= 0:
            return number
    raise bad_params(f"{name} must be a number of seconds, 0 or more")


def token_params(params: Mapping[str, Any]) -> tuple[str | None, float, str | None]:
    """Return account, min_valid and reject of a `token.get`. Raises PermanentError (USAGE)."""
    account = text_param(params, "account")
    min_valid = number_param(params, "min_valid", DEFAULT_MIN_VALID)
    return account, min_valid, text_param(params, "reject")


def completion_request(params: Mapping[str, Any]) -> CompletionRequest:
    """Return what a `completion.create` asks for. Raises PermanentError (USAGE)."""
    body = params.get("body")
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        raise bad_params("body must be given, as bytes or as a string")
    stream = params.get("stream")
    if not isinstance(stream, bool | None):
        raise bad_params("stream must be true or false")
    headers = params.get("headers")
    if headers == []:  # Lua cannot tell an empty map from an empty array
        headers = None
    if not isinstance(headers, dict | None):
        raise bad_params("headers must be a map of strings")
    path = text_param(params, "path")
    return CompletionRequest(
        body=body,
        path=DEFAULT_PATH if path is None else normal_path(path),
        stream=bool(stream),
        account=text_param(params, "account"),
        headers=checked_headers(headers or {}),
    )


def reply_account(reply: Reply) -> str:
    """Name the account that the completion was made with."""
    return reply.headers.get(ACCOUNT_HEADER, "")


def completion_map(reply: Reply, body: bytes) -> dict[str, object]:
    """Show what upstream answered, whatever its status."""
    return {
        "status": reply.status,
        "headers": dict(reply.headers),
        "body": body,
        "account": reply_account(reply),
    }


def lease_map(lease: LeasedToken) -> dict[str, object]:
    """Show a lease without its token."""
    return {
        "account": lease.account,
        "token_id": lease.token_id,
        "expires_at": lease.expires_at,
        "expires_in": lease.expires_in,
        "api_base": lease.api_base,
        "clamped": lease.clamped,
    }


def token_map(lease: LeasedToken, headers: Mapping[str, str]) -> dict[str, object]:
    """Show the token and how to use it; `headers` are what upstream wants to see besides."""
    shown = lease_map(lease)
    return {"token": lease.token, "token_type": "bearer", **shown, "headers": dict(headers)}


def account_map(view: AccountView) -> dict[str, object]:
    """Show one account as `account.list` and `broker.status` do."""
    return {
        "name": view.name,
        "host": view.host,
        "user_id": view.user_id,
        "login": view.login,
        "client_id": view.client_id,
        "mode": view.mode,
        "source": view.source,
        "store": view.store,
        "default": view.default,
        "state": view.state,
        "unsaved": view.unsaved,
        "token_id": view.token_id,
        "expires_in": view.expires_in,
        "refresh_in": view.refresh_in,
        "error": None if view.error is None else error_of(view.error).to_map(),
    }


def watch_map(state: WatchState, headers: Mapping[str, str]) -> dict[str, object]:
    """Show the full state of one account: the token whenever one is leasable, the error if any."""
    shown: dict[str, object] = {"event": state.kind, "account": state.account}
    if state.lease is not None:
        shown |= token_map(state.lease, headers)
    if state.failure is not None:
        shown["error"] = error_of(state.failure).to_map()
    return shown


def progress_map(progress: LoginProgress, about_app: Mapping[str, str]) -> dict[str, object]:
    """Show one step of a login; `about_app` says which app is being approved."""
    match progress:
        case UserCodeIssued():
            return {
                "event": "user_code",
                "user_code": progress.user_code,
                "verification_uri": progress.verification_uri,
                "expires_in": progress.expires_in,
                "interval": progress.interval,
                **about_app,
            }
        case LoginWaiting():
            return {"event": "waiting", "expires_in": progress.expires_in}
        case LoginSucceeded():
            return {"event": "done", "account": account_map(progress.account)}
