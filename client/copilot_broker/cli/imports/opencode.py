"""opencode's and pi's `auth.json`: an entry `github-copilot` whose `refresh` is the GitHub login.

`access` is the same again or a Copilot token; `enterpriseUrl` names a tenant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import (
    APP_OF_OPENCODE,
    COPILOT_PLUGIN,
    GITHUB,
    WHY_NOT,
    Kind,
    Login,
)
from copilot_broker.cli.imports.raw import app_by_kind
from copilot_broker.cli.imports.reading import read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_opencode", "read_pi"]

KEYS = ("github-copilot", "github-copilot-enterprise")
"""The second is of older versions."""


def read_opencode(data: bytes) -> Iterator[Login]:
    """Read opencode's; its own app is an OAuth app, its older plug-in used the editors' one."""
    apps = {Kind.OAUTH: APP_OF_OPENCODE, Kind.APP: COPILOT_PLUGIN}
    for login in _read(data):
        app = next((app for kind, app in apps.items() if login.token.startswith(kind)), "")
        yield Login(login.token, login.host, app=app, problem=login.problem)


def read_pi(data: bytes) -> Iterator[Login]:
    """Read pi's."""
    for login in _read(data):
        yield Login(login.token, login.host, app=app_by_kind(login.token), problem=login.problem)


def _read(data: bytes) -> Iterator[Login]:
    said = read_json(data)
    for key in KEYS:
        if key not in said:
            continue  # signed in to other services only
        entry = said[key]
        if not isinstance(entry, dict):
            yield Login(problem="an entry of another form")
            continue
        host = text_of(entry.get("enterpriseUrl")) or GITHUB
        token = text_of(entry.get("refresh"))
        is_copilot = not token and text_of(entry.get("access"))
        yield Login(token, host, problem=WHY_NOT[Kind.COPILOT] if is_copilot else "")
