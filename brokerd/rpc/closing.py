"""Iterators that are closed when they are left."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import AsyncIterator


__all__ = ["Closing"]


class Closing:
    """`contextlib.aclosing` for iterators of which not all are generators.

    Leaving a loop early does not end a generator's `finally` until it is collected; the broker
    learns there that a caller has left.
    """

    def __init__(self, iterator: AsyncIterator[object]) -> None:
        self._iterator = iterator

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        aclose = getattr(self._iterator, "aclose", None)
        if aclose is not None:
            await aclose()
