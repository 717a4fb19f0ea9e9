"""A failure as an HTTP answer, in the words of the dialect that the caller speaks.

OpenAI's SDKs read `{"error": {"message", "type", "code", "param"}}` (API reference, "Error
codes"), Anthropic's `{"type": "error", "error": {"type", "message"}}` (API reference, "Errors").
The broker's own `code` stands in both, and the message ends in the command that mends it. Nothing
here raises: whoever reports a failure has no time for another.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.sse import sse
from brokerd.errors import ErrorClass


if TYPE_CHECKING:
    from brokerd.errors import Failure


__all__ = ["error_body", "error_event", "error_headers", "is_in_dialect", "status_of"]

MAX_READ: Final = 64 * 1024
"""Bytes of a refusal of upstream's that are read; they have some hundred."""

LONG_WAIT: Final = 60.0
"""Seconds of `retry-after` that OpenAI's and Anthropic's SDKs obey; for more they fall back on
their own half second, and ask at once what cannot be answered yet."""

_BY_CLASS: Final = {
    ErrorClass.INTERNAL: 500,
    ErrorClass.USAGE: 400,
    ErrorClass.UNREACHABLE: 503,
    # Not 401: it blames the client's own key, which is good, so agents ask for a new one, or try
    # again for minutes (Claude Code). Not 503: SDKs, and agents longer, try that again too. 403
    # is final for all of them, and they show its message.
    ErrorClass.LOGIN_REQUIRED: 403,
    ErrorClass.DENIED: 403,
    ErrorClass.LOCKED: 503,
    ErrorClass.TEMPORARY: 503,
    ErrorClass.MIN_VALID: 503,
    ErrorClass.STORE_UNAVAILABLE: 503,
}
_BY_CODE: Final = {
    "key_missing": 401,
    "key_unknown": 401,
    "key_elsewhere": 401,
    "key_expired": 401,
    "key_revoked": 401,
    "model_not_found": 404,
    "not_found": 404,
    "path_not_allowed": 404,
    "path_not_found": 404,
    "unknown_account": 404,
    "unknown_model": 404,
    "unknown_path": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "body_too_large": 413,
    "request_too_large": 413,
    "head_too_large": 431,
    # Of what is asked too often, by our rules or by upstream's.
    "budget": 429,
    "cooling_down": 429,
    "key_budget": 429,
    "model_overloaded": 429,
    "queue_full": 429,
    "queued_too_long": 429,
    "request_rate": 429,
    "too_many_requests": 429,
}
_LIMIT: Final = "rate_limit"
"""In the code of every limit of upstream's (`user_weekly_rate_limited`…)."""

_ANTHROPIC: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI: Final = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


def status_of(failure: Failure) -> int:
    """Return the HTTP status of a failure of the broker's own (RFC 9110 §15, RFC 6585)."""
    status = _BY_CODE.get(failure.code)
    if status is not None:
        return status
    if failure.error_class is ErrorClass.TEMPORARY and _LIMIT in failure.code:
        return 429
    return _BY_CLASS.get(failure.error_class, 500)


def error_headers(failure: Failure) -> dict[str, str]:
    """Return what belongs on an answer of `error_body`; all names are lower-case.

    `retry-after` in whole seconds, upwards (RFC 9110 §10.2.3). `x-should-retry: false`, which
    OpenAI's and Anthropic's SDKs and Claude Code obey for any status, where to ask again does
    not help, or not within a time that they would wait.
    """
    headers = {"content-type": "application/json"}
    if status_of(failure) == 401:
        headers["www-authenticate"] = "Bearer"  # RFC 9110 §11.6.1: a 401 has to say what it wants
    wait = failure.retry_after
    if wait is not None and math.isfinite(wait):
        headers["retry-after"] = str(max(1, math.ceil(wait)))
    if failure.error_class is not ErrorClass.TEMPORARY or (wait is not None and wait > LONG_WAIT):
        headers["x-should-retry"] = "false"
    return headers


def error_body(
    dialect: str,
    status: int,
    failure: Failure,
    upstream_body: bytes = b"",
    *,
    request_id: str = "",
) -> bytes:
    """Return the body of an error.

    `upstream_body` is what upstream said, if it was upstream that refused: as it is where it is
    an error in this dialect, else `failure` tells it, with what SDKs read besides (`param`,
    `authorize_url`). `request_id` is upstream's; Anthropic's SDKs show it.
    """
    if upstream_body and is_in_dialect(dialect, upstream_body):
        return upstream_body
    said = _inner(_read(upstream_body))
    if dialect == Dialect.MESSAGES:
        told = _anthropic(status, failure)
        if request_id:
            told["request_id"] = request_id
    else:
        told = {"error": _openai(status, failure, said)}
    if isinstance(page := said.get("authorize_url"), str):
        told["error"]["authorize_url"] = page
    return _written(told)


def error_event(dialect: str, failure: Failure, *, sequence_number: int = 0) -> bytes:
    """Return the event that ends a stream in an error; no `[DONE]` or such belongs after it.

    OpenAI's SDKs raise on any event whose data has `error`, so in Responses it stands beside the
    members that its reference names (`code`, `message`, `param`, `sequence_number`).
    """
    status = status_of(failure)
    if dialect == Dialect.MESSAGES:
        return sse(_written(_anthropic(status, failure)), "error")
    error = _openai(status, failure, {})
    if dialect != Dialect.RESPONSES:
        return sse(_written({"error": error}))
    event = {
        "type": "error",
        "code": error["code"],
        "message": error["message"],
        "param": None,
        "sequence_number": sequence_number,
        "error": error,
    }
    return sse(_written(event), "error")


def is_in_dialect(dialect: str, body: bytes) -> bool:
    """Whether a body is an error as this dialect has it, so that an SDK shows its message."""
    told = _read(body)
    error = told.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return False
    if dialect == Dialect.MESSAGES:
        return told.get("type") == "error" and isinstance(error.get("type"), str)
    return True


def _openai(status: int, failure: Failure, said: dict[str, Any]) -> dict[str, Any]:
    kind, param = said.get("type"), said.get("param")
    usual = "invalid_request_error" if status < 500 else "server_error"
    return {
        "message": _message(failure),
        "type": kind if isinstance(kind, str) and kind else _OPENAI.get(status, usual),
        "code": failure.code,
        "param": param if isinstance(param, str) else None,
    }


def _anthropic(status: int, failure: Failure) -> dict[str, Any]:
    kind = _ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": _message(failure), "code": failure.code},
    }


def _message(failure: Failure) -> str:
    said = failure.message or failure.code
    told = f"{said}. {failure.hint}" if failure.hint else said
    return f"{told} ({failure.url})" if failure.url else told


def _read(body: bytes) -> dict[str, Any]:
    """Read a JSON object; {} for anything else."""
    if not body or len(body) > MAX_READ:
        return {}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _inner(told: dict[str, Any]) -> dict[str, Any]:
    """Return the error itself: Copilot wraps it in `error`, or not."""
    inner = told.get("error")
    return inner if isinstance(inner, dict) else told


def _written(told: dict[str, Any]) -> bytes:
    # Escaped: whatever a message holds, half a surrogate pair too, becomes bytes.
    return json.dumps(told, separators=(",", ":")).encode()
