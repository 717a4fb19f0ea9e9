"""The client library of copilot-broker: Copilot tokens from the broker of this login session.

    from copilot_broker import Client

    with Client() as client:
        token = client.token(min_valid=120)

Everything here is imported when it is first used: `import copilot_broker` loads neither msgpack
nor asyncio.
"""

from __future__ import annotations


TYPE_CHECKING = False  # importing `typing` costs more than all of `copilot-cred get`
if TYPE_CHECKING:
    from copilot_broker.aio import AsyncClient, AsyncStream
    from copilot_broker.client import Client, Stream
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
        UsageError,
    )
    from copilot_broker.tokens import Token


__all__ = [
    "AsyncClient",
    "AsyncStream",
    "BrokerUnreachable",
    "Client",
    "CopilotBrokerError",
    "Denied",
    "ErrorClass",
    "InternalError",
    "Locked",
    "LoginRequired",
    "MinValidUnsatisfiable",
    "StoreUnavailable",
    "Stream",
    "Temporary",
    "Token",
    "UsageError",
]

_HOMES = {
    "AsyncClient": "aio",
    "AsyncStream": "aio",
    "Client": "client",
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
