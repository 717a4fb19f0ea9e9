"""What breaks below HTTP → our failures: the one table, with words for a person.

It knows the exceptions of httpx and of `dial` by their names, and asyncio's.

No text of an exception is passed on unless the operating system or the TLS library wrote it:
others quote what was being sent.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    Kind = TypeVar("Kind", bound=BaseException)


__all__ = ["ASK_AGAIN_HINT", "NETWORK_HINT", "PROXY_HINT", "describe"]

# What OpenSSL and strerror(3) say is short; this guards against what is not theirs.
MAX_REASON = 120

NETWORK_HINT = (
    "Check the network; a kept login is tried again by itself, a new one by: copilot-cred login"
)
ASK_AGAIN_HINT = "Check the network, then ask again; what the broker sees: copilot-cred status"
PROXY_HINT = (
    "Check network.proxy in config.toml or HTTPS_PROXY in the service's environment, then: "
    "systemctl --user restart copilot-broker"
)
TLS_HINT = (
    "If a proxy inspects TLS here, name its authority as network.ca_file in config.toml, then: "
    "systemctl --user restart copilot-broker"
)


def describe(
    error: Exception,
    origin: str,
    *,
    proxied: bool = False,
    network_hint: str = NETWORK_HINT,
) -> Failure:
    """Say what kept us from an answer of `origin`; always worth another try later.

    `proxied`: the way leads through a proxy, so that it may be the one that is not there.
    """
    way = f"{origin} or the proxy before it" if proxied else origin
    hint = PROXY_HINT if proxied else network_hint
    kinds = {kind.__name__ for kind in type(error).__mro__}
    cause = _find(error, ssl.SSLError)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message[:MAX_REASON]
        return _failure(
            "tls_untrusted", f"the certificate of {origin} is not trusted: {reason}", TLS_HINT
        )
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or "handshake failed").lower().replace("_", " ")
        return _failure("tls_failed", f"no TLS with {origin}: {reason[:MAX_REASON]}", TLS_HINT)
    if "ProxyError" in kinds:
        status = getattr(error, "status", 0) or _status_in(str(error))
        answer = f": it answers {status}" if status else ""
        return _failure("proxy_failed", f"the proxy opens no way to {origin}{answer}", PROXY_HINT)
    if "TimeoutException" in kinds or isinstance(error, TimeoutError):
        return _failure("network_timeout", f"no answer from {origin} in time", network_hint)
    if "ConnectError" in kinds:
        if _find(error, socket.gaierror) is not None:
            return _failure("dns_failed", f"no address found for {way}", hint)
        told = _find(error, OSError)
        reason = f": {told.strerror}" if told is not None and told.strerror else ""
        return _failure(
            "network_unreachable", f"no connection to {way}{reason[:MAX_REASON]}", hint
        )
    return _failure("network_broken", f"the connection to {origin} broke off", network_hint)


def _status_in(text: str) -> int:
    """Return the status that httpx puts before the proxy's own words, which are not passed on."""
    found = text[:3]
    return int(found) if found.isascii() and found.isdigit() else 0


def _failure(code: str, message: str, hint: str) -> Failure:
    return Failure(ErrorClass.TEMPORARY, code, message, hint)


def _find(error: BaseException, kind: type[Kind]) -> Kind | None:
    return next((each for each in _chain(error) if isinstance(each, kind)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk causes, contexts and groups; httpx and anyio wrap more than once."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [link for link in (each.__cause__, each.__context__) if link is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
