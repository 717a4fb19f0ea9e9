"""How machines look to callers: pure functions from a state to the values of `brokerd.views`."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from brokerd.core.given import SOURCES
from brokerd.core.machine.states import AwaitingUser, Exchanging, Ready, Saving, SignedOut
from brokerd.core.modes import reason_for
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.views import AccountView, WatchState


if TYPE_CHECKING:
    from brokerd.broker.account_runner import AccountRunner
    from brokerd.broker.login_attempt import LoginAttempt
    from brokerd.core.machine.states import State
    from brokerd.core.settings import AccountSettings
    from brokerd.core.tokens import CopilotToken, IndexEntry, Login
    from brokerd.errors import Failure
    from brokerd.views import AccountState, LeasedToken, LoginRequest, WatchKind


__all__ = ["locked_line", "pending_view", "summary_line", "view_of", "watch_state"]


def view_of(
    runner: AccountRunner,
    entry: IndexEntry | None,
    settings: AccountSettings,
    token_id: str | None,
    now: float,
    *,
    is_default: bool,
    unsaved: bool,
) -> AccountView:
    """Show an account that has a login, or had one."""
    state, login = runner.machine.state, runner.login
    token = state.token if isinstance(state, Ready) else None
    expires_in = refresh_in = login_expires_in = None
    if isinstance(state, Ready):
        expires_in = max(0.0, state.expires_at - now)
    if isinstance(state, (Ready, Exchanging)):
        if state.retry.at is not None:
            refresh_in = max(0.0, state.retry.at - now)
        if state.login_expires_at is not None:
            login_expires_in = max(0.0, state.login_expires_at - now)
        is_saving = isinstance(state.step, Saving)
        unsaved = unsaved or (is_saving and state.retry.failure is not None)
    return AccountView(
        name=runner.name,
        host=entry.host if entry else settings.host,
        user_id=entry.user_id if entry else None,
        login=entry.login if entry else None,
        client_id=entry.client_id if entry else settings.client_id,
        mode=_mode(token, entry, settings),
        source=entry.source if entry else settings.source,
        store=_store(entry, settings),
        default=is_default,
        state=_state_name(state),
        unsaved=unsaved,
        token_id=token_id,
        expires_in=expires_in,
        refresh_in=refresh_in,
        error=runner.failure,
        mode_reason=_mode_reason(login, settings),
        scopes=login.token.scope if login else "",
        sku=token.sku if token else "",
        api_base=token.api_base if token else "",
        login_expires_in=login_expires_in,
    )


def _store(entry: IndexEntry | None, settings: AccountSettings) -> str:
    if entry is not None:
        return entry.store
    return settings.source if settings.source in SOURCES else ""


def _mode(token: CopilotToken | None, entry: IndexEntry | None, settings: AccountSettings) -> str:
    """Tell how it works, what was learned of it, or what is configured."""
    if token is not None:
        return "direct" if token.is_direct else "exchange"
    is_learned = settings.mode == "auto" and entry is not None and entry.is_direct
    return "direct" if is_learned else settings.mode


def _mode_reason(login: Login | None, settings: AccountSettings) -> str:
    if login is None:
        return ""
    return reason_for(login.token.value, settings.mode, is_direct=login.is_direct)


def pending_view(
    name: str,
    attempt: LoginAttempt | None,
    request: LoginRequest | None,
    settings: AccountSettings,
    *,
    is_default: bool,
) -> AccountView:
    """Show an account whose first login is under way."""
    return AccountView(
        name=name,
        host=request.host if request else settings.host,
        user_id=None,
        login=None,
        client_id=request.client_id if request else settings.client_id,
        mode=settings.mode,
        source="login" if request is None or request.token is None else "token",
        store="",
        default=is_default,
        state=_state_name(attempt.runner.machine.state) if attempt else "signed_out",
        unsaved=attempt is not None and attempt.is_unsaved,
        token_id=None,
        expires_in=None,
        refresh_in=None,
        error=attempt.runner.failure if attempt else None,
    )


def watch_state(
    name: str,
    runner: AccountRunner | None,
    lent: LeasedToken | None,
    no_login: Failure,
    pending: Failure,
) -> WatchState:
    """Show an account to a watcher."""
    name = name or DEFAULT_ACCOUNT
    state = runner.machine.state if runner else SignedOut()
    failure = runner.failure if runner else None
    match state:
        case SignedOut(reason=reason):
            return WatchState(name, "login_required", None, reason or no_login)
        case AwaitingUser():
            return WatchState(name, "login_required", None, no_login)
        case Exchanging(retry=retry):
            kind: WatchKind = "failed" if retry.at is None else "cooldown"
            return WatchState(name, kind, None, failure or pending)
        case Ready():
            if lent is None:
                return WatchState(name, "cooldown", None, failure or pending)
            return WatchState(name, "token", lent, failure)
        case _:
            assert_never(state)


def summary_line(view: AccountView | None, count: int) -> str:
    """Say in one line how the default account is doing, and how many there are."""
    others = f"; {count} accounts" if count > 1 else ""
    if view is None and count:
        return "no default account: run copilot-cred account use NAME" + others
    if view is None:
        return "signed out: run copilot-cred login" + others
    who = f"signed in as {view.login or view.name} ({view.host})"
    why = f": {view.error.message}" if view.error else ""
    match view.state:
        case "signed_out" if view.store in SOURCES:
            return f"signed out{why}: see copilot-cred doctor{others}"
        case "signed_out":
            named = "" if view.name == DEFAULT_ACCOUNT else f" --account {view.name}"
            return f"signed out{why}: run copilot-cred login{named}{others}"
        case "awaiting_user":
            return f"a login waits for its approval on {view.host}{others}"
        case "exchanging" if view.unsaved and view.login is None:
            return f"login approved but not saved yet{why}{others}"
        case "exchanging" | "ready" if view.unsaved:
            return f"{who}, new login not saved yet{why}{others}"
        case "exchanging":
            return f"{who}, no token yet{why}{others}"
        case "ready":
            trouble = f", refresh fails{why}" if view.error else ""
            if view.mode == "direct":
                return f"{who}, used directly{trouble}{others}"
            minutes = int((view.expires_in or 0.0) // 60)
            return f"{who}, token valid {minutes} min{trouble}{others}"
        case _:
            assert_never(view.state)


def locked_line(count: int) -> str:
    """Say in one line that nothing is to be had, however many accounts there are."""
    others = f"; {count} accounts" if count > 1 else ""
    return f"locked: run copilot-cred unlock{others}"


def _state_name(state: State) -> AccountState:
    match state:
        case SignedOut():
            return "signed_out"
        case AwaitingUser():
            return "awaiting_user"
        case Exchanging():
            return "exchanging"
        case Ready():
            return "ready"
