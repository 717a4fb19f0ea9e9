"""What the requests of a connection need of it; `Session` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol


if TYPE_CHECKING:
    from copilot_broker.wire.outgoing import OutgoingStream


__all__ = ["Link"]


class Link(Protocol):
    """See the module's docstring."""

    @property
    def closed(self) -> bool:
        """Nothing can be told any more."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether more may be streamed without holding too much."""
        ...

    def send_chunk(self, stream: OutgoingStream, chunk: bytes) -> bool:
        """Send it; False, and nothing is sent, where credit or the room for it is used up."""
        ...

    def transmit(self) -> None:
        """Write what the wire has to say; the connection may be closed after it."""
        ...

    def tell_held(self) -> None:
        """Note that `kept` has changed; the connection may be closed after it."""
        ...

    def one_less(self) -> None:
        """Note that something is no longer in flight."""
        ...
