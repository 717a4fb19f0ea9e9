"""docs/upstream.md: every request of ours is on it, it is what the code does now, and no secret."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from brokerd import ports
from brokerd.core.completions import ALLOWED_PATHS, UpstreamCall
from brokerd.core.tokens import Pat
from brokerd.simulator.faults import Fault
from fakes.simulated import simulated_by_name


ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "docs" / "record_upstream.py"
PAGE = ROOT / "docs" / "upstream.md"
COMMAND = "python docs/record_upstream.py"
HOST = "github.com"
APP = "Ov0000000000000000AB"
SECONDS = 60
NOW = 1767614400.0  # the page's own clock: the month is part of an address


def check(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, "--check", *arguments],
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_code_does_now():
    done = check()
    assert done.returncode == 0, f"run: {COMMAND}\n{done.stdout}\n{done.stderr}"


def test_a_page_that_is_not_is_told_with_the_difference(tmp_path, page):
    old = tmp_path / "old.md"
    old.write_text(page.replace("Copilot-Integration-Id: vscode-chat", "X-Old: 1"))
    done = check(old)
    assert done.returncode == 1
    assert "-X-Old: 1\n+Copilot-Integration-Id: vscode-chat\n" in done.stdout
    assert f"run: {COMMAND}" in done.stderr


class Driven:
    """Everything that the product can ask of upstream; `asked` are the ports' methods used."""

    def __init__(self, it):
        self.it = it
        self.world = it.simulator.world
        self.asked = set()

    async def _ask(self, name, port, *arguments):
        self.asked.add(name)
        return await getattr(port, name)(*arguments)

    async def github(self):
        github = self.it.github
        self.world.settings.github_token_expires_in = 28_800
        code = await self._ask("request_device_code", github, APP, "read:user")
        token = await self._ask("poll_device_grant", github, APP, code)
        token = await self._ask("renew", github, APP, token)
        await self._ask("identify", github, token)
        await self._ask("direct", github, token)
        self.world.queue_faults("/copilot_internal/user", [Fault(json_patch={"endpoints": None})])
        await self._ask("direct", github, token)
        minted = await self._ask("exchange", github, token)
        await self._ask("seat", github, token)
        pat = Pat(self.world.mint("github_pat_", host=HOST))
        await self._ask("billing", github, pat, "octocat", NOW)
        await self._ask("revoke", github, token)
        return minted

    async def copilot(self, minted):
        copilot, where = self.it.copilot, (HOST, minted.api_base, minted.value)
        await self._ask("models", copilot, *where)
        await self._ask("enable_model", copilot, *where, "sim-premium")
        for path in ALLOWED_PATHS:
            call = UpstreamCall(*where, path, b"{}", {})
            reply = await self._ask("open", copilot, call)
            await reply.read(1 << 20)
            reply.close()
            # The connection is at hand now.
            self.asked.add("begin")
            answered = asyncio.get_running_loop().create_future()
            assert copilot.begin(call, answered.set_result)
            (await asyncio.wait_for(answered, SECONDS)).close()

    def lines(self):
        return {
            f"{each.method} https://{each.headers['host']}{each.path} HTTP/1.1"
            for each in self.world.requests
        }


async def test_every_request_of_the_product_is_on_the_page(tmp_path, monkeypatch, page):
    for word in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(word, raising=False)
    async with simulated_by_name(tmp_path, auto_approve=True, device_interval=0) as (it, _):
        driven = Driven(it)
        await driven.copilot(await driven.github())
        methods = {
            name
            for port in (ports.GitHub, ports.CopilotApi)
            for name in vars(port)
            if not name.startswith("_")
        }
        assert driven.asked == methods, "ask it here too, and show it on the page"
        assert len(driven.lines()) == 9 + 2 + len(ALLOWED_PATHS)
        shown = {re.sub(r"\?\S+ ", " ", line) for line in page.splitlines()}
        assert driven.lines() - shown == set()


@pytest.mark.parametrize("status", [401, 402, 403, 421, 422, 429, 466])
def test_every_status_that_is_acted_on_is_on_the_page(page, status):
    assert re.search(rf"^HTTP/1\.1 {status}\b", page, re.MULTILINE)


@pytest.mark.parametrize(
    "secret",
    [
        r"\bgh[opsur]_\w", r"github_pat_\w", r"\btid=", r"\b[0-9a-f]{32,}\b", r"\b[0-9A-F]{32}\b",
        r"sim-session\.\w", r"[0-9a-f]{8}-[0-9a-f]{4}-", r"\b[A-Z0-9]{4}-[A-Z0-9]{4}\b",
        r"(?:Bearer|token) [^<\s`]{20}", r"127\.0\.0\.1|localhost", r"https?://[^/\s]+:\d",
        r"/(?:home|root|tmp|work|usr)/",
    ],
)  # fmt: skip
def test_nothing_secret_or_local_is_on_the_page(page, secret):
    assert not re.search(secret, page)


def test_the_page_is_for_people(page):
    lines = page.splitlines()
    assert len(lines) < 1100
    assert [line for line in lines if len(line) > 120] == []
    headings = [line.lstrip("# ") for line in lines if re.match(r"##+ ", line)]
    anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert set(re.findall(r"\(#([^)]+)\)", page)) <= anchors
    assert len(anchors) == len(headings)
