"""What a recipe is made of, and how it is printed.

A heading begins with `## `, a comment wherever people paste it; what stands below it goes, as it
is, where the heading says. What is to be run can be pasted into a shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from copilot_broker.cli.recipes.variables import variables


if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_broker.cli.recipes.place import Place


__all__ = ["HEADINGS", "Part", "Recipe", "Write", "file", "kept_key", "make_key", "note", "once"]
__all__ += ["run", "shell", "shell_with_key", "written"]

Kind: TypeAlias = Literal["note", "once", "shell", "file", "run"]

HEADINGS: dict[Kind, str] = {
    "once": "once",
    "shell": "in the shell, or in its start-up file",
    "file": "in {path}",
    "run": "then, for example",
}


@dataclass(frozen=True)
class Part:
    """Something to be put somewhere."""

    kind: Kind
    text: str
    path: str = ""
    """Of the file; `~` is the home folder."""


Write: TypeAlias = "Callable[[Place], list[Part]]"


@dataclass(frozen=True)
class Recipe:
    """How one tool is brought to ask the broker."""

    name: str
    """As it is asked for."""
    title: str
    """As its makers call it."""
    about: str
    """What it reads, in a line."""
    by_hand: Write
    """By the TCP door, with a key."""
    under_exec: Write
    """What is needed besides the variables that `exec` sets."""


def note(text: str) -> Part:
    """Say something that goes nowhere."""
    return Part("note", text)


def once(*lines: str) -> Part:
    """Have something done a single time."""
    return Part("once", "\n".join(lines))


def shell(**told: str) -> Part:
    """Set environment variables; the values are a shell's words."""
    return Part("shell", "\n".join(f"export {name}={value}" for name, value in told.items()))


def shell_with_key(place: Place, tool: str, *names: str, **others: str) -> Part:
    """Set those of `exec`'s variables that the tool reads, with the key that `kept_key` makes."""
    all_of_them = variables(place.root, f"$(cat ~/.config/copilot-broker/{tool}.key)")
    part = shell(**{name: all_of_them[name] for name in names}, **others)
    if "ANTHROPIC_AUTH_TOKEN" in names:  # one of Anthropic's own would be sent instead
        return Part("shell", f"unset ANTHROPIC_API_KEY\n{part.text}")
    return part


def file(path: str, text: str) -> Part:
    """Have a file hold this, besides what it holds."""
    return Part("file", text.strip("\n"), path)


def run(*lines: str) -> Part:
    """Show that it works."""
    return Part("run", "\n".join(lines))


def kept_key(place: Place, name: str) -> Part:
    """Make a key for this tool and keep it where nobody else reads it."""
    return once(
        "mkdir -p ~/.config/copilot-broker",
        make_key(place, name, '"$key" >', f"~/.config/copilot-broker/{name}.key"),
    )


def make_key(place: Place, name: str, into: str, path: str) -> str:
    """Return the line that makes a key; where none is made, nothing happens to the file."""
    return f"(umask 077; key=$({place.new_key(name)}) && echo {into} {path})"


def written(recipe: Recipe, place: Place, under_exec: bool = False) -> str:
    """Return a recipe as it is printed."""
    how = f"run by: {place.run} COMMAND" if under_exec else f"by {place.root}"
    parts = (recipe.under_exec if under_exec else recipe.by_hand)(place)
    blocks = [f"# {recipe.title}, {how}", *map(_block, parts)]
    return "\n\n".join(blocks)


def _block(part: Part) -> str:
    if part.kind == "note":
        return "\n".join(f"# {line}" for line in part.text.splitlines())
    return f"## {HEADINGS[part.kind].format(path=part.path)}\n{part.text}"
