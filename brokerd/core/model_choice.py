"""Which of an account's models a name means, and through which endpoint that model is spoken to.

Tools have names of their own: with a date (`claude-sonnet-4-5-20250929`), with dashes where GitHub
has a dot (`claude-opus-4-8`), with a size of context behind it (`[1m]`). These mean one model and
are put into GitHub's words. No other model is ever put in the place of the one that was asked for,
unless the person's own configuration says so (`[models.aliases]`).
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.completions import ALLOWED_PATHS, DEFAULT_PATH
from brokerd.core.pacing.model_name import place_of
from brokerd.core.turns import MAX_ITEMS


if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


__all__ = ["chosen", "depends_on_list", "endpoints_of", "way_for", "with_model"]

CHAT: Final = DEFAULT_PATH
RESPONSES: Final = "/responses"
MESSAGES: Final = "/v1/messages"
EMBEDDINGS: Final = "/embeddings"

_ALIAS_HOPS: Final = 4
"""An alias may lead to another one; a circle ends here."""

_DATE: Final = re.compile(r"[-@](?:20\d{6}|latest)\Z")
_CONTEXT: Final = re.compile(r"\[\d+[km]\]\Z")

_INSTEAD: Final = {
    CHAT: (RESPONSES, MESSAGES),
    RESPONSES: (CHAT, MESSAGES),
    MESSAGES: (CHAT, RESPONSES),
}
"""Endpoint → those that can be translated to, the closest first."""


def chosen(name: str, aliases: Mapping[str, str], ids: Collection[str]) -> str:
    """Return the id that `name` means; `name` itself where it means none of `ids`.

    `aliases`: name or pattern (fnmatch(3)) → id or another name, the first that fits holds.
    """
    if not aliases and name in ids:
        return name
    for _ in range(_ALIAS_HOPS):
        alias = _alias(name, aliases)
        if alias is None or alias == name:
            break
        name = alias
    if name in ids or not depends_on_list(name):
        return name
    plain = _plain(name)
    found = [each for each in ids if each.startswith("claude") and _plain(each) == plain]
    if not found:
        found = [
            each for each in ids if each.startswith("claude") and _parts(each) == _parts(name)
        ]
    return found[0] if len(found) == 1 else name


def depends_on_list(name: str) -> bool:
    """Whether a name, aliases done, may be one that the list has another word for."""
    return name.startswith("claude")


def _alias(name: str, aliases: Mapping[str, str]) -> str | None:
    if not aliases:
        return None
    exact = aliases.get(name)
    if exact is not None:
        return exact
    return next((to for pattern, to in aliases.items() if fnmatchcase(name, pattern)), None)


def _plain(name: str) -> str:
    return _DATE.sub("", _CONTEXT.sub("", name)).replace(".", "-")


def _parts(name: str) -> tuple[list[str], list[str]]:
    """Return words and numbers: `claude-4-5-sonnet` and `claude-sonnet-4.5` have the same."""
    parts = _plain(name).split("-")
    words = sorted(each for each in parts if not each.isdigit())
    return words, [each for each in parts if each.isdigit()]


def endpoints_of(entry: Mapping[str, Any]) -> Sequence[str]:
    """Return where one of GitHub's entries says that its model can be spoken to."""
    capabilities = entry.get("capabilities")
    kind = capabilities.get("type") if isinstance(capabilities, dict) else None
    if kind == "embeddings":
        return (EMBEDDINGS,)
    said = entry.get("supported_endpoints")
    if not isinstance(said, list):
        return () if kind == "completion" else (CHAT,)
    return [each for each in said if each in ALLOWED_PATHS]


def way_for(path: str, endpoints: Sequence[str]) -> str | None:
    """Return the endpoint to use for a request to `path`; None: it cannot even be translated."""
    if path in endpoints:
        return path
    return next((each for each in _INSTEAD.get(path, ()) if each in endpoints), None)


def with_model(body: bytes, model: str) -> bytes:
    """Return a request's body that names `model` instead; all the rest of it means the same.

    One that is no JSON object, or cannot be read for sure, stays as it is.
    """
    named = json.dumps(model).encode()
    place = place_of(body)
    if place is not None:
        return body[: place.start(1) - 1] + named + body[place.end(1) + 1 :]
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        return body
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(request, dict) or "model" not in request:
        return body
    return json.dumps({**request, "model": model}, ensure_ascii=False).encode()
