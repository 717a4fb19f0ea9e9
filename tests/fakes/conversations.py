"""Random conversations: what the three dialects have to carry without loss.

`askings(can)`, `answers(can)` and `streams(can)` draw values of `brokerd.core.dialects.meaning`;
`Can` says what the dialect under test has words for. What they draw is sound: results answer the
calls of the turn before, ids are unique, a turn that calls a tool stops for it.

`normal` brings a value to the form in which equal meaning is equality; `cut_everywhere` cuts
bytes as a network may.
"""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, replace
from typing import Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from brokerd.core.dialects.meaning import (
    Answer,
    Asking,
    Begun,
    Broken,
    CallBegun,
    Format,
    Image,
    Message,
    Piece,
    Reasoning,
    Stopped,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)


__all__ = [
    "Can",
    "answers",
    "askings",
    "cut_everywhere",
    "law",
    "normal",
    "streams",
    "texts",
]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

NASTY = (
    "data: [DONE]\n\n",
    '\n\ndata: {"error": 1}\n\n',
    "event: message_stop\r\ndata: {}\r\n\r\n",
    'say "no"\\',
    "\\u0041\\n",
    "\x00\x1f\x7f\x85\u2028\u2029\ufeff",
    "\r",
    "\n",
    " ",
    "👩‍🚀🏳️‍🌈𝔘𐀀\U0010ffff",
    "عربى 漢字 ñ",
    "</think>",
)
"""What breaks readers and writers that are not careful."""


@dataclass(frozen=True)
class Can:
    """What a dialect has words for; all of it unless said otherwise."""

    mixed_turns: bool = True
    """Parts of an assistant's turn in any order; else thoughts, then words, then calls."""
    neighbouring_texts: bool = True
    """Two `Text` of one kind side by side, in an assistant's turn or an answer."""
    refusals: bool = True
    """In a turn of the assistant within an asking."""
    answer_refusals: bool = True
    thinking: Literal["none", "first", "many"] = "many"
    """`first`: one at most, before all else in its turn."""
    thoughts_without_proof: bool = True
    hidden_thoughts: bool = True
    """A proof without a text."""
    images: bool = True
    image_detail: bool = True
    result_images: bool = True
    result_texts: bool = True
    """Several texts in one result, or none; else exactly one."""
    result_errors: bool = True
    system: Literal["none", "first", "any"] = "any"
    systems_together: bool = True
    """Several system messages, or several texts in one, side by side."""
    system_before: Literal["any", "user"] = "any"
    """Which turn a system message in the middle may stand before."""
    efforts: tuple[str, ...] = EFFORTS
    budgets: bool = True
    """Efforts and budgets are never drawn together."""
    summaries: bool = True
    formats: bool = True
    any_json: bool = True
    """A format without a schema."""
    format_description: bool = True
    format_strict: bool = True
    tool_strict: bool = True
    empty_schema: bool = True
    odd_arguments: bool = False
    """Arguments that are not JSON, as a model may write them."""
    parallel: bool = True
    choice_without_tools: bool = True
    """A tool choice, or a word about parallel calls, where there are no tools."""
    stops: bool = True
    max_tokens: bool = True
    """Whether it may be left out."""
    sampling: bool = True
    user: bool = True
    usage_wish: bool = True
    """Whether a stream can be asked without usage."""
    answer_stops: tuple[str, ...] = ("end", "length", "tool", "sequence", "filter", "pause")
    stop_sequence: bool = True
    empty_answer: bool = True
    created: bool = True
    answer_id: bool = True
    cache_written: bool = True
    cached: bool = True
    reasoning_tokens: bool = True
    half_usage: bool = True
    """Prompt told without completion or the other way round."""
    no_usage: bool = True
    early_usage: bool = True
    """`Begun.usage`."""
    alternating: Literal["none", "calls", "all"] = "all"
    """Which parts of a stream may go on after another part has begun or gone on."""
    late_proof: bool = True
    """A proof may come after further parts have begun."""
    broken_code: bool = True
    broken_type: bool = True


def law(examples: int = 40) -> settings:
    """Settings for a law on conversations: a busy machine is no reason to fail."""
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def texts(max_size: int = 12, min_size: int = 1):
    """All of Unicode but surrogates, and what is known to break things."""
    some = st.text(min_size=min_size, max_size=max_size)
    nasty = st.sampled_from(NASTY)
    return some | nasty | st.builds(lambda a, b, c: a + b + c, some, nasty, some)


