"""The Responses API (OpenAI), as Copilot speaks it and as strict clients expect it.

Source: the API reference of Responses, and where Copilot differs: nothing is stored, and an item
has another id in every event.

What it cannot say, and what becomes of it:

| meaning | in Responses |
|---|---|
| stop sequences in a request | refused |
| a result that is an error | its words alone; "error" where it has none |
| a budget for thoughts | the effort that comes nearest |
| a tool's `strict` that was not said | false: this API alone would take true for it |
| that a stop sequence was met; a pause | `completed`; `incomplete` |
| half of a usage | 0 |

What only it can say, and what becomes of it elsewhere:

| in Responses | meaning |
|---|---|
| several summaries of thoughts | paragraphs of one text |
| a function in a namespace | its name has both, and is told apart again when it is called |
| annotations, what upstream did by itself (a web search) | left out |
| stored state, files, tools that are no functions, logprobs | refused |
"""

from __future__ import annotations

from brokerd.core.dialects.responses.answering import read_answer, write_answer
from brokerd.core.dialects.responses.asking import read_asking, write_asking
from brokerd.core.dialects.responses.events_reading import EventReader
from brokerd.core.dialects.responses.events_writing import EventWriter


__all__ = [
    "EventReader",
    "EventWriter",
    "read_answer",
    "read_asking",
    "write_answer",
    "write_asking",
]
