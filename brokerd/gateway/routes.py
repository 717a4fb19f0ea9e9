"""Which endpoint a path means.

Base addresses are given with `/v1` and without, with a slash too many, and by some people with
`/v1` twice; what is behind them is the same.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, NamedTuple


__all__ = ["Endpoint", "Route", "find"]


class Endpoint(Enum):
    """What is served."""

    COMPLETION = auto()
    COUNT_TOKENS = auto()
    MODELS = auto()
    MODEL = auto()
    ROOT = auto()
    HEALTH = auto()
    METRICS = auto()


class Route(NamedTuple):
    """What a path means."""

    endpoint: Endpoint
    path: str = ""
    """Of the Copilot API, for a completion; "/completions" stands for fill-in-the-middle."""
    model: str = ""
    """From the path, percent-encoding as it came."""

    @property
    def methods(self) -> tuple[str, ...]:
        """What may be done with it."""
        is_post = self.endpoint in (Endpoint.COMPLETION, Endpoint.COUNT_TOKENS)
        return ("POST",) if is_post else ("GET", "HEAD")


_ROUTES: Final = {
    "/chat/completions": Route(Endpoint.COMPLETION, "/chat/completions"),
    "/responses": Route(Endpoint.COMPLETION, "/responses"),
    "/messages": Route(Endpoint.COMPLETION, "/v1/messages"),
    "/embeddings": Route(Endpoint.COMPLETION, "/embeddings"),
    "/completions": Route(Endpoint.COMPLETION, "/completions"),
    "/messages/count_tokens": Route(Endpoint.COUNT_TOKENS),
    "/models": Route(Endpoint.MODELS),
    "/healthz": Route(Endpoint.HEALTH),
    "/metrics": Route(Endpoint.METRICS),
    "/": Route(Endpoint.ROOT),
}
_USUAL: Final = _ROUTES | {f"/v1{path}": route for path, route in _ROUTES.items() if path != "/"}
_SLASHES: Final = re.compile(r"//+")
_PREFIX: Final = re.compile(r"\A(?:/v1)+(?=/|\Z)")
_ENGINE: Final = re.compile(r"/engines/(?P<model>.{1,300})/completions")
_MODEL: Final = re.compile(r"/models/(?P<model>.{1,300})")


def find(path: str) -> Route | None:
    """Return what a path means; None: nothing here."""
    return _USUAL.get(path) or _unusual(path)


def _unusual(path: str) -> Route | None:
    path = _PREFIX.sub("", _SLASHES.sub("/", path))
    path = path.rstrip("/") or "/"
    if (found := _ROUTES.get(path)) is not None:
        return found
    if (engine := _ENGINE.fullmatch(path)) is not None:
        return Route(Endpoint.COMPLETION, "/completions", engine["model"])
    if (model := _MODEL.fullmatch(path)) is not None:
        return Route(Endpoint.MODEL, model=model["model"])
    return None
