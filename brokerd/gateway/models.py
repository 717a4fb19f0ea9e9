"""`GET /models` and `GET /models/{id}`, as OpenAI's and as Anthropic's libraries know them.

Only what can be used is listed: no model whose terms are not accepted or that the organization
has switched off, none beyond the caller's rights. GitHub's own entries are kept whole, with what
OpenAI's API says of a model besides (`object`, `created`, `owned_by`); Anthropic's libraries,
which say `anthropic-version`, get the few fields that theirs has.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.model_choice import chosen
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.gateway.messages import Reply
from brokerd.gateway.plan import ACCOUNT
from brokerd.gateway.wanted import account_of


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from brokerd.gate import Caller
    from brokerd.gateway.messages import Request
    from brokerd.proxy import Proxy
    from brokerd.views import ModelList


__all__ = ["dialect_of", "one_model", "usable", "whole_list"]

OPERATION: Final = "models.list"
ANTHROPIC: Final = "anthropic-version"

_CODEX: Final = "client_version="
"""Codex CLI's question, which wants `models` besides, in a form of its own. An empty list has it
keep to what it knows; without one it says that it cannot read the answer."""

_DATE: Final = re.compile(r"(20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
_NAME_SHOWN: Final = 64

_Entry = dict[str, Any]


def dialect_of(request: Request) -> Dialect:
    """Return the dialect that lists of models are given in."""
    return Dialect.MESSAGES if ANTHROPIC in request.head.headers else Dialect.CHAT


async def whole_list(request: Request, caller: Caller, proxy: Proxy) -> Reply:
    """`GET /models`. Raises BrokerError: no token, or not for this caller."""
    listed, entries = await _listed(request, caller, proxy)
    if dialect_of(request) is Dialect.MESSAGES:
        data = [_anthropic(entry) for entry in entries]
        ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        page = {"data": data, "has_more": False, "first_id": ends[0], "last_id": ends[1]}
    else:
        page = {"object": "list", "data": [_openai(entry) for entry in entries]}
        if _CODEX in request.head.query:
            page["models"] = []
    return _json(page, listed.account)


async def one_model(
    request: Request, caller: Caller, proxy: Proxy, model: str, aliases: Mapping[str, str]
) -> Reply:
    """`GET /models/{id}`; `model` comes from the path, percent-encoding as it came.

    A name that means one of them (`core.model_choice`) finds it. Raises BrokerError:
    PermanentError `model_not_found` (404) for one that there is not, or is not for this caller.
    """
    listed, entries = await _listed(request, caller, proxy)
    by_id = {entry["id"]: entry for entry in entries}
    name = unquote(model)
    entry = by_id.get(chosen(name, aliases, by_id))
    if entry is None:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "model_not_found",
                f"there is no model {name[:_NAME_SHOWN]!r} for the account {listed.account}",
                "Choose one of: copilot-cred models",
            )
        )
    is_anthropic = dialect_of(request) is Dialect.MESSAGES
    return _json(_anthropic(entry) if is_anthropic else _openai(entry), listed.account)


def usable(entries: Iterable[Mapping[str, Any]]) -> list[_Entry]:
    """Return the entries that can be used, each with an id, in GitHub's order.

    Not what the picker of an editor shows: it leaves embeddings and older models out that answer.
    """
    return [
        dict(entry) for entry in entries if isinstance(entry.get("id"), str) and _is_open(entry)
    ]


async def _listed(
    request: Request, caller: Caller, proxy: Proxy
) -> tuple[ModelList, Sequence[_Entry]]:
    account = account_of(request.head.headers.get(ACCOUNT) or None, caller)
    caller.check(OPERATION, account)
    listed = await proxy.models(account)
    rights = caller.rights
    entries = usable(listed.models)
    return listed, [each for each in entries if rights.refuse_model(each["id"]) is None]


def _is_open(entry: Mapping[str, Any]) -> bool:
    """Whether its terms, if it has any, are accepted; an entry without parts is unfinished."""
    if not isinstance(entry.get("capabilities"), dict):
        return False
    policy = entry.get("policy")  # absent: usable
    return not isinstance(policy, dict) or policy.get("state", "enabled") == "enabled"


def _openai(entry: _Entry) -> _Entry:
    """Add what OpenAI's API has (reference, "Models"); GitHub's own word stands."""
    vendor = entry.get("vendor")
    owner = vendor if isinstance(vendor, str) and vendor else "github-copilot"
    created = int(_created(entry).timestamp())
    return {"created": created, "owned_by": owner, **entry, "object": "model"}


def _anthropic(entry: _Entry) -> _Entry:
    """Make what Anthropic's API has (reference, "List Models")."""
    name = entry.get("name")
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": name if isinstance(name, str) else entry["id"],
        "created_at": _created(entry).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _created(entry: _Entry) -> datetime:
    """Return the date in its version or id, else the epoch: what Anthropic gives for unknown."""
    for said in (entry.get("version"), entry["id"]):
        found = _DATE.search(said) if isinstance(said, str) else None
        if found is not None:
            try:
                return datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC)
            except ValueError:  # the 31st of a shorter month
                continue
    return datetime(1970, 1, 1, tzinfo=UTC)


def _json(page: _Entry, account: str) -> Reply:
    headers = {"content-type": "application/json", ACCOUNT: account}
    return Reply(200, headers, json.dumps(page).encode())
