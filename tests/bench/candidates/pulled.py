"""A pushed answer for those who pull: servers that want an `async for`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.candidates.client_httptools import Client


__all__ = ["Pulled"]


class Pulled:
    """The answer to one completion: `await asked(…)`, then iterate over `pieces()`."""

    def __init__(self) -> None:
        self.status = 0
        self.kind = b""
        self.length: bytes | None = None
        self._pieces: list[bytes] = []
        self._ended = self._was_cut = False
        self._wanted = asyncio.get_running_loop().create_future()

    @classmethod
    async def asked(cls, client: Client, body: bytes) -> Pulled:
        """Send it and return when its head is there."""
        pulled = cls()
        client.ask(pulled, body)
        await pulled._wanted
        return pulled

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield what has come since the last time, in one piece."""
        while True:
            if self._pieces:
                piece = b"".join(self._pieces)
                self._pieces.clear()
                yield piece
            elif self._ended:
                return
            else:
                self._wanted = asyncio.get_running_loop().create_future()
                await self._wanted

    def head(self, status: int, kind: bytes, length: bytes | None) -> None:
        """Take the head."""
        self.status, self.kind, self.length = status, kind, length
        self._wake()

    def data(self, chunk: bytes) -> None:
        """Take a piece."""
        self._pieces.append(chunk)
        self._wake()

    def end(self) -> None:
        """Take the end."""
        self._ended = True
        self._wake()

    def cut(self) -> None:
        """Upstream has died."""
        self._ended = self._was_cut = True
        self._wake()

    def _wake(self) -> None:
        if not self._wanted.done():
            if self._was_cut:
                self._wanted.set_exception(ConnectionResetError("upstream has died"))
            else:
                self._wanted.set_result(None)
