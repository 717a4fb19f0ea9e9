"""What a completion is made of on its way up, and what a caller may have in one.

`proxy` makes an `UpstreamCall` of a caller's `CompletionRequest`; `upstream` sends it. Doors hold
what they are given to `normal_path` and `checked_headers`; both refuse by raising.

Fill-in-the-middle completions are of a host of their own, and their model stands in the path.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "ALLOWED_HEADERS",
    "ALLOWED_PATHS",
    "DEFAULT_PATH",
    "ENGINES",
    "ENGINE_PATH",
    "MODEL_ID",
    "TURN_PATHS",
    "CompletionRequest",
    "UpstreamCall",
    "checked_headers",
    "engine_model",
    "engine_path",
    "normal_path",
]

DEFAULT_PATH = "/chat/completions"

ALLOWED_PATHS = (DEFAULT_PATH, "/responses", "/v1/messages", "/embeddings", "/models/session")
"""Paths of the Copilot API that a caller may use, in their one normal form: as it spells them."""

TURN_PATHS = frozenset(ALLOWED_PATHS) - {"/embeddings", "/models/session"}
"""Where somebody takes a turn, and so an initiator is asked for."""

ENGINES = "/v1/engines/"
"""What the path of a fill-in-the-middle completion begins with, in its normal form."""

ENGINE_PATH = ENGINES + "MODEL/completions"
"""How such a path is spelled to a person."""

MODEL_ID = re.compile(r"(?=.{1,200}\Z)(?!\.+(?:/|\Z))[!-.0-~]+(?:/(?!\.+(?:/|\Z))[!-.0-~]+)*")
"""One segment of a path, once it is quoted: a proxy on the way may undo that, so what is between
its slashes is looked at too. Dots alone would be a way through the tree."""

ALLOWED_HEADERS = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-version",
        "copilot-session-token",
        "copilot-vision-request",
        "openai-intent",
        "x-agent-task-id",
        "x-initiator",
        "x-interaction-id",
        "x-interaction-type",
        "x-request-id",
    }
)
"""What a caller may say of its turn. Who we are and with which token stays the broker's word."""

MAX_HEADER_VALUE = 1024
"""Characters; ids and words are shorter, and a whole head must stay far below a server's 8 KiB."""

MAX_SESSION_TOKEN = 4096
"""Characters of `copilot-session-token`, which is signed and so longer; its form is not known."""

_NAME_SHOWN = 64
"""Characters of a caller's own word repeated back to it."""

_ENGINE = re.compile(r"/?(?:v1/)?engines/([A-Za-z0-9._~!$&'()*+,;=:@%/-]{1,600})/completions")
"""With or without `/v1`, as for the others; between its ends what RFC 3986 §3.3 has in paths."""

_HELP = "completion.create in client/PROTOCOL.md, or run: copilot-cred api --help"
_SPELLINGS = {
    lead + prefix + path.removeprefix("/").removeprefix("v1/"): path
    for path in ALLOWED_PATHS
    for lead in ("", "/")
    for prefix in ("", "v1/")
}
"""Every way to write an allowed path; base addresses end in `/v1` for some libraries."""


@dataclass(frozen=True)
class CompletionRequest:
    """What a caller wants sent, as it came through a door."""

    body: bytes = field(repr=False)
    """Goes up untouched."""
    path: str = DEFAULT_PATH
    """One of the paths that may be asked for, in its one normal form."""
    stream: bool = False
    """Whether the caller takes the answer in pieces; what upstream sends depends on the body."""
    account: str | None = None
    """None: the default one."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """The caller's own, lower-case names, none but those that may be passed on."""
    peer: int = 0
    """Process that asks: where requests have to queue, processes take turns."""

    @property
    def naming(self) -> bytes:
        """JSON that names the model: the body, but for a path that names it."""
        if not self.path.startswith(ENGINES):
            return self.body
        return json.dumps({"model": engine_model(self.path)}).encode()


@dataclass(frozen=True)
class UpstreamCall:
    """One POST to the Copilot API; sent at most once."""

    host: str
    """The account's GitHub host: it decides where a credential may go."""
    api_base: str
    """Origin of the Copilot API, as the exchange named it, or of the host for completions."""
    token: str = field(repr=False)
    path: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    """To be sent besides (and instead of) the identity headers; lower-case names."""
    is_direct: bool = False
    """Whether the token is the GitHub token itself: then no integration is named."""
    is_fim: bool = False
    """Whether `api_base` is the host for fill-in-the-middle completions."""


def normal_path(text: str) -> str:
    """Return the normal form of a path; a leading slash and `/v1` may be there or not.

    Raises PermanentError USAGE `path_not_allowed` for every other one.
    """
    path = _SPELLINGS.get(text)
    if path is None and (model := engine_model(text)) is not None:
        path = engine_path(model)
    if path is None:
        allowed = ", ".join((*ALLOWED_PATHS, ENGINE_PATH))
        raise _usage(
            "path_not_allowed",
            f"{text[:_NAME_SHOWN]!r} is no path for callers; allowed: {allowed}",
            f"See {_HELP}",
        )
    return path


def engine_model(path: str) -> str | None:
    """Return the model that a path for fill-in-the-middle names; None: it is no such path."""
    found = _ENGINE.fullmatch(path)
    model = unquote(found[1]) if found else ""
    return model if MODEL_ID.fullmatch(model) else None


def engine_path(model: str) -> str:
    """Return the path of a fill-in-the-middle completion with `model`, in its normal form.

    Raises PermanentError USAGE `bad_model` for what cannot be the id of a model.
    """
    if not MODEL_ID.fullmatch(model):
        raise _usage(
            "bad_model",
            f"{model[:_NAME_SHOWN]!r} cannot be a model's id",
            "Name a model for completions; those there are: copilot-cred models",
        )
    return f"{ENGINES}{quote(model, safe='')}/completions"


def checked_headers(given: Mapping[Any, Any]) -> dict[str, str]:
    """Return a caller's headers with lower-case names, each one that may be passed on.

    Raises PermanentError USAGE: `header_not_allowed` for a name that may not, `bad_header` for a
    value that is no line of printable ASCII, or for a name given twice. Values are not repeated.
    """
    checked: dict[str, str] = {}
    for name, value in given.items():
        known = name.lower() if isinstance(name, str) else ""
        if known not in ALLOWED_HEADERS:
            shown = name[:_NAME_SHOWN] if isinstance(name, str) else type(name).__name__
            raise _usage(
                "header_not_allowed",
                f"the header {shown!r} is not passed on",
                f"Send none but {', '.join(sorted(ALLOWED_HEADERS))}; see {_HELP}",
            )
        longest = MAX_SESSION_TOKEN if known == "copilot-session-token" else MAX_HEADER_VALUE
        if known in checked or not _is_line(value, longest):
            raise _usage(
                "bad_header",
                f"the header {known} must be given once, as 1 to {longest} printable "
                "ASCII characters",
                f"Mend its value; see {_HELP}",
            )
        checked[known] = value
    return checked


def _is_line(value: Any, longest: int) -> bool:
    """Whether it can stand after a header's name and do no more (RFC 9110 §5.5)."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= longest
        and value.isascii()
        and value.isprintable()
    )


def _usage(code: str, message: str, hint: str) -> PermanentError:
    return PermanentError(Failure(ErrorClass.USAGE, code, message, hint))
