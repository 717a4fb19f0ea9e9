"""Somebody broke the rules of the wire: they did, or we did.

ProtocolError
├── RemoteProtocolError    the peer sent what it must not: close the connection
└── LocalProtocolError     our own code asked for what is not allowed: a defect, nothing was sent
"""

from __future__ import annotations


__all__ = ["LocalProtocolError", "ProtocolError", "RemoteProtocolError"]


class ProtocolError(Exception):
    """Base of both; `code` is machine-readable, `message` a sentence without secrets."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules; the connection is of no further use."""


class LocalProtocolError(ProtocolError):
    """We broke the rules; nothing was sent and nothing changed."""
