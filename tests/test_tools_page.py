"""docs/tools.md says of each recipe what became of it, as the tests' data has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from copilot_broker.cli.recipes.tools import RECIPES
from copilot_broker.cli.recipes.variables import variables
from system.clients.install import pinned
from system.tools.registry import COMMAND, NOT_RUN, TOOLS


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tools.md").read_text(encoding="utf-8")
ROWS = {
    cells[1].strip("`"): cells
    for line in PAGE.splitlines()
    if len(cells := [each.strip() for each in line.strip("|").split("|")]) == 4
    if line.startswith("| ") and cells[1] != "`--for`"
}


def test_every_recipe_has_its_row_and_title():
    assert {name: cells[0] for name, cells in ROWS.items()} == {
        each.name: each.title for each in RECIPES
    }


@pytest.mark.parametrize("name", TOOLS)
def test_it_names_the_version_and_who_else_is_asked(name):
    tool, (_, _, version, others) = TOOLS[name], ROWS[name]
    assert version.split(" ")[0] == pinned(tool.environment, tool.package)
    told = re.sub(r"\W", "", others.replace("npm's registry", "npmjs"))
    assert bool(told) == bool(tool.domains)
    assert all(domain in told for domain in tool.domains)


def test_it_says_why_the_others_were_not_run():
    assert {name: cells[2] for name, cells in ROWS.items() if name in NOT_RUN} == NOT_RUN


def test_it_names_the_command_that_runs_all_and_those_that_only_it_runs():
    assert f"`{COMMAND}`" in PAGE
    large = [name for name, tool in TOOLS.items() if not tool.in_every_run]
    assert f"{' and '.join(large)} are large" in PAGE


def test_it_names_all_that_exec_sets():
    told = PAGE.partition("`exec` sets ")[2].partition(". ")[0]
    assert set(re.findall(r"`(\w+)`", told)) >= set(variables("http://127.0.0.1:1", "key"))
