"""What a model is told of how much to think and write: what its entry says that it takes."""

from dataclasses import replace

import pytest

from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.fitting import Abilities, abilities_of, fitted
from brokerd.core.dialects.meaning import Asking, Format, Message, Reasoning, Text, Tool


CHAT, RESPONSES, MESSAGES = Dialect.CHAT, Dialect.RESPONSES, Dialect.MESSAGES
ASKING = Asking("m", (Message("user", (Text("x"),)),))

NOTHING = Abilities()
EFFORTS = Abilities(efforts=("low", "medium", "high"), adaptive=False)
BUDGET = Abilities(adaptive=False, takes_budget=True, most=32_000)
ADAPTIVE = Abilities(adaptive=True, takes_budget=True, most=32_000)
BOTH = Abilities(efforts=("low", "high"), adaptive=False, takes_budget=True, most=8000, least=2048)


def reasoning(wanted, able, spoken, max_tokens=None):
    return fitted(replace(ASKING, reasoning=wanted, max_tokens=max_tokens), able, spoken).reasoning


@pytest.mark.parametrize("spoken", Dialect)
@pytest.mark.parametrize(
    "wanted",
    [None, Reasoning(), Reasoning("high"), Reasoning(budget=9000), Reasoning("none"),
     Reasoning(wants_summary=True)],
    ids=str,
)  # fmt: skip
def test_a_model_that_does_not_think_is_not_told_to(spoken, wanted):
    assert reasoning(wanted, NOTHING, spoken) is None
    assert reasoning(wanted, replace(NOTHING, adaptive=False), spoken) is None


@pytest.mark.parametrize(
    ("wanted", "able", "spoken", "expected"),
    [
        # An effort: the nearest, the lesser of two
        (Reasoning("high"), EFFORTS, CHAT, Reasoning("high")),
        (Reasoning("xhigh"), EFFORTS, CHAT, Reasoning("high")),
        (Reasoning("max"), EFFORTS, RESPONSES, Reasoning("high")),
        (Reasoning("minimal"), EFFORTS, RESPONSES, Reasoning("low")),
        (Reasoning("medium"), BOTH, CHAT, Reasoning("low")),
        (Reasoning("brandnew"), EFFORTS, CHAT, Reasoning("medium")),
        (Reasoning("brandnew"), Abilities(efforts=("brandnew",)), CHAT, Reasoning("brandnew")),
        (Reasoning("low"), Abilities(efforts=("newer",)), CHAT, Reasoning()),
        (Reasoning("max"), Abilities(efforts=("xhigh", "max")), RESPONSES, Reasoning("max")),
        # No thoughts: as few as there are; some: never none
        (Reasoning("none"), EFFORTS, CHAT, Reasoning("low")),
        (Reasoning("none"), Abilities(efforts=("none", "low")), CHAT, Reasoning("none")),
        (Reasoning("minimal"), Abilities(efforts=("none", "high")), CHAT, Reasoning("high")),
        (Reasoning(budget=0), EFFORTS, RESPONSES, Reasoning("low")),
        (Reasoning("none"), BUDGET, CHAT, None),
        (Reasoning("none"), BUDGET, MESSAGES, Reasoning("none")),
        (Reasoning(budget=0), ADAPTIVE, MESSAGES, Reasoning("none")),
        # Tokens as an effort, where it takes no tokens
        (Reasoning(budget=1024), EFFORTS, CHAT, Reasoning("low")),
        (Reasoning(budget=31_999, wants_summary=True), EFFORTS, RESPONSES,
         Reasoning("high", wants_summary=True)),
        (Reasoning(budget=31_999), ADAPTIVE, MESSAGES, Reasoning("high")),
        # Nothing said of how much
        (Reasoning(wants_summary=True), EFFORTS, RESPONSES, Reasoning(wants_summary=True)),
        (Reasoning(wants_summary=True), ADAPTIVE, MESSAGES, Reasoning(wants_summary=True)),
        (Reasoning(wants_summary=True), BUDGET, CHAT, Reasoning("", 12_288, True)),
        # A budget within its bounds
        (Reasoning(budget=5000), BUDGET, CHAT, Reasoning(budget=5000)),
        (Reasoning(budget=5000), BUDGET, MESSAGES, Reasoning(budget=5000)),
        (Reasoning("high"), BUDGET, CHAT, Reasoning(budget=24_576)),
        (Reasoning("max"), BUDGET, MESSAGES, Reasoning(budget=32_000)),
        (Reasoning(budget=90_000), BUDGET, CHAT, Reasoning(budget=32_000)),
        (Reasoning(budget=5), BUDGET, CHAT, Reasoning(budget=1024)),
        (Reasoning(budget=1024), BOTH, MESSAGES, Reasoning(budget=2048)),
        (Reasoning(budget=9000), BOTH, CHAT, Reasoning(budget=8000)),
        # Responses know no budgets
        (Reasoning("high"), BUDGET, RESPONSES, None),
        (Reasoning(budget=9000), BOTH, RESPONSES, Reasoning("low")),
        # Messages know efforts of adaptive models alone
        (Reasoning("minimal"), ADAPTIVE, MESSAGES, Reasoning("low")),
        (Reasoning("xhigh"), ADAPTIVE, MESSAGES, Reasoning("high")),
        (Reasoning("max"), replace(ADAPTIVE, efforts=("high", "max")), MESSAGES, Reasoning("max")),
        (Reasoning("high"), EFFORTS, MESSAGES, None),
    ],
    ids=str,
)  # fmt: skip
def test_how_much_to_think_is_the_nearest_that_it_takes(wanted, able, spoken, expected):
    assert reasoning(wanted, able, spoken) == expected


