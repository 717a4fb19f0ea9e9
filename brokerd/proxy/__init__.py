"""Completions for callers that never see a token.

`proxy` sends one and does what `core.answers` says; `answer` is what the caller gets; `peeked` is
an answer whose beginning was read first. `models` are the small calls beside them.
"""

from __future__ import annotations

from brokerd.proxy.answer import ACCOUNT_HEADER, Answer
from brokerd.proxy.lender import Lender
from brokerd.proxy.proxy import Proxy


__all__ = ["ACCOUNT_HEADER", "Answer", "Lender", "Proxy"]
