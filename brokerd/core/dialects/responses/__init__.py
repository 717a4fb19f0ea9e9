"""The Responses API (OpenAI's API reference, "Responses"): read and written.

What it cannot say: stop sequences (a request with some is refused), a tool result's `is_error`
(left out: a tool that fails says so in words), and that a stop sequence or a pause ended an answer
(it is `completed` then). Thoughts have one text: several summaries are read as paragraphs of it.
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
