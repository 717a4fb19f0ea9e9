"""A completion as it goes out and as it comes back; both clients use it.

Nothing is changed on the way: the body that is sent is the body that was given, and the body that
came back is upstream's own. Only `text` looks inside (`answers`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from copilot_broker.calls.answers import is_error, text_in
from copilot_broker.calls.events import LOOK_HINT
from copilot_broker.calls.refusals import broken_off, refusal_from, unexplained
from copilot_broker.errors import InternalError, UpstreamRefused, UsageError
from copilot_broker.wire.limits import MAX_LARGE_FRAME


__all__ = [
    "MAX_BODY",
    "Body",
    "Completion",
    "body_of",
    "head_of",
    "refusal_in",
]

Body = bytes | bytearray | memoryview | str | Mapping[str, Any]
"""What a completion's body may be given as: bytes, text (sent as UTF-8) or the JSON object."""

MAX_BODY: Final = MAX_LARGE_FRAME - 64 * 1024
"""Bytes of a body: the wire's largest request, less room for everything beside the body."""

_ACCOUNT_HEADER: Final = "x-copilot-broker-account"


@dataclass(frozen=True)
class Completion:
    """Upstream's answer, whatever its status. Its repr does not show the body."""

    status: int
    """HTTP status."""
    headers: Mapping[str, str] = field(repr=False)
    """Lower-case names."""
    body: bytes = field(repr=False)
    account: str
    """Who has been asked for."""
    refusal: UpstreamRefused | None = field(default=None, repr=False, compare=False)
    """What a status that is not 2xx means, or an error under 200, and what mends it, as the broker
    explains it: what `raise_for_status` raises, as a value. None: there is nothing to explain."""

    @classmethod
    def from_result(cls, result: object) -> Completion:
        """Read the result of `completion.create`. Raises InternalError when parts are missing."""
        body = result.get("body") if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(body, bytes | str):
            raise _bad_answer()
        status, headers, account = head_of(result)
        data = body.encode() if isinstance(body, str) else body
        return cls(status, headers, data, account, refusal_in(result))

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def raise_for_status(self) -> None:
        """Raise UpstreamRefused unless the status is 2xx and the answer no error all the same."""
        if self.refusal is not None:
            raise self.refusal
        if not self.ok:
            raise unexplained(self.status)

    def json(self) -> Any:
        """Decode the body. Raises InternalError `not_json`."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise InternalError("not_json", "upstream's answer is not JSON", LOOK_HINT) from None

    @property
    def text(self) -> str:
        """The answer's text, the first choice's of several; "" for none (it calls tools, say).

        Raises UpstreamRefused when there is no completion to take it from, InternalError.
        """
        self.raise_for_status()
        found = self.json()
        if not isinstance(found, Mapping):
            return ""
        if is_error(found):
            raise broken_off(self.status)
        return text_in(found)


def head_of(result: Mapping[str, Any]) -> tuple[int, dict[str, str], str]:
    """Return status, headers and account of an answer. Raises InternalError `bad_answer`."""
    status, headers = result.get("status"), result.get("headers") or {}
    if not isinstance(status, int) or not isinstance(headers, dict):
        raise _bad_answer()
    account = result.get("account") or headers.get(_ACCOUNT_HEADER) or ""
    return status, headers, str(account)


def refusal_in(result: Mapping[str, Any]) -> UpstreamRefused | None:
    """Return the broker's explanation of an answer; where it gives none, a plain one of a refusal.

    None for an answer that is 2xx and not explained. For what `head_of` has checked.
    """
    status = result["status"]
    explained = refusal_from(result.get("refusal"), status)
    return explained or (None if 200 <= status < 300 else unexplained(status))


def body_of(body: Body) -> bytes:
    """Return the bytes to send. Raises UsageError `bad_body`, `body_too_large`."""
    try:
        if isinstance(body, Mapping):
            body = json.dumps(dict(body), ensure_ascii=False, separators=(",", ":"))
        if isinstance(body, str):
            body = body.encode()
        data = body if isinstance(body, bytes) else bytes(memoryview(body))
    except (TypeError, ValueError, RecursionError):
        message = "a body is bytes, text or a mapping that JSON can say"
        raise UsageError("bad_body", message, "Change the request") from None
    if len(data) > MAX_BODY:
        message = f"a body has at most {MAX_BODY} bytes, this one {len(data)}"
        raise UsageError("body_too_large", message, "Shorten the prompt")
    return data


def _bad_answer() -> InternalError:
    message = "the broker's answer lacks what a completion needs"
    return InternalError("bad_answer", message, "Run: systemctl --user restart copilot-broker")
