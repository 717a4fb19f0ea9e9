"""What the broker says of its own HTTP door: where it is served, and why not, with the cure."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from brokerd.app.doctor import http_check, keys_check
from brokerd.core.checks import Verdict
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.simulator import Simulator
from client.whole_daemon import WholeDaemon
from copilot_broker import AsyncClient


TCP = "127.0.0.1:4141"
BUSY = Failure(ErrorClass.USAGE, "tcp_port_busy", "port 4141 is taken", "Look: ss -ltnp")
BROKEN = Failure(ErrorClass.STORE_UNAVAILABLE, "keys_broken", "not JSON", "Then: mv keys.json k")


@pytest.mark.parametrize(
    ("found", "verdict", "told", "mend"),
    [
        ((["http"], "", None), Verdict.OK, "served on http.sock, and not by TCP", ""),
        ((["http", "http-tcp"], TCP, None), Verdict.OK, f"served on http.sock and {TCP}", ""),
        ((["http"], TCP, BUSY), Verdict.ERROR, BUSY.message, BUSY.hint),
        (([], "", None), Verdict.WARNING, "http.sock is not served", "restart copilot-broker"),
    ],
    ids=["socket", "tcp", "a port that is taken", "no socket"],
)
def test_where_it_is_served(found, verdict, told, mend):
    check = http_check(*found)
    assert (check.name, check.verdict) == ("http", verdict)
    assert check.told.endswith(told)
    assert check.mend.endswith(mend)
    assert bool(check.mend) is not check.holds


@pytest.mark.parametrize(
    ("is_needed", "verdict"), [(True, Verdict.ERROR), (False, Verdict.WARNING)]
)
def test_keys_that_cannot_be_read_are_worse_where_nobody_is_served_without(is_needed, verdict):
    def broken():
        raise PermanentError(BROKEN)

    check = keys_check(broken, is_needed=is_needed)
    assert (check.name, check.verdict) == ("http-keys", verdict)
    assert (check.told, check.mend) == (BROKEN.message, BROKEN.hint)
    assert keys_check(lambda: None, is_needed=is_needed).holds


async def test_a_taken_port_and_a_broken_file_of_keys_are_told_and_the_rest_works():
    with (
        tempfile.TemporaryDirectory(prefix="cb-") as name,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        folder = Path(name)
        (folder / "run").mkdir(mode=0o700)
        state = folder / ".local/state/copilot-broker"
        state.mkdir(parents=True, mode=0o700)
        (state / "keys.json").write_text("not JSON")
        (state / "keys.json").chmod(0o600)
        address = "{}:{}".format(*taken.getsockname())
        async with Simulator(auto_approve=True, device_interval=0.1) as copilot:
            daemon = WholeDaemon(folder, copilot, f'[http]\ntcp = "{address}"\n')
            async with daemon.running(), AsyncClient(daemon.path) as client:
                checks = {each["name"]: each for each in (await client.doctor())["checks"]}
                assert checks["http"]["verdict"] == checks["http-keys"]["verdict"] == "error"
                assert "is taken by another program" in checks["http"]["told"]
                assert checks["http"]["mend"].endswith("systemctl --user restart copilot-broker")
                assert "it is not JSON" in checks["http-keys"]["told"]
                http = (await client.status())["http"]
                assert (http["socket"], http["tcp"]) == (True, address)
                assert http["error"]["code"] == "tcp_port_busy"

                (state / "keys.json").unlink()
                checks = {each["name"]: each for each in (await client.doctor())["checks"]}
                assert checks["http-keys"]["verdict"] == "ok"