@pytest.mark.parametrize(
    ("max_tokens", "longest", "budget"),
    [(4000, None, 2000), (None, 4000, 2000), (9001, 4000, 2000), (9001, None, 9000), (1025, None, 1024),
     (1024, None, None), (None, None, 9000)],
)  # fmt: skip
def test_thoughts_leave_room_for_an_answer(max_tokens, longest, budget):
    able = replace(BUDGET, longest=longest)
    expected = None if budget is None else Reasoning(budget=budget)
    for spoken in (CHAT, MESSAGES):
        assert reasoning(Reasoning(budget=9000), able, spoken, max_tokens) == expected


@pytest.mark.parametrize(
    ("max_tokens", "longest", "expected"),
    [(32_000, 16_384, 16_384), (100, 16_384, 100), (None, 16_384, None), (32_000, None, 32_000)],
)
def test_an_answer_is_not_longer_than_the_model_writes(max_tokens, longest, expected):
    told = fitted(replace(ASKING, max_tokens=max_tokens), Abilities(longest=longest), CHAT)
    assert told.max_tokens == expected


@pytest.mark.parametrize("wish", [None, True, False])
def test_who_calls_one_tool_at_a_time_is_not_told_so(wish):
    asking = replace(ASKING, tools=(Tool("t"),), parallel_calls=wish, format=Format({}))
    assert fitted(asking, Abilities(parallel_calls=False), CHAT) == replace(
        asking, parallel_calls=None
    )
    assert fitted(asking, Abilities(), CHAT) == asking


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (None, Abilities()),
        ([], Abilities()),
        ({"supports": None, "limits": []}, Abilities()),
        ({"supports": {"tool_calls": True}}, Abilities(adaptive=False)),
        ({"limits": {"max_output_tokens": 16_384}}, Abilities(longest=16_384)),
        ({"limits": {"max_output_tokens": True}}, Abilities()),
        ({"limits": {"max_output_tokens": 0}}, Abilities()),
        ({"supports": {"reasoning_effort": ["low", 7, "high"]}},
         Abilities(efforts=("low", "high"), adaptive=False)),
        ({"supports": {"reasoning_effort": "low"}}, Abilities(adaptive=False)),
        ({"supports": {"thinking": True}}, Abilities(adaptive=False, takes_budget=True)),
        ({"supports": {"max_thinking_budget": 32_000, "min_thinking_budget": 2048}},
         Abilities(adaptive=False, takes_budget=True, most=32_000, least=2048)),
        ({"supports": {"max_thinking_budget": 32_000, "thinking": False}},
         Abilities(adaptive=False, most=32_000)),
        ({"supports": {"adaptive_thinking": True, "min_thinking_budget": 1}},
         Abilities(adaptive=True)),
        ({"supports": {"parallel_tool_calls": False}},
         Abilities(adaptive=False, parallel_calls=False)),
    ],
    ids=str,
)  # fmt: skip
def test_what_an_entry_says(capabilities, expected):
    assert abilities_of({"capabilities": capabilities}) == expected
    assert abilities_of({}) == Abilities()
