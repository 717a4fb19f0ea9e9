"""What an answer makes of an account's state; failures are in `setbacks`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core.machine.device_grant import Pacing, is_pending, refusal, sane_expires_in
from brokerd.core.machine.effects import (
    Effect,
    ExchangeToken,
    IdentifyUser,
    LoadLogin,
    PollDeviceGrant,
    PrepareDirect,
    RenewToken,
    RequestDeviceCode,
    SaveLogin,
)
from brokerd.core.machine.events import (
    DeviceCodeIssued,
    DeviceGranted,
    DeviceNotGranted,
    LoginLoaded,
    LoginRenewed,
    LoginSaved,
    TokenIssued,
    UserIdentified,
)
from brokerd.core.machine.refresh import Retry, is_alive, refresh_delay
from brokerd.core.machine.renewal import expiry_of_kept, expiry_of_new, lead, renewed
from brokerd.core.machine.setbacks import without_dead_token
from brokerd.core.machine.states import (
    AwaitingUser,
    Exchanging,
    Identifying,
    Loading,
    Minting,
    Ready,
    Renewing,
    Saving,
    SignedOut,
)
from brokerd.core.tokens import Login
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from brokerd.core.machine.device_grant import NotGranted
    from brokerd.core.machine.events import Answer
    from brokerd.core.machine.questions import App
    from brokerd.core.machine.states import State
    from brokerd.core.tokens import CopilotToken, GitHubToken, User


__all__ = ["REFUSED_BEFORE", "followed"]

REFUSED_BEFORE = Failure(
    ErrorClass.LOGIN_REQUIRED,
    "bad_credentials",
    "GitHub does not accept the login any more",
    "Run: copilot-cred login",
)
"""Several bad credentials within a short time make GitHub lock the person out of every tool."""

_STILLBORN = Failure(
    ErrorClass.TEMPORARY,
    "token_stillborn",
    "GitHub issued a Copilot token that had already expired",
    "Check this machine's clock with timedatectl, then run copilot-cred refresh",
)
_MISSING = Failure(
    ErrorClass.LOGIN_REQUIRED,
    "login_missing",
    "the login is gone from its store",
    "Run copilot-cred login",
)


def followed(
    state: State,
    question: Effect,
    answer: Answer,
    *,
    app: App,
    asked_at: float,
    now: float,
    chance: float,
) -> State | Failure | None:
    """Return the next state, a (transient) failure that the answer amounts to, or None.

    None: the answer belongs to another kind of question or step, which is a defect of the edge.
    """
    match (question, answer, state):
        case (RequestDeviceCode(), DeviceCodeIssued(code=code), _):
            pacing = Pacing.told(code.interval)
            expires_at = asked_at + sane_expires_in(code.expires_in)
            return AwaitingUser(code, expires_at, pacing, Retry(now + pacing.delay))
        case (PollDeviceGrant(), DeviceGranted(token=token), _):
            return Exchanging(Identifying(token), Retry(now), expiry_of_new(token, asked_at))
        case (PollDeviceGrant(), DeviceNotGranted(answer=told), AwaitingUser()):
            return _not_granted(state, told, now)
        case (IdentifyUser(), UserIdentified(user=user), Exchanging(step=Identifying() as step)):
            token = _with_scopes(step.token, user)
            login = Login(app.host, user, token, app.client_id, step.source)
            return replace(state, step=Saving(login), retry=Retry(now))
        case (
            SaveLogin(),
            LoginSaved(),
            Exchanging(step=Saving() as saved) | Ready(step=Saving() as saved),
        ):
            minting = Minting(saved.login, is_renewed=saved.is_renewal)
            return replace(state, step=minting, retry=Retry(now))
        case (LoadLogin(), LoginLoaded(), Exchanging(step=Loading() as loading)):
            return _loaded(loading, state.retry.not_before, answer, now)
        case (
            RenewToken(),
            LoginRenewed(token=token),
            Exchanging(step=Renewing() as old) | Ready(step=Renewing() as old),
        ):
            saving = Saving(renewed(old.login, token), is_renewal=True)
            next_state = without_dead_token(state, saving, Retry(now))
            return replace(next_state, login_expires_at=expiry_of_new(token, asked_at))
        case (
            ExchangeToken() | PrepareDirect(),
            TokenIssued(token=minted),
            Exchanging(step=Minting() as step) | Ready(step=Minting() as step),
        ):
            return _issued(state, step, minted, asked_at=asked_at, now=now, chance=chance)
        case _:
            return None


def _not_granted(state: AwaitingUser, told: NotGranted, now: float) -> State:
    if not is_pending(told):
        return SignedOut(refusal(told.error, state.pacing))
    pacing = state.pacing.after(told)
    return replace(state, pacing=pacing, retry=Retry(now + pacing.delay))


def _with_scopes(token: GitHubToken, user: User) -> GitHubToken:
    """Add the scopes that GitHub names with the user where the grant, or its giver, did not."""
    if token.scope or user.scopes is None:
        return token
    return replace(token, scope=user.scopes)


def _loaded(step: Loading, not_before: float, answer: LoginLoaded, now: float) -> State:
    """Go on to a minting; `not_before` is upstream's own limit from before a lock."""
    login = answer.login
    if login is None:
        return SignedOut(step.reason or _MISSING)
    if answer.was_refused:
        return SignedOut(step.reason or REFUSED_BEFORE)
    if step.refused is not None and step.refused.token.value == login.token.value:
        return SignedOut(step.reason)
    retry = Retry(max(now, not_before), not_before=not_before)
    return Exchanging(Minting(login), retry, expiry_of_kept(answer.expires_in, now))


def _issued(
    state: Exchanging | Ready,
    step: Minting,
    token: CopilotToken,
    *,
    asked_at: float,
    now: float,
    chance: float,
) -> State | Failure:
    login_expires_at = state.login_expires_at
    expires_at = asked_at + token.lifetime if is_alive(token) else now
    due = asked_at + refresh_delay(token, chance) if is_alive(token) else now
    if token.is_direct and login_expires_at is not None and login_expires_at > now:
        # It is the GitHub token: it dies with it, and is replaced by the renewal. (An expiry in
        # the past was told by a wrong clock: GitHub has just taken the token.)
        expires_at = min(expires_at, login_expires_at)
        due = min(due, login_expires_at)
        if step.login.token.refresh_token is not None and step.renewal is None:
            due = min(due, login_expires_at - lead(step.login.token))
    if expires_at <= now:
        return _STILLBORN
    renewal = step.renewal
    if renewal is not None and renewal.at is not None:
        renewing = Renewing(step.login)
        return Ready(renewing, token, asked_at, expires_at, renewal, login_expires_at)
    minting = Minting(step.login, renewal=renewal)
    return Ready(minting, token, asked_at, expires_at, Retry(max(now, due)), login_expires_at)
