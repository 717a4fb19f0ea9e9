"""The client library of copilot-broker: tokens and completions from this session's broker.

    from copilot_broker import Client

    with Client() as client:
        token = client.token(min_valid=120)
        question = {"role": "user", "content": "What is a socket?"}
        body = {"model": "gpt-4.1", "stream": True, "messages": [question]}
        with client.stream(body) as stream:
            for text in stream.text():
                print(text, end="", flush=True)

Everything here is imported when it is first used: `import copilot_broker` loads neither msgpack
nor asyncio.
"""

from __future__ import annotations


TYPE_CHECKING = False  # importing `typing` costs more than all of `copilot-cred get`
if TYPE_CHECKING:
    from copilot_broker.aio import AsyncClient, AsyncCompletionStream, AsyncStream
    from copilot_broker.calls.completion import Completion
    from copilot_broker.calls.models import ModelList
    from copilot_broker.client import Client, CompletionStream, Stream
    from copilot_broker.errors import (
        BrokerUnreachable,
        CopilotBrokerError,
        Denied,
        ErrorClass,
        InternalError,
        Locked,
        LoginRequired,
        MinValidUnsatisfiable,
        StoreUnavailable,
        Temporary,
        UpstreamRefused,
        UsageError,
    )
    from copilot_broker.tokens import Token


__all__ = [
    "AsyncClient",
    "AsyncCompletionStream",
    "AsyncStream",
    "BrokerUnreachable",
    "Client",
    "Completion",
    "CompletionStream",
    "CopilotBrokerError",
    "Denied",
    "ErrorClass",
    "InternalError",
    "Locked",
    "LoginRequired",
    "MinValidUnsatisfiable",
    "ModelList",
    "StoreUnavailable",
    "Stream",
    "Temporary",
    "Token",
    "UpstreamRefused",
    "UsageError",
]

_HOMES = {
    "AsyncClient": "aio",
    "AsyncCompletionStream": "aio",
    "AsyncStream": "aio",
    "Client": "client",
    "Completion": "calls.completion",
    "CompletionStream": "client",
    "ModelList": "calls.models",
    "Stream": "client",
    "Token": "tokens",
}
"""Where a name lives; all others are errors."""


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  (not on the way of `copilot-cred get`)

    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Show the names that are not imported yet, too."""
    return sorted({*globals(), *__all__})
