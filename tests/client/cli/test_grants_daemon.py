"""Grants, doctor and quota through the whole daemon: what is told is what holds."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from client.cli.running import COMMAND
from client.whole_daemon import PATIENCE, whole_daemon


PAT = "github_pat_11CANARY" + "a" * 60
RULE = """
[[grant]]
listener = "http"
models = ["sim-*", "gpt-4.1"]
requests_per_minute = 60
"""


@pytest.fixture
async def daemon():
    async with whole_daemon() as daemon:
        yield daemon


async def run(daemon, *args, stdin=""):
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *args,
        env=daemon.env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE)
    return process.returncode, out.decode(), err.decode()


async def test_this_program_and_others_are_explained(daemon):
    code, out, err = await run(daemon, "grants")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert words.startswith("This program (")
    assert "the listener rpc may do everything, sign in and out included (admin)." in words
    assert "listener rpc gives admin" in words
    _, out, _ = await run(daemon, "grants", "--pid", str(os.getpid()), "--listener", "http")
    assert f"pid {os.getpid()}" in out
    assert "(complete)" in out
    code, out, _ = await run(daemon, "grants", "--uid", str(os.getuid() + 1))
    assert (code, "is not admitted: " in " ".join(out.split())) == (0, True)
    code, out, err = await run(daemon, "grants", "--pid", str(2**22 + 1))
    assert (code, out) == (2, ""), err


async def test_the_rules_in_force_are_listed(daemon):
    code, out, err = await run(daemon, "grants", "--list")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "listeners: http, rpc; connections: 1",
        "no rules: rpc gives admin, http and http-tcp complete, any further listener status",
    ]


async def test_a_rule_is_named_where_it_takes_something_away():
    async with whole_daemon(RULE) as daemon:
        _, out, err = await run(daemon, "grants", "--list")
        assert err == ""
        listed = out.splitlines()[-1]
        place = listed.split()[0]
        assert place.startswith("config.toml:")
        assert " listener http  " in listed
        _, out, _ = await run(daemon, "grants", "--listener", "http", "--uid", str(os.getuid()))
        words = " ".join(out.split())
        assert "(complete), of the models sim-* or gpt-4.1, 60 requests a minute." in words
        assert f"{place} leaves" in words
        _, out, _ = await run(daemon, "grants")
        assert place not in out


async def test_doctor_has_the_daemons_own_word(daemon):
    await daemon.sign_in()
    _, out, err = await run(daemon, "doctor", "--json")
    assert err == ""
    found = {check["name"]: check["verdict"] for check in json.loads(out)["checks"]}
    assert found["broker"] == found["version"] == found["sockets"] == "ok"
    assert found["configuration"] == found["account-default"] == "ok"
    assert found["memory"] == ("warning" if os.getuid() == 0 else "ok")
    assert "self-examination" not in found
    assert {"umask", "not-dumpable", "landlock"} <= set(found)


async def test_quota_names_who_told_it(daemon):
    await daemon.sign_in()
    code, out, err = await run(daemon, "quota", "-v")
    assert code == 0, err
    assert "  premium_interactions  [" in out
    assert "told by the account's Copilot seat just now" in out
    assert "billing: no personal access token is kept" in err


async def test_without_a_login_the_class_of_the_error_is_the_exit_code(daemon):
    code, out, err = await run(daemon, "quota")
    assert (code, out) == (4, "")
    assert "copilot-cred login" in err


async def test_a_token_for_the_plan_is_tried_kept_and_forgotten(daemon):
    await daemon.sign_in()
    code, _, err = await run(daemon, "quota", "set-pat", stdin=PAT)  # nobody's
    assert (code, "CANARY" in err) == (5, False), err
    pat = daemon.copilot.world.mint("github_pat_")
    code, out, err = await run(daemon, "quota", "set-pat", stdin=pat)
    assert (code, out) == (0, ""), err
    _, out, _ = await run(daemon, "quota")
    assert "told by GitHub's billing pages" in out
    code, _, err = await run(daemon, "quota", "forget-pat")
    assert (code, err.startswith("Forgotten here")) == (0, True)
    assert (await run(daemon, "quota", "forget-pat"))[2] == "None was kept.\n"
