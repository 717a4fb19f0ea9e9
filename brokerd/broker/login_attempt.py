"""A login under way: one prompt, however many callers wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from brokerd.core.hints import meanwhile
from brokerd.core.machine.states import (
    AwaitingUser,
    Exchanging,
    Identifying,
    Minting,
    Ready,
    Saving,
    SignedOut,
)
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from brokerd.broker.account_runner import AccountRunner
    from brokerd.views import LoginRequest


__all__ = ["LoginAttempt"]

_CANCELLED = Failure(
    ErrorClass.LOGIN_REQUIRED,
    "login_cancelled",
    "the login was given up",
    "Run copilot-cred login",
)


@dataclass(eq=False)
class LoginAttempt:
    """The request, the machine that pursues it, and who still waits."""

    request: LoginRequest
    runner: AccountRunner
    callers: int = 0
    outcome: Failure | Literal["signed_in"] | None = field(default=None)

    @property
    def is_committed(self) -> bool:
        """Whether the login may rest in its store by now: then it is seen through."""
        match self.runner.machine.state:
            case AwaitingUser() | Exchanging(step=Identifying()):
                return False
            case SignedOut():
                return self.runner.has_saved
            case _:
                return True

    @property
    def is_unsaved(self) -> bool:
        """Whether the store fails and the login is held in memory meanwhile."""
        state = self.runner.machine.state
        return (
            isinstance(state, Exchanging)
            and isinstance(state.step, Saving)
            and state.retry.failure is not None
        )

    def advice(self) -> str:
        """Tell what the person should look after meanwhile; empty: nothing."""
        match self.runner.machine.state:
            case AwaitingUser(retry=retry, pacing=pacing):
                return meanwhile(retry.failure) if retry.failure else pacing.advice or ""
            case Exchanging(step=Identifying() | Saving(), retry=retry) if retry.failure:
                is_given = self.request.token is not None
                done = "the token is accepted" if is_given else "the login is approved"
                return f"{done}, but {meanwhile(retry.failure)}"
            case _:
                return ""

    def conclusion(self) -> Failure | Literal["signed_in"] | None:
        """How it ended; None while it goes on. The first exchange's outcome ends it too."""
        machine = self.runner.machine
        match machine.state:
            case SignedOut(reason=reason) if machine.question is None:
                return reason or _CANCELLED
            case Exchanging(step=Identifying(), retry=retry) if self.request.token is not None:
                # Unlike a grant that a person has approved, the token can be given again.
                return retry.failure
            case Ready():
                return "signed_in"
            case _ if machine.is_withdrawn:  # saved, and locked before its first exchange
                return "signed_in"
            case Exchanging(step=Minting(), retry=retry) if retry.failure is not None:
                return "signed_in"
            case _:
                return None
