"""Names of functions in a namespace, which this API alone has (codex sorts MCP servers' by them).

Elsewhere one name has to hold both; so a mark stands between, by which they are told apart again
when the model calls.
"""

from __future__ import annotations

from typing import Final


__all__ = ["full_name", "split_name"]

MARK: Final = "_-_"
"""Of letters that every API allows in a name, in an order that nobody uses."""


def full_name(namespace: str, name: str) -> str:
    """Put a namespace and a name into one name; the name alone where there is no namespace."""
    return f"{namespace}{MARK}{name}" if namespace else name


def split_name(name: str) -> tuple[str, str]:
    """Return the namespace ("" without one) and the name."""
    namespace, mark, rest = name.partition(MARK)
    return (namespace, rest) if mark and namespace and rest else ("", name)
