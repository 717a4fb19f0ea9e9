"""What became of one completion, whichever door it came through, for whoever counts.

Doors tell it once, when it is over, and before they pass on that it is: whoever has seen the end
of an answer is counted, whatever becomes of us then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from brokerd.core.usage_tail import Usage
    from brokerd.gate import Caller


__all__ = ["Outcome"]


class Outcome(NamedTuple):
    """See the module's docstring."""

    path: str
    """The endpoint, as the caller spoke to it."""
    caller: Caller
    status: int
    """Of the answer; 0: the caller had left before there was one."""
    account: str
    """Whose login it was sent with; "" where nothing was sent."""
    model: str
    """GitHub's id, or the caller's word for it."""
    code: str
    """Of the error; "" if it was none."""
    seconds: float
    """Until the end."""
    head_seconds: float | None
    """Until upstream's head was there; None: it never was."""
    usage: Usage | None
    """As upstream counted; None: it did not tell."""
    spent: int
    """Tokens that a budget is charged: those of `usage`, or about as many where it is not told."""
    initiator: str = ""
    """Who began the turn, as upstream was told: `user` or `agent`; "" for nobody's turn."""
    answered: int = 0
    """Status of upstream's answer; 0: there was none."""

    @property
    def was_served(self) -> bool:
        """Whether upstream has begun to answer, and not with a refusal."""
        return 200 <= self.answered < 300