def _compact(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_WORD = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789_-", min_size=1, max_size=8)
NAMES = _WORD.map(lambda word: f"t{word}")
"""Of tools: what all dialects accept."""
MODELS = st.sampled_from(["gpt-4o", "claude-sonnet-4.5", "o3/mini: v2"])
BASE64 = st.binary(min_size=1, max_size=9).map(lambda raw: base64.b64encode(raw).decode())

_LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts(6, min_size=0)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts(4), inner, max_size=2),
    max_leaves=4,
)
_OBJECTS = st.dictionaries(texts(4), _JSON, max_size=3)
ARGUMENTS = _OBJECTS.map(_compact)
SCHEMAS = st.builds(
    lambda properties, **more: {"type": "object", "properties": properties, **more},
    st.dictionaries(
        NAMES,
        st.fixed_dictionaries(
            {"type": st.sampled_from(["string", "integer", "boolean"])},
            optional={"description": texts(6), "enum": st.lists(texts(3), max_size=2)},
        ),
        max_size=2,
    ),
    required=st.just([]),
    additionalProperties=st.booleans(),
)


def images(can: Can):
    detail = st.sampled_from(["", "low", "high", "auto"] if can.image_detail else [""])
    urls = st.builds(lambda word: f"https://example.test/{word}.png?a=1&b=ü", _WORD)
    kinds = st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/webp"])
    return st.builds(Image, url=urls, detail=detail) | st.builds(
        Image, data=BASE64, media_type=kinds, detail=detail
    )


def thoughts(can: Can):
    whole = st.builds(Thinking, texts(), texts().map(lambda text: "p" + text))
    if can.thoughts_without_proof:
        whole |= st.builds(Thinking, texts())
    if can.hidden_thoughts:
        whole |= st.builds(Thinking, st.just(""), BASE64)
    return whole


def _is_beside(one, other) -> bool:
    return isinstance(one, Text) and isinstance(other, Text) and one.is_refusal == other.is_refusal


@st.composite
def turns_of_assistant(draw, can: Can, ids: list[str], *, refusals: bool, empty: bool = False):
    """Draw the parts of one turn of the model; `ids` are those of calls that are taken."""
    words = st.builds(Text, texts())
    if refusals:
        words |= st.builds(Text, texts(), st.just(True))
    thinking = draw(st.lists(thoughts(can), max_size=2)) if can.thinking != "none" else []
    if can.thinking == "first":
        del thinking[1:]
    said = draw(st.lists(words, max_size=3))
    calls = []
    arguments = ARGUMENTS | texts() if can.odd_arguments else ARGUMENTS
    for _ in range(draw(st.integers(0, 3))):
        ids.append(f"call_{len(ids)}{draw(_WORD)}")
        calls.append(ToolCall(ids[-1], draw(NAMES), draw(arguments)))
    first = thinking if can.thinking == "first" or not can.mixed_turns else []
    rest = said + calls if first else [*thinking, *said, *calls]
    if can.mixed_turns:
        rest = list(draw(st.permutations(rest)))
    parts = [*first, *rest]
    if not can.neighbouring_texts:
        parts = [
            part
            for index, part in enumerate(parts)
            if index == 0 or not _is_beside(parts[index - 1], part)
        ]
    if not empty and not any(isinstance(part, Text | ToolCall) for part in parts):
        parts.append(Text(draw(texts())))
    return tuple(parts)


@st.composite
def results(draw, can: Can, call_id: str):
    text = st.builds(Text, texts())
    inside = text | images(can) if can.result_images and can.images else text
    if can.result_texts:
        content = draw(st.lists(inside, max_size=3))
    else:
        content = [draw(text)]
        if can.result_images and can.images:
            content += draw(st.lists(images(can), max_size=1))
    is_error = draw(st.booleans()) if can.result_errors else False
    return ToolResult(call_id, tuple(content), is_error)


@st.composite
def conversations(draw, can: Can):
    """Draw the messages of an asking: a user speaks first and last."""
    messages: list[Message] = []
    ids: list[str] = []
    system = st.lists(
        st.builds(Text, texts()), min_size=1, max_size=2 if can.systems_together else 1
    ).map(lambda parts: Message("system", tuple(parts)))
    if can.system != "none" and draw(st.booleans()):
        messages += draw(st.lists(system, min_size=1, max_size=2 if can.systems_together else 1))
    user = st.builds(Text, texts())
    user = user | images(can) if can.images else user
    open_calls: list[ToolCall] = []
    for number in range(draw(st.integers(1, 3))):
        answers_ = [draw(results(can, call.id)) for call in open_calls]
        said = draw(st.lists(user, min_size=0 if answers_ else 1, max_size=3))
        may_stand = can.system == "any" and not answers_ and number
        if may_stand and draw(st.booleans()):
            messages.append(draw(system))
        messages.append(Message("user", (*answers_, *said)))
        may_stand = can.system == "any" and can.system_before == "any"
        if may_stand and draw(st.integers(0, 3)) == 0:
            messages.append(draw(system))
        turn = draw(turns_of_assistant(can, ids, refusals=can.refusals))
        open_calls = [part for part in turn if isinstance(part, ToolCall)]
        messages.append(Message("assistant", turn))
    last = [draw(results(can, call.id)) for call in open_calls]
    messages.append(Message("user", (*last, *draw(st.lists(user, min_size=1, max_size=2)))))
    return tuple(messages)


