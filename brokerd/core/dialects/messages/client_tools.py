"""Tools of Anthropic's that the caller itself executes.

Their schema is told by the API reference ("Bash tool", "Memory tool", "Text editor tool") and
known to Anthropic's models without; any other model is told it like that of every function. All
other such types are executed by Anthropic, or a model has to be trained for them.
"""

from __future__ import annotations

from typing import Final


__all__ = ["KNOWN"]


def _schema(required: list[str], **properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": required}


_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer"}

_BASH: Final = (
    "Run a command in a persistent bash session. `restart` begins a new session.",
    _schema([], command=_TEXT, restart={"type": "boolean"}),
)
_EDITOR: Final = (
    "View, create and edit text files; `old_str` has to occur exactly once in the file.",
    _schema(
        ["command", "path"],
        command={"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
        path=_TEXT,
        file_text=_TEXT,
        old_str=_TEXT,
        new_str=_TEXT,
        insert_line=_NUMBER,
        insert_text=_TEXT,
        view_range={"type": "array", "items": _NUMBER},
    ),
)
_MEMORY: Final = (
    "Keep notes for later conversations in files below /memories; look there first.",
    _schema(
        ["command"],
        command={
            "type": "string",
            "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
        },
        path=_TEXT,
        file_text=_TEXT,
        old_str=_TEXT,
        new_str=_TEXT,
        insert_line=_NUMBER,
        insert_text=_TEXT,
        view_range={"type": "array", "items": _NUMBER},
        old_path=_TEXT,
        new_path=_TEXT,
    ),
)
KNOWN: Final = {
    "bash_20250124": _BASH,
    "memory_20250818": _MEMORY,
    "text_editor_20250124": _EDITOR,
    "text_editor_20250429": _EDITOR,
    "text_editor_20250728": _EDITOR,
}
"""Type of a tool → what it is for, and its JSON Schema."""
