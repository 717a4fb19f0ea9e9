"""Anthropic's Messages API (its API reference, "Messages" and "Streaming messages").

What it cannot say, and what comes of it:

- any JSON object without a schema, a temperature above 1, a stop sequence of blanks, a picture in
  another turn than the user's, a turn of the assistant's at the end: `UntranslatableError`
- system messages anywhere: they all go, in order, to the top-level `system` (Anthropic's newest
  models take role `system` among the messages; Copilot refuses it)
- a picture's `detail`, the name, description and strictness of a format, the time of an answer, a
  thought of an earlier turn without its proof, blank texts: left out
- a refusal apart from other words: it is text
- a budget for thinking, where the caller did not keep the thought before a call: left out
"""

from __future__ import annotations

from brokerd.core.dialects.messages.answering import read_answer, write_answer
from brokerd.core.dialects.messages.asking import read_asking
from brokerd.core.dialects.messages.events_reading import EventReader
from brokerd.core.dialects.messages.events_writing import EventWriter
from brokerd.core.dialects.messages.telling import write_asking


__all__ = [
    "EventReader",
    "EventWriter",
    "read_answer",
    "read_asking",
    "write_answer",
    "write_asking",
]
