"""Chat Completions (OpenAI), as Copilot speaks it and as strict clients expect it.

Source: the API reference of Chat Completions, and what Copilot adds to it and leaves out of it:
`reasoning_text` and `reasoning_opaque`, `thinking_budget`, first chunks without choices, chunks
without an id, Claude's answers in two choices.

What it cannot say, and what becomes of it:

| meaning | in Chat Completions |
|---|---|
| images in a tool's result | in a user's message right after the results |
| a result that is an error | its words alone; "error" where it has none |
| words after a call in the same turn | before it: results have to follow calls at once |
| several texts, refusals or thoughts of one answer | one of each; the proof only of a single one |
| when the proof of a streamed thought came | at the end |
| half of a usage, tokens written to a cache | 0; left out |
| which stop sequence was met; a pause | `stop`; `length` |
| a wish to read thoughts | left out: Copilot shows what it has |
"""

from brokerd.core.dialects.chat.answer import read_answer, write_answer
from brokerd.core.dialects.chat.asking import read_asking, write_asking
from brokerd.core.dialects.chat.event_reader import EventReader
from brokerd.core.dialects.chat.event_writer import EventWriter


__all__ = [
    "EventReader",
    "EventWriter",
    "read_answer",
    "read_asking",
    "write_answer",
    "write_asking",
]
