"""What was asked of the simulator, as it may be shown: no body, no credential."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from aiohttp import web

    from brokerd.simulator.clock import Clock


__all__ = ["RecordedRequest", "record"]

# All others may hold what nobody should read in a list of requests.
SHOWN_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-encoding", "content-length",
        "content-type", "copilot-integration-id", "copilot-vision-request",
        "editor-plugin-version", "editor-version", "host", "openai-intent", "transfer-encoding",
        "user-agent", "x-agent-task-id", "x-github-api-version", "x-initiator", "x-interaction-id",
        "x-interaction-type", "x-request-id",
    }
)  # fmt: skip


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


def record(request: web.Request, connection: int, clock: Clock) -> RecordedRequest:
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
    return RecordedRequest(
        request.method, request.path, clock.monotonic(), clock.wall(), headers, connection
    )
