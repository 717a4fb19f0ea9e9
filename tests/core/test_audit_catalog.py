"""The journal's catalog explains every record of the audit log, and nothing else."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from brokerd.core.audit import BY_MESSAGE_ID, EVENTS, PEER_FIELDS
from copilot_broker.cli.parser import build


CATALOG = Path(__file__).parents[2] / "systemd" / "copilot-broker.catalog"
ENTRY = re.compile(
    r"^-- (?P<id>[0-9a-f]{32})\nSubject: (?P<subject>.+)\nDefined-By: copilot-broker\n\n"
    r"(?P<text>(?:(?!-- |#).*\n)+)",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def entries():
    return {found["id"]: found for found in ENTRY.finditer(CATALOG.read_text())}


def test_it_holds_each_event_once_and_no_other():
    ids = re.findall(r"^-- (.*)$", CATALOG.read_text(), re.MULTILINE)
    assert ids == [event.message_id for event in EVENTS]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_each_says_what_it_is_what_it_means_and_what_to_do(entries, event):
    entry = entries[event.message_id]
    assert len(entry["subject"]) <= 60
    assert not entry["subject"].endswith(".")
    *meaning, to_do = [part for part in entry["text"].strip().split("\n\n") if part]
    assert meaning
    assert re.search(r"copilot-cred \w+|Nothing needs to be done", " ".join(to_do.split()))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_each_names_only_fields_that_its_records_have(entries, event):
    entry = entries[event.message_id]
    named = set(re.findall(r"@([A-Z_]+)@", entry["subject"] + entry["text"]))
    known = {*event.fields, *(PEER_FIELDS if event.is_of_peer else ())}
    assert named <= known


def test_the_commands_it_names_exist():
    verbs = set(re.findall(r"copilot-cred\s+([a-z]+)", CATALOG.read_text()))
    lines = build().format_help().splitlines()
    known = {line.split()[0] for line in lines if re.match(r" {4}[a-z]", line)}
    assert verbs <= known


def test_lines_fit_a_terminal_with_the_names_put_in():
    for line in CATALOG.read_text().splitlines():
        assert len(line) <= 100


def test_journalctl_takes_it(tmp_path):
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        if os.environ.get("CI"):
            pytest.fail("needs journalctl: apt-get install systemd")
        pytest.skip("needs journalctl")
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    shutil.copy(CATALOG, place)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)

    def run(*arguments):
        argv = [journalctl, f"--root={tmp_path}", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        return done.stdout

    run("--update-catalog")
    listed = dict(line.split(" ", 1) for line in run("--list-catalog").splitlines())
    assert set(listed) == set(BY_MESSAGE_ID)
    assert all(line.startswith("copilot-broker: ") for line in listed.values())
    dumped = run("--dump-catalog")
    for entry in ENTRY.finditer(CATALOG.read_text()):
        assert entry["text"].strip() in dumped
