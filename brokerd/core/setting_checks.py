"""What a setting may be: functions from a string to its value, or to what is allowed instead.

`NotAllowedError` says what is allowed and never echoes the value: it may be a secret in the wrong
place.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from brokerd.core.loopback import address_of, host_and_port


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = [
    "NotAllowedError",
    "account_name",
    "client_id",
    "header_value",
    "host",
    "model_id",
    "model_pattern",
    "number",
    "one_of",
    "origin",
    "proxy",
    "scope",
    "switch",
    "tcp_listener",
    "text",
]


MODEL_MAX = 128
"""Characters of a model's name; Copilot's have some thirty."""


class NotAllowedError(ValueError):
    """Reads as the end of the sentence "KEY must be …"."""


def text(check_text: Callable[[str], object]) -> Callable[[object], object]:
    """Return a check for a string that passes `check_text`."""

    def check(value: object) -> object:
        if not isinstance(value, str):
            raise NotAllowedError('a string in "quotes"')
        return check_text(value)

    return check


def number(least: int, most: int, meaning: str = "") -> Callable[[object], int]:
    """Return a check for a whole number; `meaning` is told beside what is allowed."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise NotAllowedError(f"a number from {least} to {most}{meaning}")
        return value

    return check


def switch(value: object) -> bool:
    """Check a switch."""
    if not isinstance(value, bool):
        raise NotAllowedError("true or false, without quotes")
    return value


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


def tcp_listener(value: str) -> str:
    """Check where the HTTP door may listen by TCP; returned in its canonical form. "" is nowhere.

    Every user of the machine can connect there, and with another address all of the network could.
    """
    if not value:
        return ""
    try:
        return address_of(*host_and_port(value))
    except ValueError:
        raise NotAllowedError(
            "a loopback address in digits with a port from 1 to 65535, like 127.0.0.1:4141 or"
            " [::1]:4141: the network must not reach it, and a name could lead anywhere"
        ) from None


def model_pattern(value: str) -> str:
    """Check a model's name as clients ask for it, or a pattern (fnmatch(3)) of such names."""
    if not re.fullmatch(rf"[!-~]{{1,{MODEL_MAX}}}", value):
        raise NotAllowedError(f"1 to {MODEL_MAX} visible ASCII characters; * and ? match any")
    return value


def model_id(value: str) -> str:
    """Check a model's id as Copilot lists it."""
    if not re.fullmatch(rf"[!-)+->@-Z^-~]{{1,{MODEL_MAX}}}", value):
        raise NotAllowedError(
            f"the id of a model, 1 to {MODEL_MAX} visible characters and no pattern;"
            " see them with: copilot-cred models"
        )
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
