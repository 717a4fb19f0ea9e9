"""One request, and the three ways in which a method may answer it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from brokerd.gate import Caller


__all__ = ["Answer", "Begun", "Call", "Chunks", "Later", "Rows"]


@dataclass(frozen=True)
class Call:
    """One request of an admitted caller."""

    caller: Caller
    method: str
    params: Mapping[str, Any] = field(repr=False)


Answer = dict[str, object]


@dataclass(frozen=True)
class Later:
    """An answer that has to be waited for; nothing has begun before `start`."""

    start: Callable[[], Awaitable[Answer]]
    """Does it. Raises BrokerError."""


Chunks: TypeAlias = "AsyncGenerator[Callable[[], Answer], None]"
"""A stream of maps. Each is made in the moment it leaves, however long it had to wait for credit:
a token is lent then, by the rights of then. Making it may raise BrokerError, which ends it."""

Begun: TypeAlias = "Answer | Later | Chunks"
"""What a method returns: its answer, what there is to wait for, or the chunks of its stream."""

Rows: TypeAlias = "dict[str, Callable[[Call], Begun]]"
"""Method name → what it does. Raises PermanentError (USAGE) for parameters that make no sense."""
