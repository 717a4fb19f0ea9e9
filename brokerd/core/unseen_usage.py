"""About how many tokens an answer has cost whose usage was never told.

Copilot tells it in a stream's last event, which who hangs up before that has not let come. What
was said until then has been paid for all the same, and a budget that did not count it would be
none for whoever always hangs up in time. It is a guess, made of sizes alone.
"""

from __future__ import annotations

import re
from typing import Final

from brokerd.core.token_estimate import MAX_IMAGE


__all__ = ["unseen_answer", "unseen_prompt", "unseen_usage"]

_BYTES_OF_TOKEN: Final = 4
"""Of a prompt in English or code, JSON around it included."""

_BYTES_OF_EVENT: Final = 200
"""Of a stream: each event brings about one token in some two hundred bytes of JSON."""

_CODED: Final = re.compile(rb"[A-Za-z0-9+/\\]{1024,}")
"""An image in base64, whose size says little of its tokens. No text has words of this length."""


def unseen_usage(body: bytes, answered: int) -> int:
    """Return prompt and completion tokens of a request's body and so many bytes of its answer."""
    return max(1, unseen_prompt(body) + unseen_answer(answered))


def unseen_prompt(body: bytes) -> int:
    """Return the prompt's tokens of a request's body, for who does not keep that."""
    coded = [len(each) for each in _CODED.findall(body)]
    return (len(body) - sum(coded)) // _BYTES_OF_TOKEN + len(coded) * MAX_IMAGE


def unseen_answer(answered: int) -> int:
    """Return the completion's tokens of so many bytes of an answer."""
    return answered // _BYTES_OF_EVENT
