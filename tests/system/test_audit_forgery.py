"""Anybody can write to the journal. What is not the broker's own is shown as what it is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from brokerd.core.audit import TOKEN_GRANTED
from system.scripted import good
from system.session import SERVICE, eventually
from system.test_audit import Audit


if TYPE_CHECKING:
    from system.session import Session


FORGE = f"""
import sys
from systemd import journal
mark = sys.argv[1]
journal.send(
    "{TOKEN_GRANTED.message}", MESSAGE_ID="{TOKEN_GRANTED.message_id}",
    SYSLOG_IDENTIFIER="copilot-brokerd", ACCOUNT=mark, OPERATION="token.get", TOKEN_FP="1f46af82",
    PEER_PID="1", PEER_COMM="\\x1b]0;x\\x07\\nok", UNIT="{SERVICE}", SYSTEMD_USER_UNIT="{SERVICE}",
)
with journal.Reader() as reader:
    reader.add_match(ACCOUNT=mark)
    while not list(reader):  # journald looks at who has written: do not be gone by then
        reader.wait(1)
"""

IN_A_UNIT = ("systemd-run", "--user", "--wait", "--collect", "--quiet", "--unit=stranger")


def test_a_forged_record_is_told_from_the_brokers_own(signed_in: Session) -> None:
    audit = Audit(signed_in)
    good(signed_in, "get")
    signed_in.script(FORGE, "beside")
    signed_in.good(*IN_A_UNIT, "/usr/bin/python3", "-c", FORGE, "stranger")

    def all_of_them() -> dict[str, dict[str, object]] | None:
        found = {record["account"]: record for record in audit("--event", "token-granted")}
        return found if len(found) == 3 else None

    found = eventually(all_of_them)
    own, stranger, beside = (found[name] for name in ("default", "stranger", "beside"))
    assert (own["vouched"], own["recorded_by"]) == (True, SERVICE)
    assert (stranger["vouched"], stranger["recorded_by"]) == (False, "stranger.service")
    assert (beside["vouched"], beside["recorded_by"] != SERVICE) == (False, True)

    table = good(signed_in, "audit", audit.since, "--event", "token-granted")
    assert "\x1b" not in table
    assert len(table.splitlines()) == 4
    [own_row] = [row for row in table.splitlines() if " default " in row]
    [forged_row] = [row for row in table.splitlines() if " stranger " in row]
    assert "!" not in own_row
    assert re.search(
        r"!token granted .* written by stranger.service, not by the broker$", forged_row
    )


def test_a_simulated_broker_keeps_its_own_name(signed_in: Session) -> None:
    """A drop-in changes what the unit runs, not what it is called."""
    drop_in = f".config/systemd/user/{SERVICE}.d/simulate.conf"
    command = f"{signed_in.home}/.local/bin/copilot-brokerd --simulate"
    signed_in.write(drop_in, f"[Service]\nExecStart=\nExecStart={command}\n")
    audit = Audit(signed_in)
    try:
        signed_in.systemctl("daemon-reload")
        signed_in.systemctl("restart", SERVICE)
        assert signed_in.status()["simulated"]
        records = [json.dumps(record) for record in audit.until("confined")]
        assert all('"vouched": true' in record for record in records), records
    finally:
        signed_in.good("rm", drop_in)
        signed_in.systemctl("daemon-reload")
        signed_in.systemctl("restart", SERVICE)
