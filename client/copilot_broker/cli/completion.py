"""`copilot-cred completion SHELL`: a script by which a shell completes our command lines.

Made from the parsers, so it knows what they know. The script holds all of it: a Tab starts no
program and asks no broker.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_broker.cli import get
from copilot_broker.cli.report import PROGRAM


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["Place", "add", "completion", "places"]

DESCRIPTION = """\
Print a script that completes copilot-cred's verbs, options and their values.
"""

EPILOG = """\
examples:
  copilot-cred completion bash \\
    > ~/.local/share/bash-completion/completions/copilot-cred
  copilot-cred completion zsh > ~/.zfunc/_copilot-cred    # a folder of $fpath
  copilot-cred completion fish > ~/.config/fish/completions/copilot-cred.fish
"""

GET_VALUES = {
    "--format": get.FORMATS,
    "--shell": get.SHELLS,
    "--error-format": ("human", "json"),
}
"""Of `get`, which has no parser."""


@dataclass(frozen=True)
class Place:
    """Where a command line may have got to, and what may come next."""

    path: tuple[str, ...]
    """The verb and its action; empty at the beginning."""
    verbs: dict[str, str] = field(default_factory=dict)
    """What may follow, with what it does."""
    options: dict[str, str] = field(default_factory=dict)
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By option that takes one: what it may be; empty: anything."""

    @property
    def name(self) -> str:
        """The path as the scripts have it."""
        return "/".join(self.path)

    @property
    def words(self) -> dict[str, str]:
        """All that may come next, with what it does."""
        return self.verbs | self.options


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "completion",
        help="print a script for the shell's Tab key",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("shell", choices=SCRIPTS)
    parser.set_defaults(run=completion)


def completion(args: argparse.Namespace) -> int:
    """Print the script."""
    from copilot_broker.cli.parser import build  # noqa: PLC0415  # it imports this file

    sys.stdout.write(SCRIPTS[args.shell](list(places(build()))))
    return 0


def places(parser: argparse.ArgumentParser, *path: str) -> Iterator[Place]:
    """Read a parser, and those of its verbs."""
    here = Place(path)
    below: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way to ask
        told = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
            here.verbs.update((name, helps.get(name, "")) for name in action.choices)
            below += action.choices.items()
        elif not action.option_strings:
            here.verbs.update((str(each), "") for each in action.choices or ())
        elif action.help != argparse.SUPPRESS:
            here.options.update((name, told) for name in action.option_strings)
            if action.nargs != 0:
                choices = tuple(str(each) for each in action.choices or ())
                here.values.update((name, choices) for name in action.option_strings)
    yield here
    for name, verb in below:
        if (*path, name) == ("get",):
            yield _get()
        else:
            yield from places(verb, *path, name)


def _get() -> Place:
    names = (*get.FLAGS, *get.VALUED, "--help")
    values = {name: GET_VALUES.get(name, ()) for name in get.VALUED}
    return Place(("get",), {}, dict.fromkeys(names, ""), values)


def _walk(found: list[Place], words: str, otherwise: str) -> str:
    """Return the loop by which bash and zsh find the place: `at` is its name.

    After `--` stands somebody else's command line, and `otherwise` completes it.
    """
    names = "|".join(place.name for place in found if place.path)
    return f"""\
  for word in {words}; do
    [[ $word == -- ]] && {{ {otherwise}; return; }}
    case ${{at:+$at/}}$word in
      {names}) at=${{at:+$at/}}$word ;;
    esac
  done
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _bash(found: list[Place]) -> str:
    values = [
        f"    {place.name}:{option}) words={_quoted(' '.join(choices))} ;;\n"
        for place in found
        for option, choices in place.values.items()
    ]
    words = [
        f"      {_quoted(place.name)}) words='{' '.join(place.words)}' ;;\n" for place in found
    ]
    return f"""\
# Completes {PROGRAM} in bash; made by: {PROGRAM} completion bash
_copilot_cred() {{
  local at= word words=
  COMPREPLY=()
{_walk(found, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"', ":")}\
  case $at:${{COMP_WORDS[COMP_CWORD-1]}} in
{"".join(values)}\
    *) case $at in
{"".join(words)}\
    esac ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -o default -F _copilot_cred {PROGRAM}
"""


def _zsh(found: list[Place]) -> str:
    def described(place: Place) -> str:
        pairs = ((name, told.replace(":", "\\:")) for name, told in place.words.items())
        return " ".join(_quoted(f"{name}:{told}" if told else name) for name, told in pairs)

    values = [
        f"    {place.name}:{option}) found=({' '.join(choices)}) ;;\n"
        for place in found
        for option, choices in place.values.items()
    ]
    words = [f"      {_quoted(place.name)}) found=({described(place)}) ;;\n" for place in found]
    return f"""\
#compdef {PROGRAM}
# Completes {PROGRAM} in zsh; made by: {PROGRAM} completion zsh
_copilot_cred() {{
  local at= word
  local -a found
{_walk(found, '"${(@)words[2,CURRENT-1]}"', "_files")}\
  case $at:${{words[CURRENT-1]}} in
{"".join(values)}\
    *) case $at in
{"".join(words)}\
    esac ;;
  esac
  if (( $#found )); then _describe -o {PROGRAM} found; else _files; fi
}}
if [[ $funcstack[1] == _copilot_cred ]]; then  # loaded by its name, for the first Tab
  _copilot_cred "$@"
else
  compdef _copilot_cred {PROGRAM}
fi
"""


def _fish(found: list[Place]) -> str:
    lines = []
    for place in found:
        head = f"complete -c {PROGRAM} -n '__copilot_cred_at {_quoted_in(place.name)}'"
        for name, told in place.verbs.items():
            lines.append(f"{head} -f -a {name} -d {_fish_quoted(told)}\n")
        for name, told in place.options.items():
            dashes = "-l" if name.startswith("--") else "-s"
            line = f"{head} {dashes} {name.lstrip('-')} -d {_fish_quoted(told)}"
            if name in place.values:
                choices = " ".join(place.values[name])
                line += f" -x -a {_fish_quoted(choices)}" if choices else " -r"
            lines.append(f"{line}\n")
    names = " ".join(place.name for place in found if place.path)
    return f"""\
# Completes {PROGRAM} in fish; made by: {PROGRAM} completion fish
function __copilot_cred_at
  set -l at
  for word in (commandline -opc)[2..-1]
    test "$word" = --; and return 1
    set -l next (string join / -- $at $word)
    contains -- $next {names}; and set at $next
  end
  test "$at" = "$argv[1]"
end
{"".join(lines)}"""


def _quoted_in(name: str) -> str:
    return f'"{name}"'


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
