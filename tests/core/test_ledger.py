"""The ledger's values: who a client is, what a day can hold, and records that survive anything."""

from __future__ import annotations

import random

import pytest

from brokerd.core.ledger.asked import Asked, day_text, row_map
from brokerd.core.ledger.counts import Counts, Totals
from brokerd.core.ledger.lines import CLIENTS_MAX, LINES_MAX, OTHERS, Line, Lines, line_of
from brokerd.core.ledger.record import heading_of, read, record_of
from brokerd.core.peer import Peer


def client(**known: str) -> tuple[str, str]:
    return line_of(Peer(pid=1, uid=1, gid=1, **known), "default", "m")[:2]


@pytest.mark.parametrize(
    ("known", "called"),
    [
        ({"key": "editor", "unit": "a.service", "comm": "vim"}, ("key", "editor")),
        ({"key": "run:aider:2"}, ("key", "run:aider")),
        ({"key": "get:claude"}, ("key", "get:claude")),
        ({"unit": "agent.service", "comm": "node"}, ("unit", "agent.service")),
        ({"unit": "app-gnome-code-4711.scope", "comm": "code"}, ("unit", "app-gnome-code.scope")),
        ({"unit": "app-code@ab12.service"}, ("unit", "app-code.service")),
        ({"unit": "mine@work.service"}, ("unit", "mine@work.service")),
        ({"unit": "session-2.scope", "comm": "aider"}, ("process", "aider")),
        ({"unit": "run-u12.service", "comm": "aider"}, ("process", "aider")),
        ({"unit": "vte-spawn-0b4a.scope", "comm": "llm"}, ("process", "llm")),
        ({"comm": "llm"}, ("process", "llm")),
        ({}, ("process", "unknown")),
    ],
)
def test_a_client_is_called_by_its_key_else_its_unit_else_its_program(known, called):
    assert client(**known) == called


def test_words_of_callers_are_short_and_harmless():
    line = line_of(Peer(pid=1, uid=1, gid=1, comm="a\x1b[2J\x1f"), "default", "m" * 500)
    assert line.client == "a?[2J?"
    assert len(line.model) == 128


def a_line(number: int, model: str = "m") -> Line:
    return Line("process", f"p{number}", "", "default", model)


def test_a_day_has_so_many_clients_and_the_rest_is_others():
    lines = Lines()
    for number in range(CLIENTS_MAX):
        assert lines.place(a_line(number)) == a_line(number)
    others = Line(OTHERS, OTHERS, "", "default", OTHERS)
    assert lines.place(a_line(CLIENTS_MAX)) == others
    assert lines.place(a_line(0, "another")) == a_line(0, "another"), "a client that is known"
    for number in range(LINES_MAX):
        lines.place(a_line(0, f"m{number}"))
    assert lines.place(a_line(1, "yet another")) == others
    assert lines.place(a_line(1)) == a_line(1)


def counted(number: int) -> Counts:
    return Counts._make((number + at) % 7 * 2**at for at in range(len(Counts._fields)))


def records(count: int) -> list[tuple[int, Line, Counts]]:
    return [(20_000 + n % 3, a_line(n % 5, f"ö-{n}"), counted(n)) for n in range(count)]


def written(told: list[tuple[int, Line, Counts]]) -> list[bytes]:
    return [record_of(day, heading_of(line), *counts) for day, line, counts in told]


def test_what_was_written_is_read():
    told = records(50)
    assert list(read(b"".join(written(told)))) == told


def test_what_is_broken_is_passed_over_and_nothing_else():
    dice = random.Random(7)
    told = records(30)
    for _ in range(300):
        pieces = written(told)
        at = dice.randrange(len(pieces))
        broken = bytearray(pieces[at])
        match dice.randrange(4):
            case 0:
                broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
            case 1:
                del broken[dice.randrange(len(broken)) :]
            case 2:
                broken[:] = bytes(len(broken))  # as a file system may leave it
            case _:
                broken[:] = dice.randbytes(dice.randrange(400))
        pieces[at] = bytes(broken)
        assert list(read(b"".join(pieces))) == [*told[:at], *told[at + 1 :]]


def test_a_record_that_is_not_whole_yet_is_none():
    (one,) = written(records(1))
    for end in range(len(one)):
        assert list(read(one[:end])) == []


def test_totals_are_sums_within_the_bounds_of_each_day():
    totals = Totals()
    for day in (1, 2):
        for number in range(CLIENTS_MAX + 10):
            totals.add(day, a_line(number), Counts(requests=1, prompt_tokens=number))
            totals.add(day, a_line(number), Counts(requests=1, premium=250))
    sums = list(totals)
    assert sum(counts.requests for _, _, counts in sums) == 4 * (CLIENTS_MAX + 10)
    (others,) = [counts for day, line, counts in sums if (day, line.kind) == (1, OTHERS)]
    assert others.requests == 20
    assert others.premium == 10 * 250
    assert len(totals) == 2 * (CLIENTS_MAX + 1)


def test_what_is_shown_says_what_is_estimated():
    shown = row_map(("day", "model"), (20_454, "m"), Counts(requests=2, premium=330, unpriced=1))
    assert shown["day"] == "2026-01-01"
    assert (shown["estimated_premium"], shown["unpriced_turns"]) == (0.33, 1)
    assert "premium" not in shown


@pytest.mark.parametrize(
    ("day", "text"), [(0, "1970-01-01"), (-5, "1970-01-01"), (10**9, "9999-12-31")]
)
def test_any_day_has_a_name(day, text):
    assert day_text(day) == text


def test_columns_stand_in_one_order():
    assert Asked(0, 1, ("model", "client")).columns == ("kind", "client", "label", "model")
