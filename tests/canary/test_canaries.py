"""The controls of the scan: a planted leak in each channel and spelling fails its test."""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from canary.spellings import Net


TESTS = Path(__file__).resolve().parents[1]

CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from canary.plugin import Canaries

def pytest_configure(config):
    config.pluginmanager.register(Canaries(config), "canaries")
"""

INNER = """
import asyncio, base64, logging, os, subprocess, sys, warnings
from urllib.parse import quote
import pytest
from brokerd.host.logs import journal
from brokerd.simulator.world import World
from brokerd.simulator.settings import Settings

WORLD = World(Settings())
MADE = {
    "GitHub token": lambda: WORLD.mint("gho_"),
    "personal access token": lambda: WORLD.mint("github_pat_"),
    "refresh token": lambda: WORLD.issue_github_token(WORLD.person(), "Iv1.x")[1],
    "Copilot token": lambda: WORLD.issue_copilot_token()[0],
    "device code": lambda: WORLD.start_grant("Iv1.x", "").device_code,
}
SPELLED = {
    "plain": lambda s: f"token {s}.",
    "the first half": lambda s: s[: len(s) // 2],
    "the last half": lambda s: s[len(s) // 2 :],
    "repr": lambda s: repr(s.encode()),
    "URL": lambda s: quote(f"?a={s}", safe=""),
    "percent": lambda s: "".join(f"%{b:02X}" for b in s.encode()),
    "percent twice": lambda s: quote("".join(f"%{b:02x}" for b in s.encode())),
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 at 1": lambda s: base64.b64encode(b"{" + s.encode() + b"}").decode(),
    "base64 at 2": lambda s: base64.urlsafe_b64encode(b"x:" + s.encode()).decode(),
    "numbers": lambda s: str(list(s.encode())),
}

async def asynchronous(text):
    child = "import sys; sys.stderr.write(sys.stdin.read())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", child, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    await process.communicate(text.encode())

def raised(text):
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("asyncio").exception("defect")

CHILD = [sys.executable, "-c", "import sys; sys.stderr.write(sys.stdin.read())"]
TOLD = {
    "stdout": print,
    "stderr": lambda text: os.write(2, text.encode()),
    "our record": lambda text: logging.getLogger("brokerd.x").debug("said %s", text),
    "our field": lambda text: logging.getLogger("brokerd.x").info("said", extra={"WHAT": text}),
    "argv": lambda text: subprocess.run(["true", text]),
    "environment": lambda text: subprocess.run(["true"], env={"CANARY": text}),
    "child": lambda text: subprocess.run(CHILD, input=text.encode(), capture_output=True),
    "asynchronous child": lambda text: asyncio.run(asynchronous(text)),
}
TO_THE_SINK = {
    "library": lambda text: logging.getLogger("httpcore.http11").debug("sent %r", text),
    "traceback": raised,
}

@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("spelled", SPELLED)
def test_every_spelling_leaks(made, spelled):
    print(SPELLED[spelled](MADE[made]()))

@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("spelled", ["plain", "base64 at 1"])
def test_every_channel_leaks(told, spelled):
    TOLD[told](SPELLED[spelled](MADE["device code"]()))

@pytest.mark.filterwarnings("default")
def test_warnings_are_looked_at_later():
    warnings.warn(MADE["device code"]())

@pytest.mark.parametrize("told", TO_THE_SINK)
@pytest.mark.parametrize("made", MADE)
def test_without_redaction_it_leaks(made, told, monkeypatch):
    monkeypatch.setattr(journal, "redact", str)
    TO_THE_SINK[told](MADE[made]())

@pytest.mark.parametrize("told", TO_THE_SINK)
@pytest.mark.parametrize("made", MADE)
def test_the_sink_is_clean(made, told):
    TO_THE_SINK[told](MADE[made]())

def test_what_no_simulator_made_leaks():
    print("gho_0123456789")

@pytest.fixture(scope="module")
def of_the_module():
    return MADE["device code"]()

def test_first_is_clean(of_the_module):
    pass

def test_what_the_module_shares_leaks(of_the_module):
    print(of_the_module[-20:])

@pytest.mark.shows_secrets("it is its purpose")
def test_exempt_is_clean():
    print(MADE["device code"]())

@pytest.mark.shows_secrets("it was once")
def test_exempt_for_nothing_leaks():
    print("harmless")

def test_harmless_is_clean():
    logging.getLogger("brokerd.x").debug("served /some/rather/long/path/of/a/test %s", "a" * 99)
"""


def run_inner(folder, *options):
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_inner.py").write_text(INNER)
    argv = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "test_inner.py"]
    return subprocess.run(
        [*argv, *options], cwd=folder, env=os.environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("processes", [0, 2])
def test_each_planted_leak_fails_its_test(tmp_path, processes):
    done = run_inner(tmp_path, f"-n{processes}", "--dist=load")
    lines = re.finditer(r"(?m)^(PASSED|ERROR) test_inner.py::(.*?\]?)(?: - .*)?$", done.stdout)
    told = {match[2]: match[1] for match in lines}  # an error of the end comes after the pass
    assert len(told) > 100, done.stdout
    wrong = [
        name
        for name, outcome in told.items()
        if (outcome == "ERROR") is not bool(re.match(r"test_\w+_leaks?\b", name))
    ]
    assert wrong == []
    late = "device code as plain in a warning, after: '' of test_inner.py::test_warnings_are"
    assert late in done.stdout
    assert "1, as it is its purpose: test_inner.py::test_exempt_is_clean" in done.stdout
    secrets_made = int(re.search(r"(?m)^canaries: (\d+) secrets of (\d+) tests", done.stdout)[1])
    assert secrets_made >= len(told) - 6  # most make one


@pytest.mark.parametrize("processes", [0, 2])
def test_what_is_found_late_fails_the_run(tmp_path, processes):
    chosen = "test_warnings_are or test_harmless"
    done = run_inner(tmp_path, f"-n{processes}", "-k", chosen)
    assert "2 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED


def test_a_net_finds_one_of_many():
    net = Net()
    many = [f"gho_{secrets.token_hex(18)}" for _ in range(500)]
    for each in many:
        net.add(each, each[-4:])
    for each in many[::50]:
        raw = each.encode()
        for text in (each, raw.hex(), quote(each), base64.b64encode(b"ab" + raw).decode()):
            assert [hit.kind for hit in net.find(f"said: {text}!")] == [each[-4:]]
    assert net.find("gho_" + secrets.token_hex(18)) == []
