"""`POST /messages/count_tokens`: an estimate, marked as one. Nothing is sent to anybody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from brokerd.core.asked_model import asked_model
from brokerd.core.token_estimate import estimate
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.gateway.messages import Reply


if TYPE_CHECKING:
    from brokerd.gate import Caller
    from brokerd.gateway.messages import Request


__all__ = ["ESTIMATE", "count_tokens"]

MAX_VALUES: Final = 60_000
"""In a body that is read: an agent's longest conversations have some ten thousand, and all of them
are looked at in one go while others wait."""

ESTIMATE: Final = "x-copilot-broker-estimate"


def count_tokens(request: Request, caller: Caller) -> Reply:
    """Count. Raises BrokerError: not for this caller, or `bad_body` for what cannot be read."""
    body = request.body
    caller.check("models.list", None, asked_model(body) if caller.models_matter else None)
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
        raise _unreadable(f"the body has more than {MAX_VALUES} values")
    try:
        asked = json.loads(body)
        if isinstance(asked, dict):
            page = json.dumps({"input_tokens": estimate(asked)}).encode()
            return Reply(200, {"content-type": "application/json", ESTIMATE: "true"}, page)
    except (ValueError, RecursionError):
        pass
    raise _unreadable("the body is no JSON object")


def _unreadable(message: str) -> PermanentError:
    hint = "Send what /v1/messages takes; models: copilot-cred models"
    return PermanentError(Failure(ErrorClass.USAGE, "bad_body", message, hint))
