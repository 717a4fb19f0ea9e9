"""Asking a model once: what `complete` and `chat` have in common.

- `question`: the words of the command line, and what stdin holds
- `attachments`: files that go with it: pictures, and text
- `choosing`: which model, and on which endpoint it is asked
- `request`: the question in the dialect of that endpoint
- `answering`: the answer on stdout, as it comes
- `spent`: what it has cost, in one line
- `once`: all of it, one after the other
"""

from __future__ import annotations


__all__: list[str] = []
