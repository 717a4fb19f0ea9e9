"""What became of one completion of the HTTP door, for whoever counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple


if TYPE_CHECKING:
    from brokerd.core.usage_tail import Usage
    from brokerd.gate import Caller


__all__ = ["Outcome"]


class Outcome(NamedTuple):
    """Told once, when it is over."""

    path: str
    """The endpoint, as the caller spoke to it."""
    caller: Caller
    status: int
    """Of the answer; 0: the caller had left before there was one."""
    account: str
    """"" where nothing was sent."""
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
