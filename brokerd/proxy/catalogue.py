"""The models of each account: asked for seldom, once at a time, and an old list beats none.

A list is good for ten minutes, and what was asked a moment ago is not asked again for anybody.
When GitHub does not tell (a limit, the network, 5xx), the old list stays, is said to be old, and
GitHub is left alone for as long as it wanted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from brokerd.core.retry_after import MIN_SECONDS
from brokerd.errors import BrokerError, ErrorClass, PermanentError, TransientError
from brokerd.views import ModelList


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from brokerd.errors import Failure

    Models: TypeAlias = list[dict[str, Any]]


__all__ = ["AGAIN_AFTER", "FRESH_FOR", "MIN_AGE", "Key", "ModelLists"]

FRESH_FOR = 600.0
"""Seconds; the official editor asks as often. Lists change a few times a month."""

AGAIN_AFTER = 30.0
"""Seconds until GitHub is asked again behind an old list, where it named no time: whoever asks
meanwhile need not wait for a network that was not there a moment ago."""

MIN_AGE = 10.0
"""Seconds within which an account's list is not asked for twice, not even for `fresh`: each time
is a request with the person's token, and a tool may ask in a loop."""

_BROKERS_OWN = frozenset({ErrorClass.LOCKED, ErrorClass.LOGIN_REQUIRED})
"""Failures of having no token: no list is asked for then, and who mends one looks at once."""

Key: TypeAlias = "tuple[object, ...]"
"""What a list depends on besides the account's name: the login, and the host of its token."""


@dataclass(frozen=True)
class _Kept:
    key: Key
    models: Models | None
    """None: there never was a list."""
    told_at: float
    asked_at: float
    """When there was an answer last, or a failure."""
    refusal: Failure | None = None
    """What asking said that asking again does not help; for who wants a newer list."""
    failure: Failure | None = None
    """Why there is no newer one."""
    ask_at: float = 0.0
    """When asking again can help."""
    is_asked_off: bool = False
    """Whether GitHub itself named that time, so that nobody asks sooner."""


class ModelLists:
    """All accounts' lists."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, tuple[Key, asyncio.Task[_Kept]]] = {}

    async def get(
        self,
        account: str,
        key: Key,
        ask: Callable[[], Awaitable[tuple[Key, Models]]],
        *,
        fresh: bool = False,
    ) -> ModelList:
        """Return the list; `ask` brings one, and the key it is kept under.

        `fresh`: ask although the list is young, but for one of this moment (`MIN_AGE`). Raises
        BrokerError when there is no list, or when asking again does not help.
        """
        kept = self._kept.get(account)
        if kept is not None and kept.key != key:
            self.drop(account)
            kept = None
        if kept is None or self._is_due(kept, fresh=fresh):
            kept = await self._asked(account, key, ask)
        return self._shown(account, kept, fresh=fresh)

    def old(self, account: str, failure: Failure) -> ModelList | None:
        """Return what is kept when GitHub could not even be asked, and why; None: nothing is."""
        kept = self._kept.get(account)
        if kept is None or kept.models is None:
            return None
        return ModelList(account, kept.models, max(0.0, self._seconds() - kept.told_at), failure)

    def peek(self, account: str) -> Sequence[dict[str, Any]]:
        """Return what is kept, however old; nothing is asked."""
        kept = self._kept.get(account)
        return (kept.models if kept is not None else None) or ()

    def drop(self, account: str) -> None:
        """Keep it no longer; what is being asked for now is not kept either."""
        self._kept.pop(account, None)
        self._asking.pop(account, None)

    def _is_due(self, kept: _Kept, *, fresh: bool) -> bool:
        now = self._seconds()
        if now - kept.asked_at < MIN_AGE:
            return False
        if now < kept.ask_at:
            return (fresh or kept.models is None) and not kept.is_asked_off
        return fresh or kept.models is None or now - kept.told_at >= FRESH_FOR

    def _shown(self, account: str, kept: _Kept, *, fresh: bool) -> ModelList:
        now, failure = self._seconds(), kept.failure
        is_young = kept.models is not None and now - kept.told_at < FRESH_FOR
        if kept.refusal is not None and (fresh or not is_young):
            raise PermanentError(kept.refusal)
        if failure is not None and failure.retry_after is not None:
            failure = replace(failure, retry_after=max(MIN_SECONDS, kept.ask_at - now))
        if kept.models is None:
            assert failure is not None
            raise TransientError(failure)
        return ModelList(account, kept.models, max(0.0, now - kept.told_at), failure)

    async def _asked(
        self, account: str, key: Key, ask: Callable[[], Awaitable[tuple[Key, Models]]]
    ) -> _Kept:
        """Ask, or wait with who is asking; one who leaves takes nothing from the others."""
        asking = self._asking.get(account)
        if asking is None or asking[0] != key:
            task = asyncio.get_running_loop().create_task(self._ask(account, key, ask))
            task.add_done_callback(_note)
            asking = self._asking[account] = key, task
        return await asyncio.shield(asking[1])

    async def _ask(
        self, account: str, key: Key, ask: Callable[[], Awaitable[tuple[Key, Models]]]
    ) -> _Kept:
        task = asyncio.current_task()
        try:
            try:
                kept_key, models = await ask()
                now = self._seconds()
                kept = _Kept(kept_key, models, now, now)
            except BrokerError as error:
                if error.failure.error_class in _BROKERS_OWN:
                    raise
                kept = self._old(account, key, error.failure)
            if self._is_wanted(account, task):
                self._kept[account] = kept
            return kept
        finally:
            if self._is_wanted(account, task):
                del self._asking[account]

    def _is_wanted(self, account: str, task: asyncio.Task[Any] | None) -> bool:
        asking = self._asking.get(account)
        return asking is not None and asking[1] is task

    def _old(self, account: str, key: Key, failure: Failure) -> _Kept:
        """Keep what there is, and why there is nothing newer."""
        now = self._seconds()
        kept = self._kept.get(account) or _Kept(key, None, now, now)
        if failure.error_class is not ErrorClass.TEMPORARY:
            return replace(kept, asked_at=now, refusal=failure)
        wait = failure.retry_after
        return replace(
            kept,
            asked_at=now,
            refusal=None,
            failure=failure,
            ask_at=now + (AGAIN_AFTER if wait is None else wait),
            is_asked_off=wait is not None,
        )


def _note(task: asyncio.Task[_Kept]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
