"""The head of an answer: raw lines → the headers that travel on, and how its body ends.

Hop-by-hop fields concern two neighbours only and end here (RFC 9110 §7.6.1); so do cookies, which
are nobody's: one connection serves several people.
"""

from __future__ import annotations


__all__ = ["BadHeadError", "read_head"]

NOT_END_TO_END = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-connection",
        "set-cookie",
        "set-cookie2",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

NAMES_MAX = 256
"""Spellings of names remembered; Copilot uses some thirty."""

BODILESS = (204, 304)
"""Statuses whose answers end with their head (RFC 9112 §6.3)."""


_names: dict[bytes, str] = {}


class BadHeadError(Exception):
    """A head that cannot be used."""


def read_head(raw: list[tuple[bytes, bytes]], status: int) -> tuple[dict[str, str], bool]:
    """Return the headers by their lower-case names, and whether only the end ends the body.

    Raises BadHeadError for a transfer coding other than `chunked`: none was asked for, and what
    is not undone here would travel on without the header that names it.
    """
    headers: dict[str, str] = {}
    for name, value in raw:
        key = _names.get(name) or _lower(name)
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text  # RFC 9110 §5.3
    coding = headers.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        raise BadHeadError
    until_eof = coding is None and "content-length" not in headers and status not in BODILESS
    for hop in NOT_END_TO_END & headers.keys():
        told = headers.pop(hop)
        if hop == "connection":
            for named in told.lower().split(","):
                headers.pop(named.strip(), None)
    return headers, until_eof


def _lower(name: bytes) -> str:
    """Return a field's name in lower case, and remember it: each answer has the same ones."""
    key = name.decode("latin-1").lower()
    if len(_names) < NAMES_MAX:
        _names[name] = key
    return key
