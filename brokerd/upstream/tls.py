"""Whom TLS trusts: the system's authorities, and those of `[network] ca_file` besides.

One context for all connections of a configuration: it holds every certificate of the system's
store, which is a megabyte and some 20 ms to read, so it is made when first needed.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["Trust"]


class Trust:
    """Makes the context once; host names and certificates are always checked."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context; PermanentError (USAGE) for an unusable `ca_file`."""
        if self._context is None:
            self._context = _make(self._ca_file)
        return self._context


def _make(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:
        import certifi  # noqa: PLC0415 - comes with httpx; only where the system has no store

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])  # RFC 7301; neither client speaks HTTP/2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError too: not a certificate
            raise PermanentError(
                Failure(
                    ErrorClass.USAGE,
                    "ca_file_unusable",
                    f"{ca_file} cannot be used: {error.strerror or 'no certificates in it'}",
                    "Mend network.ca_file in config.toml, then: "
                    "systemctl --user restart copilot-broker",
                )
            ) from None
    return context
