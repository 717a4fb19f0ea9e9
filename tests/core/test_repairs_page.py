"""docs/http.md lists the repairs that there are, as the code says they are."""

from __future__ import annotations

import re
from pathlib import Path

from brokerd.core.repairs import NAMES, REPAIRS


PAGE = Path(__file__).parents[2] / "docs" / "http.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| `(\w+) = false` \|$", re.MULTILINE)


def test_the_page_lists_exactly_the_repairs():
    chapter = PAGE.read_text(encoding="utf-8").partition("\n## Repairs\n")[2].split("\n## ")[0]
    rows = ROW.findall(chapter)
    assert [name for name, *_ in rows] == list(NAMES)
    for name, what, why, switch in rows:
        assert (what, why, switch) == (REPAIRS[name].what, REPAIRS[name].why, name)
