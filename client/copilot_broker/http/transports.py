"""An httpx transport that ends at the broker's HTTP socket, and nowhere else.

The socket is looked at as the RPC clients look at theirs (`wire.address`): before each connect
its path, after it who listens; both before a byte of a request is sent. httpcore tells of these
moments by its `trace` extension, whatever httpx is above it.

Keys stay here. The socket needs none, but an SDK sends one with each request, and may have found
it in the environment: a key that is not the broker's own is none of its business.
"""

from __future__ import annotations

import functools
import re
import ssl
import time
from contextlib import contextmanager
from os import fspath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from copilot_broker.calls import DEFAULT_TIMEOUT, busy, no_broker
from copilot_broker.errors import Temporary
from copilot_broker.http.family import httpx_of
from copilot_broker.wire.address import (
    BUSY_PAUSE,
    NoBroker,
    check_path,
    check_peer,
    http_socket_path,
)


if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from copilot_broker.errors import CopilotBrokerError


__all__ = ["transport"]

_T = TypeVar("_T")

KEY_HEADERS: Final = ("authorization", "proxy-authorization", "x-api-key", "api-key", "cookie")
"""What SDKs, and the environment by way of them, put secrets into."""

_OWN_KEY = re.compile(r"(?:[Bb]earer +)?cpb_\S+")
"""A key of the broker's own, as it is sent: on the socket it still limits."""

CONNECTIONS: Final = 1000
"""At most, as the SDKs have it: more than a program asks at a time, less than the door takes."""

IDLE_CONNECTIONS: Final = 20
"""Kept for what is asked next, as httpx has it."""


def transport(kind: type[_T], *, path: str | os.PathLike[str] | None = None) -> _T:
    """Make a transport to the broker of this kind: `HTTPTransport` or `AsyncHTTPTransport`.

        httpx.Client(transport=transport(httpx.HTTPTransport), base_url="http://localhost")

    `path` is the socket's, else the one beside `$COPILOT_BROKER_SOCKET` or in the runtime
    directory. A request raises httpx's ConnectError where nobody listens there, or nobody to be
    trusted; its cause is one of `copilot_broker.errors`, and ends in the command that mends it.
    Raises BrokerUnreachable where no path is known, TypeError for any other kind.
    """
    try:
        where = http_socket_path() if path is None else fspath(path)
    except NoBroker as found:
        raise no_broker(found) from None
    httpx = httpx_of(kind)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=IDLE_CONNECTIONS)
    # no TLS there: with httpx's own context each transport would load the machine's authorities
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    base: Any = kind
    made: _T = _checked(base)(uds=where, trust_env=False, verify=verify, limits=limits)
    return made


@functools.cache
def _checked(kind: Any) -> Any:
    """Return this kind of transport, with a look at whom it connects to."""
    httpx = httpx_of(kind)
    if issubclass(kind, httpx.HTTPTransport):
        return _blocking(kind, httpx)
    if issubclass(kind, httpx.AsyncHTTPTransport):
        return _async(kind, httpx)
    raise TypeError(f"{kind.__qualname__} is neither HTTPTransport nor AsyncHTTPTransport")


def _blocking(kind: Any, httpx: ModuleType) -> Any:
    class BrokerTransport(kind):  # type: ignore[misc] # whichever httpx it is of
        def __init__(self, *, uds: str, **options: Any) -> None:
            super().__init__(uds=uds, **options)
            self._path = uds

        def handle_request(self, request: Any) -> Any:
            """Send it (httpx's BaseTransport); a full queue is waited for, as nothing is sent."""
            given = request.extensions.get("trace")

            def look(event: str, told: dict[str, Any]) -> None:
                try:
                    _look(self._path, event, told)
                except NoBroker:
                    if "return_value" in told:
                        told["return_value"].close()
                    raise
                if given is not None:
                    given(event, told)

            deadline = time.monotonic() + DEFAULT_TIMEOUT
            while True:
                try:
                    with _errors(httpx, self._path, request), _watched(request, look):
                        return super().handle_request(request)
                except httpx.ConnectError as error:
                    if not isinstance(error.__cause__, Temporary) or time.monotonic() > deadline:
                        raise
                time.sleep(BUSY_PAUSE)

    return BrokerTransport


def _async(kind: Any, httpx: ModuleType) -> Any:
    class AsyncBrokerTransport(kind):  # type: ignore[misc] # whichever httpx it is of
        def __init__(self, *, uds: str, **options: Any) -> None:
            super().__init__(uds=uds, **options)
            self._path = uds

        async def handle_async_request(self, request: Any) -> Any:
            """Send it (httpx's AsyncBaseTransport); anyio and trio wait for a full queue."""
            given = request.extensions.get("trace")

            async def look(event: str, told: dict[str, Any]) -> None:
                try:
                    _look(self._path, event, told)
                except NoBroker:
                    if "return_value" in told:
                        await told["return_value"].aclose()
                    raise
                if given is not None:
                    await given(event, told)

            with _errors(httpx, self._path, request), _watched(request, look):
                return await super().handle_async_request(request)

    return AsyncBrokerTransport


def _look(path: str, event: str, told: dict[str, Any]) -> None:
    """Raise NoBroker unless what is connected to may be trusted."""
    if event == "connection.connect_unix_socket.started":
        check_path(path)
    elif event == "connection.connect_unix_socket.complete":
        check_peer(told["return_value"].get_extra_info("socket"))


@contextmanager
def _watched(request: Any, look: Callable[[str, dict[str, Any]], object]) -> Iterator[None]:
    """Take from the request what is not for the broker, and have its sending looked at."""
    for name in KEY_HEADERS:
        if not all(_OWN_KEY.fullmatch(value) for value in request.headers.get_list(name)):
            del request.headers[name]
    extensions = request.extensions
    request.extensions = {**extensions, "trace": look}
    try:
        yield
    finally:
        request.extensions = extensions


@contextmanager
def _errors(httpx: ModuleType, path: str, request: Any) -> Iterator[None]:
    """Say in httpx's words that there is no broker, and in ours why."""
    cause: CopilotBrokerError
    try:
        yield
    except NoBroker as found:
        cause = no_broker(found)
    except httpx.ConnectError as error:
        reason = f"nobody answers at {path} ({error})"
        cause = busy() if _is_busy(error) else no_broker(NoBroker("not_running", reason))
    else:
        return
    raise httpx.ConnectError(str(cause), request=request) from cause


def _is_busy(error: BaseException | None) -> bool:
    """Tell whether the listener's queue was full (connect(2), EAGAIN)."""
    while error is not None and not isinstance(error, BlockingIOError):
        error = error.__cause__ or error.__context__
    return error is not None
