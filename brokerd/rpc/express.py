"""The express lane: `token.get` asked as it was asked before, with a token at hand.

An agent asks for its token again and again, in the same bytes but for the msgid. So the bytes of
one read that are exactly one such request are looked up rather than walked and decoded, and the
answer is put together around the two numbers in it that change. Nothing is decided here: the gate
is asked as for any request and told of the grant, the process is polled right before, and the
broker lends. Whatever is the least bit odd is left to the long way, whose answer would have had
the very same bytes; a property test compares them.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from brokerd.errors import BrokerError
from brokerd.rpc.params import token_params
from brokerd.rpc.shapes import token_map
from copilot_broker.wire.errors import RemoteProtocolError
from copilot_broker.wire.limits import Limits
from copilot_broker.wire.messages import Request, Response, decode, encode, params_of
from copilot_broker.wire.prescan import Prescan


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.broker import Broker
    from brokerd.gate import Caller
    from brokerd.views import LeasedToken


__all__ = ["ExpressLane"]

METHOD: Final = "token.get"

KNOWN_MAX = 64
"""Different requests remembered: a machine has a handful of tools. The oldest one makes room."""

REQUEST_MAX = 256
"""Bytes of a request that is worth remembering; usual ones have thirty."""

_RESPONSE: Final = b"\x94\x01"
_pack: Final = struct.Struct(">I12sd").pack
_BETWEEN: Final = b"\xaaexpires_in\xcb"
"""What stands between `expires_at` (uint 32) and the digits of `expires_in` (float 64)."""
_EXPIRES_AT: Final = 1_900_000_000


_Answer = tuple["LeasedToken", bytes, bytes]
"""The lease, and the bytes before and after the numbers of its answer."""


class ExpressLane:
    """One for all connections; see the module's docstring."""

    def __init__(self, broker: Broker, headers: Callable[[], Mapping[str, str]]) -> None:
        self._leasable = broker.leasable
        self._headers = headers
        self._known: dict[bytes, tuple[str | None, float]] = {}
        """All of a request after its msgid → (account, min_valid)."""
        self._answers: dict[str, _Answer] = {}
        """By account; forgotten with every change, so that no token outlives its login here."""
        broker.on_change(self._answers.clear)

    def answer(self, data: bytes, caller: Caller) -> bytes | None:
        """Return the answer to `data`, already accounted for: send it; None: go the long way."""
        if not 6 < len(data) <= REQUEST_MAX or data[0] != 0x94 or data[1]:
            return None
        end = 3 if data[2] < 0x80 else _end_of_msgid(data)
        wish = self._known.get(data[end:])
        found = None if wish is None else self._leasable(*wish)
        if found is None:
            return None
        lease, expires_at, expires_in = found
        answer = self._answers.get(lease.account)
        if answer is None or answer[0] is not lease:
            answer = self._answers[lease.account] = _answer_for(lease, self._headers())
        _, before, after = answer
        if not before or not 1 << 16 <= expires_at < 1 << 32:
            return None
        if not caller.grant_at_once(METHOD, lease.account, lease.token_id):
            return None
        numbers = _pack(expires_at, _BETWEEN, expires_in)
        return b"".join((_RESPONSE, data[2:end], before, numbers, after))

    def forget(self) -> None:
        """Make answers anew: what the headers are made of has changed."""
        self._answers.clear()

    def learn(self, data: bytes) -> None:
        """Remember `data` if it is exactly one request that may go this way the next time."""
        if not 6 < len(data) <= REQUEST_MAX or data[:2] != b"\x94\x00":
            return
        end = _end_of_msgid(data)
        tail = data[end:]
        if not end or tail in self._known:
            return
        try:
            if Prescan(Limits(), lambda _: False).find_end(data) != len(data):
                return
            match decode(data, foreign=True):
                case Request(method=method, params=params) if method == METHOD:
                    account, min_valid, reject = token_params(params_of(params) or {})
                case _:
                    return
        except (RemoteProtocolError, BrokerError):
            return
        if params_of(params) is None or reject is not None:
            return
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[tail] = (account, min_valid)


def _end_of_msgid(data: bytes) -> int:
    """Where the msgid of a request ends that is in its shortest form; 0: it is not."""
    first = data[2]
    if first < 0x80:
        return 3
    if first == 0xCC and data[3] >= 0x80:
        return 4
    if first == 0xCD and data[3]:
        return 5
    if first == 0xCE and (data[3] or data[4]):
        return 7
    return 0


def _answer_for(lease: LeasedToken, headers: Mapping[str, str]) -> _Answer:
    """Encode it as any answer and cut it open at its numbers; nothing if that is not clear.

    Nor for a token that is never lent: the long way says so.
    """
    if lease.is_direct:
        return lease, b"", b""
    shown = token_map(replace(lease, expires_at=_EXPIRES_AT, expires_in=0.0), headers)
    encoded = encode(Response(0, None, shown))[len(_RESPONSE) + 1 :]
    numbers = _pack(_EXPIRES_AT, _BETWEEN, 0.0)
    if encoded.count(b"\xaaexpires_at\xce" + numbers) != 1:
        return lease, b"", b""
    before, _, after = encoded.partition(numbers)
    return lease, before, after
