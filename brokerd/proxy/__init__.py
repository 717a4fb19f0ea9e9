"""Completions for callers that never see a token.

`proxy` sends one and does what `core.answers` says; `answer` is what the caller gets; `held` keeps
an answer that another may replace.
"""

from __future__ import annotations

from brokerd.proxy.answer import ACCOUNT_HEADER, Answer
from brokerd.proxy.proxy import Lender, Proxy


__all__ = ["ACCOUNT_HEADER", "Answer", "Lender", "Proxy"]
