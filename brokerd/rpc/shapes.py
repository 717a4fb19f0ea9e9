"""Values of the broker → maps of the wire. PROTOCOL.md in code; `account_maps` has the accounts.

`token_map` is the only place that shows a token, and it shows no GitHub token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.access import direct_mode
from brokerd.errors import PermanentError
from brokerd.rpc.account_maps import account_map
from brokerd.rpc.failures import error_of
from brokerd.views import LoginSucceeded, LoginWaiting, UserCodeIssued


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.proxy import Answer
    from brokerd.views import LeasedToken, LoginProgress, ModelList, WatchState


__all__ = [
    "completion_map",
    "lease_map",
    "models_map",
    "progress_map",
    "reply_account",
    "token_map",
    "watch_map",
]

ACCOUNT_HEADER = "x-copilot-broker-account"
"""Names the account that a completion was made with; the proxy sets it."""


def reply_account(reply: Answer) -> str:
    """Name the account that the completion was made with."""
    return reply.headers.get(ACCOUNT_HEADER, "")


def completion_map(reply: Answer, body: bytes) -> dict[str, object]:
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
        "completions_base": lease.completions_base,
        "clamped": lease.clamped,
        "cooldown_until": lease.cooldown_until,
    }


def token_map(lease: LeasedToken, headers: Mapping[str, str]) -> dict[str, object]:
    """Show the token and how to use it; `headers` are what upstream wants to see besides.

    Raises PermanentError (DENIED, `direct_mode`) where the token is the GitHub token itself.
    """
    if lease.is_direct:
        raise PermanentError(direct_mode(lease.account))
    shown = lease_map(lease)
    return {"token": lease.token, "token_type": "bearer", **shown, "headers": dict(headers)}


def watch_map(state: WatchState, headers: Mapping[str, str]) -> dict[str, object]:
    """Show the full state of one account: the token whenever one may be lent, the error if any."""
    shown: dict[str, object] = {"event": state.kind, "account": state.account}
    failure = state.failure
    if state.lease is not None and state.lease.is_direct:
        shown["event"], failure = "failed", direct_mode(state.account)
    elif state.lease is not None:
        shown |= token_map(state.lease, headers)
    if failure is not None:
        shown["error"] = error_of(failure).to_map()
    return shown


def models_map(listed: ModelList) -> dict[str, object]:
    """Show an account's models, and why they are old ones if they are."""
    shown: dict[str, object] = {
        "account": listed.account,
        "models": [dict(model) for model in listed.models],
        "age": listed.age,
    }
    if listed.failure is not None:
        shown["error"] = error_of(listed.failure).to_map()
    return shown


def progress_map(progress: LoginProgress, about_app: Mapping[str, object]) -> dict[str, object]:
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
            shown: dict[str, object] = {"event": "waiting", "expires_in": progress.expires_in}
            return {**shown, "advice": progress.advice} if progress.advice else shown
        case LoginSucceeded():
            return {"event": "done", "account": account_map(progress.account)}
