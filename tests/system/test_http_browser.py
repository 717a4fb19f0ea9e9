"""A real browser of this very user on pages of somebody else's: nothing of the TCP door for them.

The pages hold a good key, and still: no word can be read, and no completion is made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from brokerd.core import audit
from system.github import EXCHANGE
from system.http_door import WAYS, address_of, ask, completions, free_port, new_key, with_tcp


if TYPE_CHECKING:
    from system.github import GitHub
    from system.session import Session


BROWSER = "chromium-headless-shell"
FLAGS = (
    "--no-sandbox",  # neither root nor a container has what its sandbox is made of; for tests only
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",  # it stays until it is told to go
)
PATIENCE = 3
"""Seconds for one attempt: what hangs longer brings nothing."""

WITHIN = 40
"""Seconds for one page."""

HARMLESS = re.compile(r"blocked: .*|opaque|nothing|sent|read 403: ")
"""What may become of an attempt: no word is read of an answer, and nothing of one but a 403."""

ATTEMPTS = 50
"""At least, of each page; against two or three names of the door."""

ORIGINS = 3
"""Pages: another port of the same address, another name, the door's own port by another name."""


@pytest.fixture
def browser() -> str:
    if not shutil.which(BROWSER):
        reason = f"needs a browser: apt-get install {BROWSER}, or run packaging/test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return BROWSER


def test_pages_of_other_origins_and_names_get_nothing(
    signed_in: Session, github: GitHub, browser: str
) -> None:
    session, port = signed_in, free_port()
    with_tcp(session, port)
    key = new_key(session, "stolen")
    good = ask(session, WAYS["chat"].asked(authorization=f"Bearer {key}"), address_of(port))
    assert good.status == 200, "with that key a program here would get it"
    github.world.requests.clear()
    here = Path(__file__).parent
    asked = {
        "html": (here / "hostile.html").read_text(),
        "door": port,
        "key": key,
        "patience": PATIENCE,
        "within": WITHIN,
    }
    script = (here / "hostile.py").read_text()
    run = ("/usr/bin/python3", "-c", script, browser, *FLAGS)
    told = json.loads(session.good(*run, stdin=json.dumps(asked), timeout=150))
    found = dict(told["found"])
    assert len(found) == len(told["found"]) == ORIGINS, told["said"]
    tried = 0
    for origin, results in found.items():
        for name, result in results.items():
            if name.startswith("control"):
                assert result.endswith("for all to read"), (origin, name, result)
            else:
                assert HARMLESS.fullmatch(result), (origin, name, result)
                tried += 1
    assert tried >= ORIGINS * ATTEMPTS
    assert completions(github) == []
    assert github.asked(EXCHANGE) == 0
    # They did come to the door, and that is who sent them away, each for what it showed.
    pid = session.main_pid()
    records = session.journal(f"MESSAGE_ID={audit.OPERATION_DENIED.message_id}", f"_PID={pid}")
    reasons = Counter(record["REASON"] for record in records)
    assert set(reasons) == {"http_host", "http_origin", "http_referer", "http_cross_site"}, reasons
    assert not [record for record in records if key in json.dumps(record)]
