"""Ready clients: the SDKs' own classes, told where the broker is and how long it may take.

What the environment says of keys, addresses and proxies is for other services, so none of it holds
here. All other arguments are the SDK's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from copilot_broker.calls import DEFAULT_TIMEOUT
from copilot_broker.http.family import httpx_of, sdk
from copilot_broker.http.transports import transport


if TYPE_CHECKING:
    import os

    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI


__all__ = [
    "KEYLESS",
    "anthropic_client",
    "async_anthropic_client",
    "async_openai_client",
    "http_client",
    "openai_client",
]

_C = TypeVar("_C")

KEYLESS: Final = "not-needed"
"""In the place of a key: SDKs refuse to be without, the socket needs none, and none is sent."""

ROOT: Final = "http://localhost"
"""The host is the socket's only one besides `copilot-broker` (docs/http.md)."""

BASE_URLS: Final = {"openai": f"{ROOT}/v1", "anthropic": ROOT}
"""By SDK."""

ACCOUNT_HEADER: Final = "x-copilot-broker-account"

SEND_TIMEOUT: Final = 60.0
"""Seconds without any of a body taken: the door has read on long before."""

ANSWER_TIMEOUT: Final = 660.0
"""Seconds of silence. Models think for minutes, and what is no stream comes as a whole. The door
itself gives up on a silent Copilot after 600, and says so: that is to arrive."""


def http_client(
    kind: type[_C],
    *,
    account: str | None = None,
    path: str | os.PathLike[str] | None = None,
    **options: Any,
) -> _C:
    """Make an HTTP client to the broker: for libraries that take one, and for use as it is.

        http_client(openai.DefaultHttpxClient)      # or DefaultAsyncHttpxClient
        http_client(httpx.Client).get("/v1/models")

    `kind` is a client class of httpx or httpx2, or an SDK's. `account` is whom to ask as, else
    the default account; `path` as for `transport`; all others are the class's own. Raises as
    `transport` does.
    """
    httpx = httpx_of(kind)
    make: Any = kind
    is_async = issubclass(kind, httpx.AsyncClient)
    way = transport(httpx.AsyncHTTPTransport if is_async else httpx.HTTPTransport, path=path)
    headers = httpx.Headers(options.pop("headers", None))
    if account is not None:
        headers[ACCOUNT_HEADER] = account
    timeout = httpx.Timeout(ANSWER_TIMEOUT, connect=DEFAULT_TIMEOUT, write=SEND_TIMEOUT)
    defaults = {"base_url": ROOT, "timeout": timeout}
    made: _C = make(transport=way, trust_env=False, headers=headers, **defaults | options)
    return made


def openai_client(
    *, account: str | None = None, path: str | os.PathLike[str] | None = None, **options: Any
) -> OpenAI:
    """Make an `openai.OpenAI` that asks the broker; `options` are its own.

    `account` and `path` as for `http_client`. Without `timeout` it waits long enough for models
    that think. An `api_key` of the broker's own limits; any other is not sent. Raises
    BrokerUnreachable where no socket's path is known, ModuleNotFoundError without the SDK.
    """
    made: OpenAI = _made("openai.OpenAI", account, path, options)
    return made


def async_openai_client(
    *, account: str | None = None, path: str | os.PathLike[str] | None = None, **options: Any
) -> AsyncOpenAI:
    """Make an `openai.AsyncOpenAI`; see `openai_client`."""
    made: AsyncOpenAI = _made("openai.AsyncOpenAI", account, path, options)
    return made


def anthropic_client(
    *, account: str | None = None, path: str | os.PathLike[str] | None = None, **options: Any
) -> Anthropic:
    """Make an `anthropic.Anthropic`; see `openai_client`."""
    made: Anthropic = _made("anthropic.Anthropic", account, path, options)
    return made


def async_anthropic_client(
    *, account: str | None = None, path: str | os.PathLike[str] | None = None, **options: Any
) -> AsyncAnthropic:
    """Make an `anthropic.AsyncAnthropic`; see `openai_client`."""
    made: AsyncAnthropic = _made("anthropic.AsyncAnthropic", account, path, options)
    return made


def _made(
    what: str,
    account: str | None,
    path: str | os.PathLike[str] | None,
    options: dict[str, Any],
) -> Any:
    """Make the client of this full name."""
    name, _, kind = what.partition(".")
    module = sdk(name)
    is_async = kind.startswith("Async")
    http_kind = module.DefaultAsyncHttpxClient if is_async else module.DefaultHttpxClient
    http = http_client(http_kind, account=account, path=path)
    if "auth_token" not in options:  # Anthropic's takes one of the two
        options = {"api_key": KEYLESS} | options
    return getattr(module, kind)(base_url=BASE_URLS[name], http_client=http, **options)
