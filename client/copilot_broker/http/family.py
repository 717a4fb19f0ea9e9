"""Which httpx: there are two of one shape, `httpx` and `httpx2`, and an SDK is built on either.

A response of one is none of the other, so the transport has to be of the family that the caller's
client is of. The class itself tells that, whatever version its package has.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from types import ModuleType


__all__ = ["httpx_of", "sdk"]


def httpx_of(kind: type) -> ModuleType:
    """Return the httpx that this class of a client or a transport comes from.

    Raises TypeError where it comes from none.
    """
    for base in kind.__mro__:
        package = sys.modules.get(base.__module__.partition(".")[0])
        if hasattr(package, "AsyncHTTPTransport"):
            assert package is not None
            return package
    raise TypeError(f"{kind.__qualname__} is neither a client nor a transport of httpx or httpx2")


def sdk(name: str) -> ModuleType:
    """Import an SDK. Raises ModuleNotFoundError that names the command which installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and what it needs is not
            raise
        told = f"{name} is not installed. Run: python -m pip install {name}"
        raise ModuleNotFoundError(told, name=name) from None
