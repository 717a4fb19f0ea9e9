"""Where a client is not as the others, on purpose: the whole of it, each with its reason.

A test holds this equal to what the clients have, so nothing gets here, or leaves, unnoticed.
"""

from __future__ import annotations


__all__ = ["LACKS", "RENAMED"]

RENAMED = {"asyncio": {"close": "aclose"}}
"""asyncio's own convention for what has to be awaited."""

LACKS: dict[str, dict[str, str]] = {
    "blocking": {
        "cancel": "a call that waits is ended by its deadline, or by `close` in another thread",
    },
    "asyncio": {},
    "node": {
        "peer_credentials": "Node tells nobody who listens; it looks at the folder and the socket",
    },
    "neovim": {
        "peer_credentials": "as Node",
        "utf8": "Lua's strings are bytes: a text that is no UTF-8 is handed on as it is",
        "strict_keys": "a table may have any keys: one that is no text is found where it is looked for",
    },
}
"""Client → what it lacks → why: a method's name, or a word that a test asks for."""
