"""The caller's maps → values; what makes no sense is refused before anything is done."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from brokerd.core.completions import (
    DEFAULT_PATH,
    CompletionRequest,
    checked_headers,
    normal_path,
)
from brokerd.rpc.failures import bad_params


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "DEFAULT_MIN_VALID",
    "completion_request",
    "count_param",
    "flag_param",
    "needed_text",
    "number_param",
    "text_param",
    "token_params",
]

DEFAULT_MIN_VALID = 60.0
"""Seconds a token should live on when the caller does not say: enough to start one request."""


def text_param(params: Mapping[str, Any], name: str) -> str | None:
    """Return an optional string; nil is the same as nothing. Raises PermanentError (USAGE)."""
    value = params.get(name)
    if value is None or isinstance(value, str):
        return value
    raise bad_params(f"{name} must be a string")


def needed_text(params: Mapping[str, Any], name: str) -> str:
    """Return a string that has to be given. Raises PermanentError (USAGE)."""
    value = text_param(params, name)
    if value is None:
        raise bad_params(f"{name} must be a string")
    return value


def flag_param(params: Mapping[str, Any], name: str) -> bool:
    """Return an optional boolean, false if not given. Raises PermanentError (USAGE)."""
    value = params.get(name)
    if isinstance(value, bool | None):
        return bool(value)
    raise bad_params(f"{name} must be true or false")


def number_param(params: Mapping[str, Any], name: str, default: float) -> float:
    """Return an optional finite number from 0 up. Raises PermanentError (USAGE)."""
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool):
        # msgpack integers are of 64 bits, so this never overflows
        number = float(value)
        if math.isfinite(number) and number >= 0:
            return number
    raise bad_params(f"{name} must be a number of seconds, 0 or more")


def count_param(params: Mapping[str, Any], name: str) -> int | None:
    """Return an optional whole number from 0 up. Raises PermanentError (USAGE)."""
    value = params.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise bad_params(f"{name} must be a whole number, 0 or more")


def token_params(params: Mapping[str, Any]) -> tuple[str | None, float, str | None]:
    """Return account, min_valid and reject of a `token.get`. Raises PermanentError (USAGE)."""
    account = text_param(params, "account")
    min_valid = number_param(params, "min_valid", DEFAULT_MIN_VALID)
    return account, min_valid, text_param(params, "reject")


def completion_request(params: Mapping[str, Any], peer: int) -> CompletionRequest:
    """Return what a `completion.create` of the process `peer` asks for.

    Raises PermanentError (USAGE).
    """
    body = params.get("body")
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        raise bad_params("body must be given, as bytes or as a string")
    headers = params.get("headers")
    if headers == []:  # Lua cannot tell an empty map from an empty array
        headers = None
    if not isinstance(headers, dict | None):
        raise bad_params("headers must be a map of strings")
    path = text_param(params, "path")
    return CompletionRequest(
        body=body,
        path=DEFAULT_PATH if path is None else normal_path(path),
        stream=flag_param(params, "stream"),
        account=text_param(params, "account"),
        headers=checked_headers(headers or {}),
        peer=peer,
    )
