"""Repair `json_errors`: a refusal of Copilot's in the words that the caller's SDK reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.dialects.errors import error_body, error_headers
from brokerd.core.refusals.explained import explain


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.errors import Failure


__all__ = ["in_dialect"]

_FRAMING = frozenset({"content-length", "content-encoding"})


def in_dialect(
    dialect: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    refusal: Failure | None,
    fired: list[str],
) -> tuple[Mapping[str, str], bytes]:
    """Return headers and body; the same body where it is in the dialect already."""
    if refusal is None:
        refusal = explain(status, headers, body, now=0.0).failure
    request_id = headers.get("x-request-id", "")
    new = error_body(dialect, status, refusal, body, request_id=request_id)
    ours = error_headers(refusal)
    # What upstream said of the time stands: it may be a date, and more exact.
    more = {name: ours[name] for name in ours if name not in headers}
    is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
    if new is body and is_json:
        return ({**headers, **more} if more else headers), body
    fired.append("json_errors")
    told = {name: value for name, value in headers.items() if name not in _FRAMING}
    return {**told, **more, "content-type": ours["content-type"]}, new
