"""What a setting may be: functions from a string to its value, or to what is allowed instead.

`NotAllowedError` says what is allowed and never echoes the value: it may be a secret in the wrong
place.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = [
    "NotAllowedError",
    "account_name",
    "client_id",
    "header_value",
    "host",
    "one_of",
    "origin",
    "proxy",
    "scope",
]


class NotAllowedError(ValueError):
    """Reads as the end of the sentence "KEY must be …"."""


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a check for a closed set of words."""

    def check(value: str) -> str:
        if value not in allowed:
            import difflib  # noqa: PLC0415 - for mistakes only

            close = difflib.get_close_matches(value, allowed, n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            raise NotAllowedError("one of " + ", ".join(allowed) + guess)
        return value

    return check


def account_name(value: str) -> str:
    """Check the name of an account: it is shown in tables, logs and commands."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        raise NotAllowedError(
            "1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit"
        )
    return value


def host(value: str) -> str:
    """Check the host of a GitHub that has Copilot; returned in lower case."""
    host = value.lower()
    label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    if not re.fullmatch(rf"github\.com|{label}\.ghe\.com", host):
        raise NotAllowedError("github.com or NAME.ghe.com: a host name without scheme or path")
    return host


def client_id(value: str) -> str:
    """Check the form only: which presets there are is upstream's business."""
    if re.match(r"gh[a-z]_|github_pat_", value):
        raise NotAllowedError("the name of a preset (vscode, copilot) or a client id, not a token")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value):
        raise NotAllowedError("the name of a preset (vscode, copilot) or an OAuth client id")
    return value


def scope(value: str) -> str:
    """Check a list of OAuth scopes (RFC 6749 §3.3)."""
    if not re.fullmatch(r"([!#-\[\]-~]{1,64}( [!#-\[\]-~]{1,64}){0,19})?", value):
        raise NotAllowedError("up to 20 scopes separated by single spaces, like user:email")
    return value


def origin(value: str) -> str | None:
    """Check an origin (RFC 6454 §6.2); plain http on loopback only. "" is None."""
    if not value:
        return None
    allowed = NotAllowedError(
        "an origin, https://HOST[:PORT] without path, query or user (http:// on loopback only)"
    )
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise allowed from None
    host = (url.hostname or "").lower()
    plain = url.scheme == "http" and (host == "localhost" or _is_loopback(host))
    if not host or not (url.scheme == "https" or plain):
        raise allowed
    shown = f"[{host}]" if ":" in host else host
    origin = f"{url.scheme}://{shown}" + (f":{port}" if port is not None else "")
    if value.lower().rstrip("/") != origin:
        raise allowed
    return origin


def header_value(value: str) -> str:
    """Check what goes out as a header (RFC 9110 §5.5, its ASCII part)."""
    if not re.fullmatch(r"([!-~]([ -~]{0,198}[!-~])?)?", value):
        raise NotAllowedError("up to 200 visible ASCII characters, or empty to send none")
    return value


def proxy(value: str) -> str | None:
    """Check the URL of an HTTP proxy. "" is None."""
    if not value:
        return None
    allowed = NotAllowedError("http://[USER:PASSWORD@]HOST[:PORT] or the same with https://")
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise allowed from None
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") or url.query:
        raise allowed
    return value


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
