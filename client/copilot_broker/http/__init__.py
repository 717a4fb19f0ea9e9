"""Python SDKs over the broker's HTTP socket: no port, no key, no address to configure.

    from copilot_broker.http import openai_client

    with openai_client() as client:
        question = {"role": "user", "content": "What is a socket?"}
        answer = client.chat.completions.create(model="gpt-4.1", messages=[question])

The clients are the SDKs' own, with an HTTP client of the httpx that the installed SDK is built on.
Neither an SDK nor any httpx is imported before one of these functions is called; a program brings
what it uses. docs/sdks.md shows other libraries.
"""

from __future__ import annotations

from copilot_broker.http.clients import (
    KEYLESS,
    anthropic_client,
    async_anthropic_client,
    async_openai_client,
    http_client,
    openai_client,
)
from copilot_broker.http.transports import transport


__all__ = [
    "KEYLESS",
    "anthropic_client",
    "async_anthropic_client",
    "async_openai_client",
    "http_client",
    "openai_client",
    "transport",
]
