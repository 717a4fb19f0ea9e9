"""A conversation on a terminal: `copilot-cred chat` without a question.

- `loop`: reads a line, does what it says, until the person leaves
- `talk`: the conversation's state, and what each command does to it
- `commands`: what begins with a slash
- `conversation`: what was said, and how much of it a model takes: pure
- `spending`: what it has cost so far: pure
- `saved`: a conversation as a file
- `lines`: reading lines: with prompt_toolkit (`editor`), or as the terminal gives them
- `kept`: questions kept from one conversation to the next, where that is asked for
"""

from __future__ import annotations


__all__: list[str] = []
