"""README.md names what there is: commands, files, folders, and the settings that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from brokerd.config import parse
from brokerd.gateway.routes import Endpoint, find
from copilot_broker.cli.parser import build


ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
MAP = PAGE.partition("```\nclient/copilot_broker/ ")[2].partition("```")[0]


def test_the_commands_it_names_exist():
    usage = build().format_help()
    verbs = set(re.findall(r"copilot-cred (\w[\w-]*)", PAGE))
    assert {"get", "login", "key", "doctor"} <= verbs
    for verb in verbs:
        assert re.search(rf"^    {verb}\b", usage, re.MULTILINE), verb


def test_links_lead_somewhere():
    for target in re.findall(r"\[[^]]+\]\(([^)#]+)\)", PAGE):
        assert "://" in target or (ROOT / target).exists(), target


def test_the_order_to_read_in_names_files():
    order = PAGE.partition("Read in this order:")[2].partition("There is no I/O")[0]
    files = re.findall(r"`([\w/.]+)`", order)
    assert len(files) > 10
    for name in files:
        places = (ROOT, ROOT / "brokerd", ROOT / "client/copilot_broker")
        assert any((place / name).is_file() for place in places), name


def test_the_map_has_every_part_of_the_daemon():
    daemon = MAP.partition("\nbrokerd/ ")[2].partition("\ndocs/")[0]
    heads = [line[:27] for line in daemon.splitlines() if line.startswith("  ")]
    told = set(re.findall(r"([a-z]+(?:\.py|/))", " ".join(heads)))
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "brokerd").iterdir()
        if not path.name.startswith("__")
    }
    assert there - told == set()
    assert {name for name in told - there if not (ROOT / "brokerd/core" / name).is_dir()} == set()


@pytest.mark.parametrize(
    ("start", "path"),
    [("<<'X'\n", "http.tcp"), ("no more\n", "grants")],
    ids=["tcp", "a grant"],
)
def test_the_configuration_that_it_shows_is_one(start, path):
    text = re.split(r"\n(?:X|\$ )", PAGE.partition(start)[2], maxsplit=1)[0]
    found = parse(text, Path())
    for name in path.split("."):
        found = getattr(found, name)
    assert found


def test_the_addresses_that_it_shows_are_served():
    paths = re.findall(r"http://localhost(/[\w/]+)", PAGE)
    found = [find(path) for path in paths]
    assert [route and route.endpoint for route in found] == [Endpoint.COMPLETION]
