"""Canaries: secrets whose values are known here must appear nowhere they do not belong."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from brokerd.simulator.world import Fault
from system.github import EXCHANGE
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from system.github import GitHub
    from system.session import Session


def spellings(secret: str) -> set[str]:
    """Return the forms in which a log could show it."""
    raw = secret.encode()
    return {secret, raw.hex(), base64.b64encode(raw).decode().rstrip("="), repr(list(raw))}


def world_readable_traces(session: Session) -> str:
    """Return argv and environment of every process, and the whole journal, as root sees them."""
    session.run("journalctl", "--sync", root=True)
    processes = session.good(
        "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true", root=True
    )
    journal = session.good("journalctl", "--output=export", "--all", "-q", root=True, timeout=120)
    properties = session.systemctl("show", SERVICE)
    return processes + journal + properties


def test_no_secret_in_journal_argv_environment_or_output(
    signed_in: Session, github: GitHub
) -> None:
    session = signed_in
    config = ".config/copilot-broker/config.toml"
    session.write(config, session.good("cat", config) + '[log]\nlevel = "debug"\n')
    session.systemctl("restart", SERVICE)
    planted = github.world.mint("gho_", "canary", "Iv1.canary")
    outputs = []

    def cred(*arguments: str, stdin: str = "") -> None:
        done = session.cred(*arguments, stdin=stdin)
        outputs.append(done.stdout + done.stderr)

    cred("login", "--account", "canary", "--with-token", stdin=planted + "\n")
    assert any(account["name"] == "canary" for account in session.status()["accounts"])
    # answers that quote the secret back, as error pages do
    quoting = [Fault(status=status, body=f"bad token {planted}") for status in (500, 403, 401)]
    for fault in quoting:
        github.world.queue_faults(EXCHANGE, [fault])
        cred("refresh", "--account", "canary")
    cred("login", "--account", "canary", "--with-token", stdin=planted + "x\n")
    cred("login", "--account", "third")
    cred("status")
    cred("status", "--json")
    cred("account", "list")
    cred("refresh")
    session.systemctl("restart", SERVICE)
    cred("status", "--json")

    tokens = [session.cred("get").stdout.strip()]
    tokens.append(json.loads(session.cred("get", "--format", "json").stdout)["token"])
    assert all(token.startswith("tid=") for token in tokens)
    device_codes = list(github.world.grants)
    assert len(device_codes) >= 2

    traces = world_readable_traces(session) + "".join(outputs)
    assert "token lent" in traces or "token granted" in traces, "nothing was looked through"
    for secret in [planted, *tokens, *device_codes]:
        for spelling in spellings(secret):
            assert spelling not in traces
    for pattern in ("gho_", "ghu_", "ghr_", "tid="):
        found = traces.find(pattern)
        assert found < 0, traces[max(0, found - 200) : found + 10]


def test_the_scan_would_find_a_leak(session: Session) -> None:
    """The control to the test above."""
    session.good("systemd-cat", "echo", "canary in the journal")  # its own argv is gone by then
    with session.spawn("env", "CANARY=in the environment", "sleep", "60") as sleeper:
        eventually(lambda: "CANARY=in the environment" in world_readable_traces(session))
        sleeper.terminate()
    assert "canary in the journal" in world_readable_traces(session)
