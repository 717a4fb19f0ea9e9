"""Faults by name, of GitHub's paths and of Copilot's: which one is meant follows from the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.simulator import github_refusals, refusals
from brokerd.simulator.places import is_github


if TYPE_CHECKING:
    from brokerd.simulator.faults import Fault


__all__ = ["named"]


def named(name: str, now: float, path: str) -> Fault:
    """Give the fault of that name for a path; dates in it are counted from `now`, Unix seconds.

    Some names are both GitHub's and Copilot's, with a body of their own for each. KeyError: no
    such name.
    """
    github = github_refusals.table(now)
    if name in github and (is_github(path) or name not in refusals.NAMES):
        return github[name]
    return refusals.named(name, now)
