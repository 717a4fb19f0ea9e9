"""SECURITY.md says what is so: each promise once, with tests that exist or with what is missing."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from copilot_broker.cli.parser import build


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text()
NUMBERS = range(1, 59)
WIDTH = 140
"""Characters of a line of prose; a row of a table is one line, however long."""

PROMISE = re.compile(r"^- \*\*P(\d+)\*\* (.*(?:\n  .*)*)$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LACKING = re.compile(r"^(?:  )?(?:Open|In part): .{20,}", re.MULTILINE)
LINK = re.compile(r"\[[^]]+\]\(([^)]+)\)")
COMMAND = re.compile(r"`copilot-cred (\w+)")


def promises() -> dict[int, str]:
    return {int(number): text for number, text in PROMISE.findall(PAGE)}


@cache
def functions_of(path: str) -> frozenset[str]:
    """The tests of a file as pytest finds them, read without running it."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in tree.body if isinstance(node, functions)}
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_promise_stands_there_once():
    assert [int(number) for number, _ in PROMISE.findall(PAGE)] == list(NUMBERS)
    assert re.findall(r"\*\*P(\d+)\*\*", PAGE) == [str(number) for number in NUMBERS]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_promise_has_a_test_or_says_what_is_missing(number):
    sentence, *rest = promises()[number].split("\n")
    assert sentence[0].isupper() or sentence[0] == "`"
    assert sentence.endswith(".")
    assert "`tests/" not in sentence
    assert TEST.search("\n".join(rest)) or LACKING.match(sentence)
    for line in rest:
        assert TEST.fullmatch(line.strip()) or LACKING.match(line), line


@pytest.mark.parametrize(("path", "name"), sorted(set(TEST.findall(PAGE))))
def test_the_tests_it_names_exist(path, name):
    assert name in functions_of(path)


def test_no_test_is_named_in_another_way():
    """A name that the test above does not see would not be checked."""
    assert len(re.findall(r"tests/|::", PAGE)) == 2 * len(TEST.findall(PAGE))


def test_it_names_no_test_twice_for_one_promise():
    for number, text in promises().items():
        named = TEST.findall(text)
        assert len(named) == len(set(named)), number


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    for target in LINK.findall(PAGE):
        if target.startswith("#"):
            assert target[1:] in headings
        elif "://" not in target:
            assert (ROOT / target).exists()


def test_the_commands_it_names_exist():
    usage = build().format_help()
    commands = set(COMMAND.findall(PAGE))
    assert {"doctor", "grants", "lock"} <= commands
    for command in commands:
        assert re.search(rf"\b{command}\b", usage), command


def test_it_reads_well_as_text():
    for line in PAGE.splitlines():
        assert line == line.rstrip()
        assert line.startswith("|") or len(line) <= WIDTH, line


@pytest.mark.parametrize(
    "broken",
    [
        PAGE.replace("test_labels_never_raise", "test_labels_were_renamed"),
        PAGE.replace("tests/core/test_access.py", "tests/core/test_policy.py"),
        PAGE.replace("**P17**", "**P16**"),
        PAGE.replace("::test_labels_never_raise`", "::test_labels_never_raise"),
    ],
    ids=["another test", "another file", "another number", "no id"],
)
def test_a_page_that_is_wrong_is_found(monkeypatch, broken):
    assert broken != PAGE
    monkeypatch.setitem(globals(), "PAGE", broken)
    with pytest.raises((AssertionError, FileNotFoundError)):
        check_all()


def check_all() -> None:
    test_every_promise_stands_there_once()
    test_no_test_is_named_in_another_way()
    for path, name in TEST.findall(PAGE):
        test_the_tests_it_names_exist(path, name)
