"""A stream of events on its way from upstream's reads to the caller, with no task of its own.

Bytes pass as they come, but an event that a read has cut in two waits for its other half: nobody
could use the half, and so there is always room between two events for a comment or for the error
that says that upstream has died.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from brokerd.core.refusals import explain_event
from brokerd.core.scanning import has
from brokerd.gateway.keepalive import COMMENT


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.usage_tail import UsageTail
    from brokerd.errors import Failure
    from brokerd.gateway.changed import Changed
    from brokerd.gateway.keepalive import Keepalive
    from brokerd.gateway.messages import Outlet
    from brokerd.proxy import Answer


__all__ = ["Relay"]

log = logging.getLogger(__name__)

HELD_MAX: Final = 256 * 1024
"""Bytes of an event that wait for its end; the rest of a longer one passes as it comes."""

_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""What ends an event (WHATWG HTML §9.2.5)."""

_ERROR: Final = b'"error"'
"""What each error has in it; in a model's text the quotes are escaped (RFC 8259 §7)."""


class Relay:
    """`ports.Receiver` of one answer and `Work` of its request; closes the answer."""

    __slots__ = (
        "_answer", "_changed", "_closed", "_has_told", "_held", "_is_cut", "_keepalive", "_on_end",
        "_on_refusal", "_outlet", "_send", "_usage", "last_sent",
    )  # fmt: skip

    def __init__(
        self,
        answer: Answer,
        outlet: Outlet,
        keepalive: Keepalive,
        usage: UsageTail,
        changed: Changed,
        *,
        on_end: Callable[[Failure | None], None],
        on_refusal: Callable[[Failure], None],
    ) -> None:
        """`on_end` is called once: upstream has ended (None), has died, or nobody wants it."""
        self._answer = answer
        self._outlet = outlet
        self._send = outlet.send
        self._keepalive = keepalive
        self._usage = usage
        self._changed = changed
        self._on_end: Callable[[Failure | None], None] | None = on_end
        self._on_refusal = on_refusal
        self._held = b""
        self._is_cut = self._has_told = self._closed = False
        self.last_sent = monotonic()

    def start(self) -> None:
        """Let it flow; it may have ended when this returns."""
        self._keepalive.watch(self)
        self._answer.stream_to(self)

    # -- towards upstream ---------------------------------------------------------------------

    def data(self, chunk: bytes) -> None:
        """Take what one read brought."""
        self._usage.feed(chunk)
        if self._held:
            chunk, self._held = self._held + chunk, b""
        if not chunk.endswith(_ENDS):
            at = max(chunk.rfind(end) + len(end) if end in chunk else 0 for end in _ENDS)
            if len(chunk) - at > HELD_MAX or self._is_cut:
                self._is_cut = at == 0
            else:
                chunk, self._held = chunk[:at], chunk[at:]
                if not chunk:
                    return
        else:
            self._is_cut = False
        if has(chunk, _ERROR) and not self._has_told:
            self._look_at(chunk)
        self._pass(self._changed.feed(chunk))

    def ended(self, failure: Failure | None) -> None:
        """Know that nothing follows."""
        if failure is not None and self._usage.is_done:
            failure = None  # all of it is here, only its framing has no end
        if failure is None:
            last = self._changed.feed(self._held) if self._held else b""
            last += self._changed.end()
        else:
            last = self._changed.broken(failure)
        self._held = b""
        self._tell(failure)  # before anybody has its end
        self._pass(last)
        if not self._closed:
            self._outlet.end()
            self._finish(failure)

    # -- towards the caller -------------------------------------------------------------------

    def go_on(self) -> None:
        """See `Work.go_on`."""
        if not self._closed:
            self._answer.resume()

    def close(self) -> None:
        """See `Work.close`."""
        self._finish(None)

    def keep_alive(self) -> None:
        """See `Quiet.keep_alive`."""
        if not self._is_cut:
            self._pass(COMMENT)

    def _pass(self, chunk: bytes) -> None:
        if chunk and not self._closed:
            self.last_sent = monotonic()
            if not self._send(chunk):
                self._answer.pause()

    def _look_at(self, chunk: bytes) -> None:
        refusal = explain_event(chunk)
        if refusal is not None:
            self._has_told = True
            self._on_refusal(refusal)

    def _finish(self, failure: Failure | None) -> None:
        if self._closed:
            return
        self._closed = True
        self._keepalive.forget(self)
        self._answer.close()
        self._tell(failure)

    def _tell(self, failure: Failure | None) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(failure)
