"""Ids for requests."""

from __future__ import annotations

import subprocess
import sys
from uuid import RFC_4122, UUID

from brokerd.core.request_id import new_request_id


def test_ids_are_uuids_and_all_different():
    ids = [new_request_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    for text in ids[:: len(ids) // 7]:
        assert (UUID(text).version, UUID(text).variant, str(UUID(text))) == (8, RFC_4122, text)


def test_another_process_gives_others():
    source = "from brokerd.core.request_id import new_request_id; print(new_request_id())"
    done = [
        subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert done[0].stdout[:18] != done[1].stdout[:18]
