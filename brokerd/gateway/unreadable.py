"""What a client is told whose request was not read to its end.

What is only too large is told so in the caller's dialect; what no client of ours would send is not
worth a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.errors import error_body
from brokerd.errors import ErrorClass, Failure
from brokerd.gateway.messages import Reply
from brokerd.gateway.parser import MAX_BODY, MAX_HEAD, MAX_HEADERS, MAX_LINE


if TYPE_CHECKING:
    from brokerd.gateway.parser import RefusedError


__all__ = ["reply_to"]

_CLOSE: Final = {"connection": "close"}

_TOLD: Final = {
    "body_too_large": (
        f"the request has more than {MAX_BODY >> 20} MiB",
        "Send fewer or smaller images, or begin a new conversation",
    ),
    "head_too_long": (
        f"the head of the request has more than {MAX_HEAD >> 10} KiB",
        "Send fewer headers",
    ),
    "too_many_headers": (
        f"the request has more than {MAX_HEADERS} headers",
        "Send fewer headers",
    ),
    "line_too_long": (
        f"the address has more than {MAX_LINE >> 10} KiB",
        "Send a shorter address",
    ),
}


def reply_to(refused: RefusedError, *, is_bare: bool = False) -> Reply:
    """Return the answer, after which the connection is closed.

    `is_bare`: nothing but the status, for whom the guard could not look at.
    """
    told = None if is_bare else _TOLD.get(refused.reason)
    if told is None:
        return Reply(refused.status, _CLOSE)
    failure = Failure(ErrorClass.USAGE, refused.reason, *told)
    dialect = Dialect.MESSAGES if "/messages" in refused.path else Dialect.CHAT
    body = error_body(dialect, refused.status, failure)
    return Reply(refused.status, {**_CLOSE, "content-type": "application/json"}, body)
