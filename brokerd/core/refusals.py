"""What a refusal of the Copilot API means: one table, from an answer to words and a next step.

The body of a refusal is JSON `{"error": {…}}`, that inner object alone, or plain text, and the
content type does not tell which: read by trying.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.errors import Failure


__all__ = ["Refusal", "explain", "explain_event"]


@dataclass(frozen=True)
class Refusal:
    """An answer that is no completion, explained."""

    failure: Failure
    limits: Literal["nothing", "model", "account"] = "nothing"
    """What upstream wants fewer requests of for a while (`failure.retry_after`)."""


def explain(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> Refusal:
    """Explain an answer that is not 2xx. `now`: Unix seconds; `body` may be its beginning only."""
    raise NotImplementedError


def explain_event(chunk: bytes) -> Failure | None:
    """Explain the error that stands among the events of a chunk of a stream under 200, if any."""
    raise NotImplementedError
