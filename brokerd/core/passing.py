"""Keys that pass: minted for a while, or bound to the run of one program. Values only.

A *run* is a process that `copilot-cred exec` has become: it has an address of the HTTP door to
itself and a key that is good there and nowhere else, and both end with it. A *minted* key is good
where kept ones are, for an hour or so. The texts of both are like any key's; nobody keeps them.

Their names have a colon, which no name of a kept key can have: none is ever taken for another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from brokerd.core.keys import Key, Spent
from brokerd.core.setting_checks import NotAllowedError, account_name


__all__ = [
    "MINTED",
    "MINTED_LIFE_MAX",
    "MINTED_MAX",
    "RUN",
    "RUNS_MAX",
    "KeptRun",
    "Passing",
    "PassingKey",
    "Process",
    "is_passing_name",
    "key_label",
    "passing_name",
]

RUN: Final = "run"
MINTED: Final = "get"
"""The two kinds, and what their names begin with; the second after the verb that mints."""

RUNS_MAX: Final = 128
"""Runs at once: each has a port, two descriptors and a place in the loop. A person has some dozens
of terminals."""

MINTED_MAX: Final = 128
"""Minted keys at once; asking the same again gives the same key again."""

MINTED_LIFE_MAX: Final = 86_400
"""Seconds that a minted key may last; what is to last longer is made with a name."""

_NAME = re.compile(rf"(?:{RUN}|{MINTED}):[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}(?::[1-9][0-9]{{0,3}})?")


@dataclass(frozen=True)
class Process:
    """One process for as long as the machine runs, so that it is found again: proc(5)."""

    pid: int
    started: int
    """Clock ticks from boot to its start: whoever gets its number next has started later."""
    boot: str
    """/proc/sys/kernel/random/boot_id: after another start of the machine nobody is the same."""


@dataclass(frozen=True)
class PassingKey(Key):
    """A key that nobody has named; its `name` is `passing_name` of its label."""

    label: str = ""
    """What asked for it, as somebody chose to call it: the command's name mostly."""
    at: str = ""
    """The address of its run, `127.0.0.1:PORT`, the only one where it is good; "" of minted ones,
    which are good wherever kept keys are."""
    process: Process | None = None
    """Whose run it is; None of minted ones."""

    @property
    def kind(self) -> str:
        """`RUN` or `MINTED`."""
        return RUN if self.at else MINTED


@dataclass(frozen=True)
class Passing:
    """What is wanted of a key before it has a name and a digest."""

    label: str
    models: tuple[str, ...] | None = None
    account: str | None = None
    requests_per_minute: int | None = None
    budget: int | None = None


@dataclass(frozen=True)
class KeptRun:
    """A run as it is written down for the daemon after this one."""

    key: PassingKey
    spent: Spent | None = None


def key_label(value: str) -> str:
    """Check a label by the rules for names; NotAllowedError if not. It is shown, and logged."""
    return account_name(value)


def passing_name(kind: str, label: str, number: int) -> str:
    """Return the name of the `number`th key of that label: `run:aider`, `run:aider:2`."""
    return f"{kind}:{label}" if number == 1 else f"{kind}:{label}:{number}"


def is_passing_name(value: str) -> str:
    """Return it if it is one of `passing_name`; NotAllowedError if not."""
    if not _NAME.fullmatch(value):
        raise NotAllowedError("the name of a run")
    return value
