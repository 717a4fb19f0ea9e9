"""One exchange as text: what was sent, what came back, placeholders for all that varies."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from itertools import groupby
from typing import TYPE_CHECKING, Any

from brokerd.upstream.identity import VERSION
from recording.layout import Bare, laid_out, shortened


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.simulator.records import Kept, RecordedRequest


__all__ = ["request_body", "request_headers", "request_line", "response_lines", "summary"]

HIDDEN = frozenset(
    {"cache-control", "content-length", "openai-processing-ms", "transfer-encoding",
     "x-github-backend"}
)  # fmt: skip
"""Of answers: says nothing that the broker or a caller acts on."""

ALIKE = (
    "date", "x-copilot-service-request-id", "x-quota-snapshot-", "x-ratelimit-limit",
    "x-ratelimit-re", "x-ratelimit-used", "x-request-",
)  # fmt: skip
"""How the names begin of what is the same with every answer of a host; `x-ratelimit-re` are
`remaining`, `reset` and `resource`."""

MOMENTS = frozenset({"created", "created_at"})
"""Fields that hold the real time of the answer."""

REFUSED = 400

REASONS = {422: "Unprocessable Content"}
"""As RFC 9110 has it; Python says so from 3.13 on."""

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
VARYING = (
    (re.compile(rf"\b{UUID}\b"), "<uuid>"),
    (re.compile(r"\b[0-9A-F]{32}\b"), "<request id>"),
    (re.compile(r"\b[BCDFGHJ-NP-TVWXZ2-9]{4}-[BCDFGHJ-NP-TVWXZ2-9]{4}\b"), "<user code>"),
    (re.compile(r"\b(chatcmpl-|msg_|resp_)[0-9A-Za-z]{16,}\b"), r"\1<id>"),
    (re.compile(rf"(?<=copilot-broker/){re.escape(VERSION)}"), "<version>"),
)


def request_line(request: RecordedRequest) -> str:
    """Write the method and the address."""
    return f"{request.method} {_url(request)} HTTP/1.1"


def request_headers(request: RecordedRequest) -> list[str]:
    """Write the headers as they were sent."""
    return [
        # The true length is that of a body which holds what is a placeholder here.
        f"{name}: {'<length>' if name.lower() == 'content-length' else _settled(value)}"
        for name, value in _kept(request).request_headers
    ]


def request_body(request: RecordedRequest) -> list[str]:
    """Write the body; nothing for a request without one."""
    kept = _kept(request)
    return _body(kept.request_body, _type_of(kept.request_headers), {})


def response_lines(
    request: RecordedRequest, *, all_headers: bool, cut: Mapping[str, int]
) -> list[str]:
    """Write its answer: the headers that matter, and the body."""
    kept = _kept(request)
    # Whether a refusal is GitHub's own is told by its request id.
    alike = ALIKE if request.status >= REFUSED else (*ALIKE, "x-github-request-id")
    lines = [f"HTTP/1.1 {_status(request.status)}"]
    for name, value in kept.response_headers:
        known = name.lower()
        is_plain = known == "content-type" and value.startswith("application/json")
        if known not in HIDDEN and (all_headers or not (is_plain or known.startswith(alike))):
            lines.append(f"{name}: {_settled(value)}")
    if kept.response_body:
        lines += ["", *_body(kept.response_body, _type_of(kept.response_headers), cut)]
    return lines


def summary(request: RecordedRequest) -> str:
    """Write both on one line."""
    return f"`{request.method} {_url(request)}` → {_status(request.status)}"


def _kept(request: RecordedRequest) -> Kept:
    assert request.kept is not None, "the simulator has to keep bodies"
    return request.kept


def _url(request: RecordedRequest) -> str:
    return f"https://{request.headers['host']}{_kept(request).target}"


def _status(status: int) -> str:
    try:
        phrase = REASONS.get(status) or HTTPStatus(status).phrase
    except ValueError:  # 466 is in nobody's list
        return str(status)
    return f"{status} {phrase}"


def _type_of(headers: list[tuple[str, str]]) -> str:
    return next((value for name, value in headers if name.lower() == "content-type"), "")


def _body(text: str, kind: str, cut: Mapping[str, int]) -> list[str]:
    if "event-stream" in kind:
        return _stream(text)
    if "urlencoded" in kind:
        first, *others = _settled(text).split("&")
        return [first, *(f"&{each}" for each in others)]
    return _settled(_json(text, cut)).splitlines()


def _json(text: str, cut: Mapping[str, int], used: int = 0) -> str:
    """Lay out what is JSON, whatever it is called; all else stays."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return laid_out(shortened(_timeless(value), cut), used=used)


def _stream(text: str) -> list[str]:
    """Write the events; of those in a row that differ in their values only, the first."""
    lines: list[str] = []
    for _, alike in groupby(text.strip().split("\n\n"), key=_shape):
        event, *others = alike
        for line in event.split("\n"):
            name, _, value = line.partition(": ")
            shown = _settled(_json(value, {}, used=len(name) + 2))
            lines += f"{name}: {shown}".splitlines()
        lines.append("")
        if others:
            lines += [f": … and {len(others)} more events of this shape", ""]
    return lines[:-1]


def _shape(event: str) -> str:
    return re.sub(r'(?<=":)(?:"(?:[^"\\]|\\.)*"|\d+)', "…", event)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: Bare("<unix time>") if key in MOMENTS else _timeless(each)
            for key, each in value.items()
        }
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _settled(text: str) -> str:
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return text
