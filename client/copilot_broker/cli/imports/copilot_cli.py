"""The Copilot CLI's `config.json`, JSON with `//` comments: its plain-text store.

Mostly its tokens are in the keyring; then the file only says who is signed in.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import APP_OF_COPILOT_CLI, Kind, Login
from copilot_broker.cli.imports.reading import Unreadable, read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_copilot_cli"]

IN_THE_KEYRING = "in the keyring, which only the Copilot CLI reads"

_TEXT_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"?)|//[^\n]*')


def read_copilot_cli(data: bytes) -> Iterator[Login]:
    """Read `{"copilotTokens": {"https://HOST:LOGIN": TOKEN}, "loggedInUsers": […]}`.

    Older versions put underscores between the words.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("no text") from None
    said = read_json(_TEXT_OR_COMMENT.sub(lambda match: match[1] or "", text).encode())
    tokens = said.get("copilotTokens", said.get("copilot_tokens"))
    seen: set[tuple[str, str]] = set()
    for key, value in tokens.items() if isinstance(tokens, dict) else ():
        scheme, _, rest = key.rpartition("//")
        host, _, user = rest.partition(":")
        token = text_of(value)
        app = APP_OF_COPILOT_CLI if token.startswith(Kind.OAUTH) else ""
        problem = "" if scheme in {"", "https:"} else "an entry of another form"
        yield Login(token, host, user, app, problem)
        seen.add((host, user))
    people = said.get("loggedInUsers", said.get("logged_in_users"))
    for person in people if isinstance(people, list) else ():
        if not isinstance(person, dict):
            continue
        host = text_of(person.get("host")).removeprefix("https://")
        user = text_of(person.get("login"))
        if (host, user) not in seen:
            yield Login("", host, user, problem=IN_THE_KEYRING)
