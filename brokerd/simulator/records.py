"""What was asked of the simulator, as it may be shown: no body, no credential.

With the setting `keep_bodies` whole exchanges are kept too, for the page of the documentation that
shows them; every secret then stands there as a placeholder in angle brackets.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aiohttp import web

    from brokerd.simulator.clock import Clock


__all__ = ["Kept", "RecordedRequest", "keep_answer", "keep_body", "masked", "record"]

# All others may hold what nobody should read in a list of requests.
SHOWN_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "anthropic-beta", "anthropic-version", "connection",
        "content-encoding", "content-length", "content-type", "copilot-integration-id",
        "copilot-vision-request", "editor-plugin-version", "editor-version", "host",
        "openai-intent", "openai-organization", "transfer-encoding", "user-agent",
        "x-agent-task-id", "x-github-api-version", "x-initiator", "x-interaction-id",
        "x-interaction-type", "x-request-id",
    }
)  # fmt: skip

# A page shows a few lines of each.
MAX_BODY = 16 * 1024

_SECRETS = (
    (re.compile(r"(?:gho|ghu|ghs|ghp)_[\w-]+|github_pat_[\w-]+"), "<GitHub token>"),
    (re.compile(r"ghr_[\w-]+"), "<refresh token>"),
    (re.compile(r"\btid=[^\s\"]+:[0-9a-f]+"), "<Copilot token>"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "<device code>"),
    (re.compile(r"\bsim-session\.[\w.-]+"), "<session token>"),
    (re.compile(r"(client_secret=)[^&\s]+"), r"\1<client secret>"),
)


@dataclass
class Kept:
    """A whole exchange, its secrets masked; bodies cut at MAX_BODY characters."""

    target: str
    """Path and query, as sent."""
    request_headers: list[tuple[str, str]]
    """All of them: spelled, and in the order, as sent."""
    request_body: str = ""
    response_headers: list[tuple[str, str]] = field(default_factory=list)
    """The same of the answer; empty while there is none."""
    response_body: str = ""


@dataclass
class RecordedRequest:
    """One request and what became of it."""

    method: str
    path: str
    monotonic: float
    """The simulator's monotonic clock on arrival."""
    time: float
    """Unix seconds."""
    headers: dict[str, str]
    """Lower-case names; those of SHOWN_HEADERS, and `authorization` as a fingerprint."""
    connection: int = 0
    """Counts up with each connection accepted: equal numbers mean a connection reused."""
    body_length: int | None = None
    """Bytes that arrived; None = nobody counted (only the Copilot API's bodies are)."""
    body_complete: bool | None = None
    body_sha256: str | None = None
    status: int = 0
    """0 while no answer is on its way."""
    request_id: str | None = None
    """`x-request-id` of the answer: the caller's own, or ours."""
    sent: int = 0
    """Bytes of the answer's body written, without framing."""
    sent_sha256: str | None = None
    """Of exactly these; None while they are being written."""
    finished: bool = False
    """The whole answer was written."""
    cancelled: bool = False
    """The client left before it was; `sent` says when."""
    usage: dict[str, int] | None = None
    """`prompt_tokens` and `completion_tokens`, once all of an answer that tells them was written;
    what a fault, or a quirk, tells instead is not looked at."""
    account: str = ""
    """Who asked for a completion, as the `tid` of their tokens; empty = not known."""
    model: str = ""
    """What a completion was asked of."""
    early: bool = False
    """A completion asked for after an answer named a moment, and before that moment."""
    kept: Kept | None = None
    """All of it, with the setting `keep_bodies`."""


def record(
    request: web.Request, connection: int, clock: Clock, *, keep: bool = False
) -> RecordedRequest:
    """Note a request on arrival."""
    headers = {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower() in SHOWN_HEADERS
    }
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if secret:
        fingerprint = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        headers["authorization"] = f"{scheme} sha256:{fingerprint}"
    recorded = RecordedRequest(
        request.method, request.path, clock.monotonic(), clock.wall(), headers, connection
    )
    if keep:
        # aiohttp spells the names that it knows in its own way; these are untouched.
        sent = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in request.raw_headers
        ]
        recorded.kept = Kept(masked(request.raw_path), _all_of(sent))
    return recorded


def keep_body(recorded: RecordedRequest, body: bytes) -> None:
    """Keep a request's body, if it is to be kept."""
    if recorded.kept is not None:
        recorded.kept.request_body = _shown(body)


def keep_answer(
    recorded: RecordedRequest, headers: Mapping[str, str], writes: Iterable[bytes]
) -> None:
    """Keep an answer, if it is to be kept."""
    if recorded.kept is not None:
        recorded.kept.response_headers = _all_of(headers.items())
        recorded.kept.response_body = _shown(b"".join(writes))


def masked(text: str) -> str:
    """Replace every secret that the simulator knows of by what it is."""
    for pattern, name in _SECRETS:
        text = pattern.sub(name, text)
    return text


def _shown(body: bytes) -> str:
    return masked(body[: 4 * MAX_BODY].decode(errors="replace"))[:MAX_BODY]


def _all_of(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Copy headers; whatever stands behind an authorization's scheme is a secret."""
    return [
        (name, _credential(value) if name.lower() == "authorization" else masked(value))
        for name, value in headers
    ]


def _credential(value: str) -> str:
    shown = masked(value)
    scheme, _, secret = shown.partition(" ")
    return f"{scheme} <secret>" if secret and not secret.startswith("<") else shown