@st.composite
def askings(draw, can: Can = Can()):
    """Draw an `Asking`."""
    maybe = st.booleans()
    schema = SCHEMAS | st.just({}) if can.empty_schema else SCHEMAS
    strict = st.none() | st.booleans()
    tools = draw(
        st.lists(
            st.builds(
                Tool,
                NAMES,
                texts(min_size=0),
                schema,
                strict if can.tool_strict else st.none(),
            ),
            max_size=2,
            unique_by=lambda tool: tool.name,
        )
    )
    choice = parallel = None
    if tools or can.choice_without_tools:
        kinds = ["auto", "none", "any"] + ["named"] * bool(tools)
        kind = draw(st.none() | st.sampled_from(kinds))
        if kind is not None:
            choice = ToolChoice(kind, draw(st.sampled_from(tools)).name if kind == "named" else "")
        parallel = draw(st.none() | st.booleans()) if can.parallel else None
    format_ = None
    if can.formats and draw(maybe):
        format_ = Format(
            draw(SCHEMAS),
            draw(NAMES),
            draw(strict) if can.format_strict else None,
            draw(texts(min_size=0)) if can.format_description else "",
        )
        if can.any_json and draw(maybe):
            format_ = Format()
    efforts = [Reasoning(effort=effort) for effort in can.efforts]
    budgets = [Reasoning(budget=1024), Reasoning(budget=31999)] if can.budgets else []
    reasoning = None
    if (efforts or budgets) and draw(maybe):
        reasoning = draw(st.sampled_from([*efforts, *budgets]))
        reasoning = replace(reasoning, wants_summary=can.summaries and draw(maybe))
    limits = st.integers(1, 100_000)
    stream = draw(maybe)
    sampling = st.none() | st.floats(0, 1) if can.sampling else st.none()
    return Asking(
        model=draw(MODELS),
        messages=draw(conversations(can)),
        tools=tuple(tools),
        tool_choice=choice,
        parallel_calls=parallel,
        max_tokens=draw(limits | st.none() if can.max_tokens else limits),
        temperature=draw(sampling),
        top_p=draw(sampling),
        stop=tuple(draw(st.lists(texts(), max_size=3))) if can.stops else (),
        stream=stream,
        wants_usage=draw(maybe) if can.usage_wish and stream else True,
        format=format_,
        reasoning=reasoning,
        user=draw(texts(min_size=0)) if can.user else "",
    )


@st.composite
def usages(draw, can: Can):
    count = st.integers(0, 50_000)
    if can.no_usage and draw(st.integers(0, 3)) == 0:
        return Usage()
    usage = Usage(draw(count), draw(count))
    if can.half_usage:
        which = draw(st.sampled_from(["both", "prompt", "completion"]))
        usage = Usage(
            None if which == "completion" else usage.prompt,
            None if which == "prompt" else usage.completion,
        )
    if usage.prompt is not None and can.cached and draw(st.booleans()):
        usage = replace(usage, cached=draw(st.integers(0, usage.prompt)))
        if can.cache_written and draw(st.booleans()):
            left = usage.prompt - (usage.cached or 0)
            usage = replace(usage, cache_written=draw(st.integers(0, left)))
    if usage.completion is not None and can.reasoning_tokens and draw(st.booleans()):
        usage = replace(usage, reasoning=draw(st.integers(0, usage.completion)))
    return usage


@st.composite
def endings(draw, can: Can, *, has_calls: bool):
    """Draw why it stopped, and at which sequence."""
    sound = {"tool", "length", "filter"} if has_calls else set(can.answer_stops) - {"tool"}
    stop = draw(st.sampled_from([stop for stop in can.answer_stops if stop in sound]))
    told = stop == "sequence" and can.stop_sequence
    return stop, draw(texts()) if told else ""


def _created(can: Can):
    return st.integers(1, 2**31) if can.created else st.just(0)


def _ids(can: Can):
    return _WORD.map(lambda word: f"a{word}") if can.answer_id else st.just("")


