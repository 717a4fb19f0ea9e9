"""What is left of each account's plan: the face (`quotas`), sources, readings, answers, tokens."""

from __future__ import annotations

from brokerd.broker.quotas.quotas import REREAD_PAUSE, Quotas


__all__ = ["REREAD_PAUSE", "Quotas"]
