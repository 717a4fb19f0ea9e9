r"""Which model a body asks for, where rights depend on the answer.

`core.pacing.model_name` finds the model of a sound request, and a wrong guess costs a little pace.
Here the caller may want us to read another name than upstream does. Upstream's parser may take the
last of two keys or the first, and Go's takes keys in any case (encoding/json, Unmarshal). So what
can be read in two ways names no model at all, and no model is allowed by no rule but `*`.
"""

from __future__ import annotations

import json
from typing import Any

from brokerd.core.completions import engine_model
from brokerd.core.pacing.model_name import MAX_NAME, model_of
from brokerd.core.turns import MAX_ITEMS


__all__ = ["asked_model"]

_KEY = b'"model"'
_ESCAPED_LETTERS = (b"\\u004", b"\\u006")
"""How an escape of one of the key's letters begins, large ones and small ones."""


def asked_model(body: object, path: object = None) -> str:
    """Return the one model that a JSON body names for every reader; "" if there is no such name.

    `body` and `path` are what the peer sent as these, of any type. A path may name it instead;
    then a body that names one at all has to name the same.
    """
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        return ""
    engine = engine_model(path) if isinstance(path, str) else None
    if engine is not None and not _may_name(body):
        return engine
    name = _named_in(body)
    return name if engine in (None, name) else ""


def _may_name(body: bytes) -> bool:
    folded = body.lower()
    return _KEY in folded or any(each in folded for each in _ESCAPED_LETTERS)


def _named_in(body: bytes) -> str:
    folded = body.lower()
    if folded.count(_KEY) == 1 and not any(each in folded for each in _ESCAPED_LETTERS):
        name = model_of(body)
    else:
        name = _only_one(body)
    return name if len(name) < MAX_NAME else ""  # a longer one may have been cut


class _Members(list[tuple[str, Any]]):
    """A JSON object with all of its members, also those of the same name."""


def _only_one(body: bytes) -> str:
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_ITEMS:
        return ""
    try:
        request = json.loads(str(body, "utf-8"), object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(request, _Members):
        return ""
    found = [(key, value) for key, value in request if key.lower() == "model"]
    if len(found) != 1 or found[0][0] != "model" or not isinstance(found[0][1], str):
        return ""
    return found[0][1]
