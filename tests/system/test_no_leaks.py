"""Canaries: secrets whose values are known here must appear nowhere they do not belong.

What every test of this folder shows of its secrets is looked through at the end of the session
(`witness`, `conftest`). Here are answers that quote secrets back, what the commands print, and the
controls: whatever a witness has to see, in every spelling, it sees.
"""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from brokerd.simulator.world import Fault
from canary.spellings import Net
from system.github import EXCHANGE
from system.session import SERVICE


if TYPE_CHECKING:
    from system.github import GitHub
    from system.session import Session


def test_no_secret_in_what_is_said_and_done_when_answers_quote_it(
    signed_in: Session, github: GitHub
) -> None:
    session = signed_in
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

    net = Net()
    for secret in [planted, *tokens, *device_codes]:
        net.add(secret, "a secret")
    said = "".join(outputs)
    assert "canary" in said, "nothing was looked through"
    assert net.find(said) == net.shapes(said) == []
    session.witness.look()
    assert session.witness.leaks(net) == []


def spelled(secret: str) -> dict[str, list[str]]:
    """Return the control's own spellings, each with something around it."""
    raw = secret.encode()
    return {
        "plain": [f"token {secret}", quote(f"a=b&c={secret}", safe=""), repr(raw)],
        "hex": [raw.hex(), raw.hex().upper()],
        "base64": [
            each(b"x" * offset + raw + b"yz").decode()
            for offset in range(3)
            for each in (base64.b64encode, base64.urlsafe_b64encode)
        ],
        "percent": ["".join(f"%{byte:02X}" for byte in raw)],
        "numbers": [str(list(raw))],
    }


# Reads what to leak from its stdin: its own argv and environment are channels too.
LEAK = """
import json, os, subprocess, sys
asked = json.load(sys.stdin)
for text in asked["the journal"]:
    subprocess.run(["systemd-cat", "-t", "canary"], input=text.encode())
for text in asked["the session bus"]:
    subprocess.run(["busctl", "--user", "emit", "/canary", "org.canary", "Told", "s", text])
for number, text in enumerate(asked["files"]):
    os.makedirs(".cache", exist_ok=True)
    with open(f".cache/canary{number}", "w") as file:
        file.write(text)
for number, text in enumerate(asked["units"]):
    about = [f"--unit=canary{number}", f"--description={text}"]
    subprocess.run(["systemd-run", "--user", "--no-block", "-q", *about, "sleep", "20"])
running = [subprocess.Popen(["sh", "-c", "sleep 0.5; :", text]) for text in asked["argv"]]
for text in asked["environment"]:
    environment = {**os.environ, "CANARY": text}
    running.append(subprocess.Popen(["sh", "-c", "sleep 0.5; :"], env=environment))
for text in asked["another program"]:
    argv = ["sh", "-c", 'sleep 0.3; CANARY="$(cat)" exec sleep 0.5']
    running.append(subprocess.Popen(argv, stdin=subprocess.PIPE))
    running[-1].stdin.write(text.encode())
    running[-1].stdin.close()
for one in running:
    one.wait()
"""
SEEN_AS = {
    "the journal": "the journal",
    "the session bus": "the session bus",
    "files": "files, after '/home",
    "units": "units, after '",
    "argv": "argv or environment, after 'cmdline",
    "environment": "argv or environment, after 'environ",
    "another program": "argv or environment, after 'environ",
}
"""Channel of a leak → how the witness names the place."""


def test_the_witness_would_see_each_leak(session: Session) -> None:
    """The control of the look at the whole session: in every channel and spelling."""
    net, asked, planted = Net(), {}, []
    for channel in SEEN_AS:
        asked[channel] = []
        for name, variants in spelled("").items():
            for number in range(len(variants)):
                secret = f"gho_{secrets.token_hex(20)}"
                planted.append(f"{channel}: {name} {number}")
                net.add(secret, planted[-1])
                asked[channel].append(spelled(secret)[name][number])
    session.good("/usr/bin/python3", "-c", LEAK, stdin=json.dumps(asked), timeout=120)
    session.witness.look()
    found = session.witness.leaks(net)
    for channel, place in SEEN_AS.items():
        seen = {kind for kind, _, where in found if place in where.replace('"', "'")}
        unseen = [kind for kind in planted if kind.startswith(f"{channel}:") and kind not in seen]
        assert unseen == []
    session.good("sh", "-c", "rm .cache/canary*")
