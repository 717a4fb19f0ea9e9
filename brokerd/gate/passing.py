"""The keys that pass, of one broker: those of runs, and minted ones. In memory only.

They hang beside the kept ones (`keyring`) and take away as those do. A run's ends with its
process, which is for `app` to know; a minted one with its time. A name is given again only when
its key is gone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from brokerd.core.audit import KEY_MINTED, RUN_ENDED, RUN_LEASED
from brokerd.core.keys import RANDOM_BYTES, digest_of, rule_of, text_of
from brokerd.core.passing import (
    MINTED,
    MINTED_MAX,
    RUN,
    RUNS_MAX,
    KeptRun,
    PassingKey,
    passing_name,
)
from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.gate.purse import Purse
from brokerd.gate.records import note


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.access import Rule
    from brokerd.core.keys import Key
    from brokerd.core.passing import Passing, Process
    from brokerd.gate.caller import Caller


__all__ = ["PassingKeys"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    key: PassingKey
    text: str = field(default="", repr=False)
    """Of a minted one, which is told again to whoever asks the same; "" of a run's."""
    on_revoked: Callable[[], None] | None = None
    """Of a run: its owner's, to close the address."""


class PassingKeys:
    """See the module's docstring. A `Ring`, as the keyring is."""

    def __init__(
        self,
        wall: Callable[[], float],
        random: Callable[[int], bytes],
        *,
        on_change: Callable[[], None],
        expel: Callable[[PassingKey], int],
    ) -> None:
        """`wall` gives Unix seconds, `random` bytes that nobody can guess.

        `on_change` is called when `rules` have changed; `expel` closes what a key that is over
        was used by, and returns how many connections that were.
        """
        self.wall = wall
        self._random = random
        self._on_change = on_change
        self._expel = expel
        self._purse = Purse(wall)
        self._by_digest: dict[str, _Held] = {}

    # -- what there is ------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[PassingKey, ...]:
        """All of them, the minted ones that have expired left out."""
        now = self.wall()
        return tuple(h.key for h in self._by_digest.values() if not h.key.is_expired(now))

    @property
    def rules(self) -> dict[str, Rule]:
        """What each leaves, by its name."""
        return {held.key.name: rule_of(held.key) for held in self._by_digest.values()}

    @property
    def runs(self) -> tuple[KeptRun, ...]:
        """The runs, as they are written down."""
        spent = self._purse.all
        return tuple(KeptRun(key, spent.get(key.name)) for key in self.keys if key.kind == RUN)

    def named(self, name: str) -> PassingKey | None:
        """Return the key of that name."""
        return next((h.key for h in self._by_digest.values() if h.key.name == name), None)

    def shown(self, text: str) -> PassingKey | None:
        """Return the key with that text, expired or not."""
        held = self._by_digest.get(digest_of(text))
        return None if held is None else held.key

    # -- a run --------------------------------------------------------------------------------

    def check_room(self) -> None:
        """Raise TransientError `too_many_runs` where no more may be leased."""
        if sum(held.key.kind == RUN for held in self._by_digest.values()) >= RUNS_MAX:
            raise TransientError(_TOO_MANY_RUNS)

    def lease(
        self,
        by: Caller,
        wanted: Passing,
        *,
        at: str,
        process: Process,
        on_revoked: Callable[[], None],
    ) -> tuple[PassingKey, str]:
        """Make the key of a run, and return it with its text; raises as `check_room` does.

        `by` asked for it; `on_revoked` is called where a person ends it before its process does.
        """
        self.check_room()
        name = self._free_name(RUN, wanted.label)
        text = text_of(self._random(RANDOM_BYTES))
        key = replace(self._made(wanted, name, text, None), at=at, process=process)
        self._hold(_Held(key, on_revoked=on_revoked))
        note(RUN_LEASED, replace(by.peer, key=name), by.listener, by.rights, ADDRESS=at)
        return key, text

    def restore(self, run: KeptRun, on_revoked: Callable[[], None]) -> None:
        """Hold a run of the daemon before this one, as it was."""
        if run.spent is not None:
            self._purse.all[run.key.name] = run.spent
        self._hold(_Held(run.key, on_revoked=on_revoked))

    def end(self, key: PassingKey, reason: str) -> int:
        """Forget a key, close what has used it, and write it down; `reason` is for the log.

        Returns how many connections were closed.
        """
        del self._by_digest[key.digest]
        self._purse.all.pop(key.name, None)
        self._on_change()
        count = self._expel(key)
        lasted = max(0, int(self.wall()) - key.created)
        fields = {"KEY": key.name, "REASON": reason, "LIFETIME": lasted, "COUNT": count}
        if key.kind == RUN:
            log.info(RUN_ENDED.message, extra=RUN_ENDED.extra(**fields))
        return count

    def revoke(self, key: PassingKey) -> int:
        """End a key because a person wants it, and its address with it."""
        on_revoked = self._by_digest[key.digest].on_revoked
        count = self.end(key, "revoked")
        if on_revoked is not None:
            on_revoked()
        return count

    # -- a minted key -------------------------------------------------------------------------

    def mint(self, by: Caller, wanted: Passing, lasts: int) -> tuple[PassingKey, str]:
        """Return a key for so many seconds, and its text.

        Whoever asks the same gets the same key while more than half of its life is left. Raises
        TransientError `too_many_minted`.
        """
        self._sweep()
        now = self.wall()
        for held in self._by_digest.values():
            key = held.key
            left = 0 if key.expires is None else key.expires - now
            if not lasts / 2 < left <= lasts:  # more, where the clock was set back
                continue
            if key.expires == key.created + lasts and _is_wanted(key, wanted):
                return key, held.text
        minted = [h.key.expires for h in self._by_digest.values() if h.key.expires is not None]
        if len(minted) >= MINTED_MAX:
            raise TransientError(replace(_TOO_MANY_MINTED, retry_after=min(minted) - now))
        name = self._free_name(MINTED, wanted.label)
        text = text_of(self._random(RANDOM_BYTES))
        key = self._made(wanted, name, text, lasts)
        self._hold(_Held(key, text))
        note(KEY_MINTED, replace(by.peer, key=name), by.listener, by.rights, LIFETIME=lasts)
        return key, text

    # -- what they spend ----------------------------------------------------------------------

    def spent(self, name: str) -> int:
        """Return the tokens that a key has used today (UTC)."""
        return self._purse.spent(name)

    def spend(self, name: str, tokens: int) -> None:
        """Add to that; of a key that there is not any more nothing is kept."""
        if tokens > 0 and self.named(name) is not None:
            self._purse.add(name, tokens)

    def over_budget(self, key: Key) -> Failure | None:
        """Why it may not go on today: its budget is used up."""
        return self._purse.over_budget(key)

    # -----------------------------------------------------------------------------------------

    def _made(self, wanted: Passing, name: str, text: str, lasts: int | None) -> PassingKey:
        created = int(self.wall())
        return PassingKey(
            name=name,
            digest=digest_of(text),
            created=created,
            expires=None if lasts is None else created + lasts,
            models=wanted.models,
            account=wanted.account,
            requests_per_minute=wanted.requests_per_minute,
            budget=wanted.budget,
            label=wanted.label,
        )

    def _hold(self, held: _Held) -> None:
        self._by_digest[held.key.digest] = held
        self._on_change()

    def _free_name(self, kind: str, label: str) -> str:
        """Return the first one that no key has; there are fewer keys than numbers."""
        taken = {held.key.name for held in self._by_digest.values()}
        number = 1
        while (name := passing_name(kind, label, number)) in taken:
            number += 1
        return name

    def _sweep(self) -> None:
        """Forget the minted keys whose time is over.

        Nobody who uses one is closed: an answer that was begun in time may end, as with a kept
        key, and each further request is refused on that connection (`KeyedCaller.prove_valid`).
        """
        now = self.wall()
        over = [h.key for h in self._by_digest.values() if h.key.is_expired(now)]
        for key in over:
            del self._by_digest[key.digest]
            self._purse.all.pop(key.name, None)
        if over:
            self._on_change()


def _is_wanted(key: PassingKey, wanted: Passing) -> bool:
    has = (key.label, key.models, key.account, key.requests_per_minute, key.budget)
    return has == (
        wanted.label,
        wanted.models,
        wanted.account,
        wanted.requests_per_minute,
        wanted.budget,
    )


_TOO_MANY_RUNS: Final = Failure(
    ErrorClass.TEMPORARY,
    "too_many_runs",
    f"{RUNS_MAX} runs are under way, and no more may be",
    "See which, and end some: copilot-cred key list",
)
_TOO_MANY_MINTED: Final = Failure(
    ErrorClass.TEMPORARY,
    "too_many_minted",
    f"there are {MINTED_MAX} minted keys, and no more may be",
    "See which, and end some: copilot-cred key list",
)
