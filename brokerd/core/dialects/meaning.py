"""What a conversation with a model means, whatever API it is spoken through.

Three dialects say the same: Chat Completions and Responses (OpenAI), Messages (Anthropic). Each
reads its own JSON into these values and writes them as its own; so a translation is to read one
and to write the other, and what both can say comes out with the same meaning.

What only one dialect can say has no value here: its reader raises `UntranslatableError`, unless to
leave it out changes nothing for the person (ids, hints for caches, wishes of a client's own).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "Answer",
    "Asking",
    "Begun",
    "Broken",
    "CallBegun",
    "Event",
    "Format",
    "Image",
    "Message",
    "Part",
    "Piece",
    "Reasoning",
    "Role",
    "Stop",
    "Stopped",
    "Text",
    "Thinking",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "UntranslatableError",
    "Usage",
    "WhatKind",
]


class UntranslatableError(ValueError):
    """The other dialect has no words for this; the message names it, never a word of the person's.

    Also raised for what is not sound in its own dialect: nobody could say what it means.
    """


Role: TypeAlias = Literal["system", "user", "assistant"]
"""`developer` is `system`; a tool's result is a part of a `user` message."""


@dataclass(frozen=True)
class Text:
    """Words."""

    text: str = field(repr=False)
    is_refusal: bool = False
    """The model's own no, which two of the dialects keep apart from what it says."""


@dataclass(frozen=True)
class Image:
    """A picture: either its bytes or where it is."""

    url: str = field(default="", repr=False)
    """http(s); "" where `data` is."""
    data: str = field(default="", repr=False)
    """Base64 (RFC 4648 §4)."""
    media_type: str = ""
    """Of `data`: `image/png`…"""
    detail: str = ""
    """`low`, `high`, `auto`; "" where the dialect has no such word or it was not said."""


@dataclass(frozen=True)
class Thinking:
    """What the model thought aloud, and the proof by which it is taken back in a later turn."""

    text: str = field(repr=False)
    """"" where it is hidden."""
    proof: str = field(default="", repr=False)
    """Signature, encrypted content or opaque data, as upstream gave it; "" without one."""


@dataclass(frozen=True)
class ToolCall:
    """The model wants a tool used."""

    id: str
    name: str
    arguments: str = field(repr=False)
    """JSON text, as the model wrote it; "{}" for none."""


@dataclass(frozen=True)
class ToolResult:
    """What came of a tool call."""

    call_id: str
    content: tuple[Text | Image, ...] = field(repr=False)
    is_error: bool = False


Part: TypeAlias = Text | Image | Thinking | ToolCall | ToolResult


@dataclass(frozen=True)
class Message:
    """Somebody's turn; neighbours of the same role may be written as one."""

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Tool:
    """A function that the caller offers; hosted tools (a web search) have no value here."""

    name: str
    description: str = field(default="", repr=False)
    parameters: Mapping[str, object] = field(default_factory=dict, repr=False)
    """JSON Schema."""
    strict: bool | None = None


@dataclass(frozen=True)
class ToolChoice:
    """Which tool the model has to use."""

    kind: Literal["auto", "none", "any", "named"] = "auto"
    name: str = ""
    """Of the one, where `kind` is `named`."""


@dataclass(frozen=True)
class Format:
    """The answer has to be JSON."""

    schema: Mapping[str, object] | None = field(default=None, repr=False)
    """JSON Schema that it has to fit; None: any JSON object."""
    name: str = ""
    strict: bool | None = None
    description: str = field(default="", repr=False)


@dataclass(frozen=True)
class Reasoning:
    """How much the model may think before it speaks; each dialect says one of the two."""

    effort: str = ""
    """`none`, `minimal`, `low`, `medium`, `high`, `xhigh`…"""
    budget: int | None = None
    """Tokens."""
    wants_summary: bool = False
    """Whether the caller wants to read what was thought."""


@dataclass(frozen=True)
class Asking:
    """A request for one answer."""

    model: str
    messages: tuple[Message, ...]
    """In order; `system` ones may stand anywhere."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_calls: bool | None = None
    """Whether several tools may be called in one turn; None: not said."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    wants_usage: bool = True
    """Whether a stream has to tell its usage; only Chat Completions can ask not to."""
    format: Format | None = None
    reasoning: Reasoning | None = None
    user: str = field(default="", repr=False)
    """The caller's own name for the person; opaque."""


Stop: TypeAlias = Literal["end", "length", "tool", "sequence", "filter", "pause"]
"""Why the model ended: it was done, had no more tokens, wants a tool, met a stop sequence, was
stopped by a filter, or wants to be asked to go on (Anthropic's `pause_turn`)."""


@dataclass(frozen=True)
class Usage:
    """Tokens; None for a count that was not given."""

    prompt: int | None = None
    """All of the prompt, those from a cache included (Anthropic counts them apart)."""
    completion: int | None = None
    """All that was written, thoughts included."""
    cached: int | None = None
    """Of the prompt, read from a cache."""
    cache_written: int | None = None
    """Of the prompt, written to a cache; Anthropic only."""
    reasoning: int | None = None
    """Of the completion, thoughts."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    id: str
    model: str
    parts: tuple[Part, ...]
    """Text, Thinking and ToolCall, in order."""
    stop: Stop
    usage: Usage = Usage()
    stop_sequence: str = field(default="", repr=False)
    """The one that was met, where it is told."""
    created: int = 0
    """Unix seconds; 0: not told."""


# A streamed answer is Begun, then Pieces and CallBeguns, then Stopped; or Broken, at any time.

WhatKind: TypeAlias = Literal["text", "refusal", "thinking", "proof", "arguments"]


@dataclass(frozen=True)
class Begun:
    """The first event."""

    id: str
    model: str
    created: int = 0
    usage: Usage = Usage()
    """What is known of it already: Anthropic tells the prompt's tokens first."""


@dataclass(frozen=True)
class CallBegun:
    """The model begins to call a tool."""

    part: int
    """Number of the part of the answer, as in `Piece`."""
    id: str
    name: str


@dataclass(frozen=True)
class Piece:
    """More of one part of the answer. A part begins with its first piece (or `CallBegun`)."""

    part: int
    """Parts are numbered from 0 in the order in which they begin; a number never changes its
    kind, but for `thinking`, whose `proof` is of the same part. Parts may alternate."""
    kind: WhatKind
    text: str = field(repr=False)


@dataclass(frozen=True)
class Stopped:
    """The last event."""

    stop: Stop
    usage: Usage = Usage()
    stop_sequence: str = field(default="", repr=False)


@dataclass(frozen=True)
class Broken:
    """Upstream says in the middle that something is wrong; the last event then."""

    message: str
    code: str = ""
    type: str = ""


Event: TypeAlias = Begun | CallBegun | Piece | Stopped | Broken
