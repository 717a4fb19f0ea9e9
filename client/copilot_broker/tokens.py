"""A Copilot token as the broker lends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_broker.errors import InternalError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["Token"]

RESTART_HINT = "Run: systemctl --user restart copilot-broker"


@dataclass(frozen=True)
class Token:
    """Use it until `expires_in` has passed, then ask again; the broker refreshes it by itself.

    Its repr and str show the id and never the token.
    """

    token: str = field(repr=False)
    """The bearer: `Authorization: Bearer TOKEN`. A secret."""
    expires_at: int
    """Unix seconds, UTC; to be shown. To decide anything use `expires_in`: clocks jump."""
    expires_in: float
    """Seconds it had left when it was handed out."""
    api_base: str
    """Origin of the Copilot API that this token is for."""
    account: str
    token_id: str
    """Eight hex digits that stand for the token in logs; may be passed to `reject`."""
    clamped: bool = False
    """GitHub's tokens do not live as long as `min_valid` asked for; this one is as fresh as
    it gets."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the Copilot API wants to see besides Authorization."""
    completions_base: str = ""
    """Origin of the host for fill-in-the-middle completions; empty where GitHub names none."""
    cooldown_until: int | None = None
    """Unix seconds, UTC: send Copilot nothing of this account before; None: it wants requests.
    One that has passed binds nobody."""

    def __str__(self) -> str:
        """As repr, so that printing it shows no secret."""
        return repr(self)

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Token:
        """Read the result of `token.get`. Raises InternalError when something is missing."""
        try:
            until = result.get("cooldown_until")
            return cls(
                token=str(result["token"]),
                expires_at=int(result["expires_at"]),
                expires_in=float(result["expires_in"]),
                api_base=str(result["api_base"]),
                account=str(result["account"]),
                token_id=str(result["token_id"]),
                clamped=bool(result.get("clamped", False)),
                headers=dict(result.get("headers") or {}),
                completions_base=str(result.get("completions_base") or ""),
                cooldown_until=None if until is None else int(until),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            message = "the broker's answer lacks what a token needs"
            raise InternalError("bad_answer", message, RESTART_HINT) from None
