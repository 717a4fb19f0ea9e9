"""What became of a completion; see `brokerd.proxy.outcome`."""

from __future__ import annotations

from brokerd.proxy.outcome import Outcome


__all__ = ["Outcome"]