@st.composite
def answers(draw, can: Can = Can()):
    """Draw an `Answer`."""
    parts = draw(turns_of_assistant(can, [], refusals=can.answer_refusals, empty=can.empty_answer))
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    stop, sequence = draw(endings(can, has_calls=has_calls))
    return Answer(
        id=draw(_ids(can)),
        model=draw(MODELS),
        parts=parts,
        stop=stop,
        usage=draw(usages(can)),
        stop_sequence=sequence,
        created=draw(_created(can)),
    )


def _cut(draw, text: str) -> list[str]:
    """Cut a text into pieces, none of them empty."""
    cuts = sorted(set(draw(st.lists(st.integers(0, len(text)), max_size=2))) | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


@st.composite
def streams(draw, can: Can = Can()):
    """Draw the events of one streamed answer, as a tuple."""
    answer = draw(answers(can))
    runs = [_pieces_of(draw, can, number, part) for number, part in enumerate(answer.parts)]
    events = _together(draw, can, answer.parts, runs)
    usage = answer.usage
    early = Usage()
    if can.early_usage and draw(st.booleans()):
        early = Usage(prompt=usage.prompt, cached=usage.cached, cache_written=usage.cache_written)
    begun = Begun(answer.id, answer.model, answer.created, early)
    if draw(st.integers(0, 5)) == 0:
        kept = events[: draw(st.integers(0, len(events)))]
        code = draw(_WORD) if can.broken_code else ""
        kind = draw(_WORD) if can.broken_type else ""
        return (begun, *kept, Broken(draw(texts()), code, kind))
    return (begun, *events, Stopped(answer.stop, usage, answer.stop_sequence))


def _pieces_of(draw, can: Can, number: int, part) -> list:
    if isinstance(part, ToolCall):
        pieces = [Piece(number, "arguments", text) for text in _cut(draw, part.arguments)]
        return [CallBegun(number, part.id, part.name), *pieces]
    if isinstance(part, Thinking):
        pieces = [Piece(number, "thinking", text) for text in _cut(draw, part.text)]
        return pieces + [Piece(number, "proof", text) for text in _cut(draw, part.proof)]
    kind = "refusal" if part.is_refusal else "text"
    return [Piece(number, kind, text) for text in _cut(draw, part.text)]


def _together(draw, can: Can, parts, runs: list[list]) -> list:
    """Put the parts one after the other; some of what may come late does."""
    events: list = []
    late: list[list] = []
    for part, run in zip(parts, runs, strict=True):
        may_wait = can.alternating == "all" or (
            can.alternating == "calls" and isinstance(part, ToolCall)
        )
        is_proof_late = (
            not may_wait and can.late_proof and isinstance(part, Thinking) and part.text
        )
        keep = len(run)
        if may_wait and len(run) > 1 and draw(st.booleans()):
            keep = draw(st.integers(1, len(run)))
        elif is_proof_late and part.proof and draw(st.booleans()):
            keep = next(i for i, piece in enumerate(run) if piece.kind == "proof")
        if late and draw(st.booleans()):
            # What waits goes on before or after the beginning of this one
            events += late.pop(0)
        events += run[:keep]
        if run[keep:]:
            late.append(run[keep:])
    for rest in late:
        events += rest
    return events


def _tidy(arguments: str) -> str:
    try:
        return _compact(json.loads(arguments))
    except ValueError:
        return arguments


def normal(value):
    """Bring an asking, an answer or the events of a stream to the form that can be compared.

    An asking: neighbouring messages of one role are one. Arguments are compact JSON. Events:
    neighbouring pieces of the same part and kind are one, empty ones are none.
    """
    if isinstance(value, Asking):
        messages: list[Message] = []
        for message in value.messages:
            parts = tuple(map(_normal_part, message.parts))
            if messages and messages[-1].role == message.role:
                messages[-1] = Message(message.role, messages[-1].parts + parts)
            elif parts:
                messages.append(Message(message.role, parts))
        return replace(value, messages=tuple(messages))
    if isinstance(value, Answer):
        return replace(value, parts=tuple(map(_normal_part, value.parts)))
    events: list = []
    for event in value:
        last = events[-1] if events else None
        if not isinstance(event, Piece):
            events.append(event)
        elif isinstance(last, Piece) and (last.part, last.kind) == (event.part, event.kind):
            events[-1] = replace(last, text=last.text + event.text)
        elif event.text:
            events.append(event)
    return events


def _normal_part(part):
    return replace(part, arguments=_tidy(part.arguments)) if isinstance(part, ToolCall) else part


def cut_everywhere(raw: bytes):
    """Give lists of chunks of `raw`: whole, byte by byte, and cut once at every place."""
    yield [raw]
    yield [raw[i : i + 1] for i in range(len(raw))]
    for place in range(1, len(raw)):
        yield [raw[:place], raw[place:]]
