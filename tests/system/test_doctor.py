"""`copilot-cred doctor` on a real machine: all is well, and each thing that is not, with its cure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from system.effective import machine_of, start_inside
from system.scripted import CONFIG, good, refused, reloaded
from system.session import SERVICE, SOCKETS


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session


OK, WARNING, ERROR = "ok", "warning", "error"
RESTART = "systemctl --user restart copilot-broker"

OF_THE_PROCESS = {
    "umask", "not-dumpable", "no-core", "no-user-namespace", "no-new-privileges", "landlock",
    "landlock-ports", "landlock-scope", "seccomp", "no-capabilities", "no-swap", "file-limit",
}  # fmt: skip
ALL = OF_THE_PROCESS | {
    "broker", "version", "memory", "configuration", "login-store", "account-default", "lock",
    "grants", "audit", "http", "usage", "http-keys", "sockets", "environment", "other-logins",
    "login-kind-default", "entitlement-default", "quota-source-default",
}  # fmt: skip
OF_THE_MACHINE = {
    "linger": "nobody has switched it on for this user, who has no desktop",
    "file-limit": "the manager's own limit is lower",
    "no-swap": "the machine has swap, and its manager keeps no cgroup of ours from it",
}
"""Warnings that are true of a test's machine; besides, what it `lacks`. No others are to be there."""

COMMAND = re.compile(
    r"(?:copilot-cred|systemctl --user|sudo systemctl|loginctl|chmod|rm|unset|uname) [\w-]"
)


class Found(dict[str, dict[str, str]]):
    """What doctor found, by name."""

    exit_code: int

    def having(self, verdict: str) -> set[str]:
        return {name for name, check in self.items() if check["verdict"] == verdict}


def doctor(session: Session, *environ: str) -> Found:
    """Return what `doctor --json` says, having checked what holds for every check."""
    cred = f"{session.home}/.local/bin/copilot-cred"
    done = session.run("env", *environ, cred, "doctor", "--json")
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    found = Found({check["name"]: check for check in checks})
    assert len(found) == len(checks), "each thing is told once"
    for check in checks:
        assert set(check) == {"name", "verdict", "told", "mend"}
        assert check["told"], check
        if check["verdict"] != OK:
            assert COMMAND.search(check["mend"].rpartition(": ")[2]), check
    found.exit_code = done.returncode
    assert found.exit_code == (1 if found.having(ERROR) else 0), "and for no other reason"
    assert done.stderr == ""
    return found


def limit_of_the_manager(session: Session) -> int:
    return int(session.systemctl("show", "--value", "--property=DefaultLimitNOFILE"))


def test_all_is_well_under_the_shipped_unit(signed_in: Session) -> None:
    found = doctor(signed_in)
    assert found.exit_code == 0
    assert set(found) >= ALL
    assert found.having(ERROR) == set()
    assert found.having(WARNING) - set(OF_THE_MACHINE) == machine_of(signed_in).lacks, found
    is_short = limit_of_the_manager(signed_in) < 65536
    assert ("file-limit" in found.having(WARNING)) is is_short
    assert found["account-default"]["told"] == "octocat on github.com, login kept by: file"
    assert f"pid {signed_in.main_pid()}" in found["broker"]["told"]
    assert "broker.sock" in found["sockets"]["told"]

    done = signed_in.cred("doctor")
    lines = done.stdout.splitlines()
    for name, check in found.items():
        (line,) = [each for each in lines if each.split()[1:2] == [name]]
        assert line.split()[0] == check["verdict"]
        if check["mend"]:
            assert lines[lines.index(line) + 1].strip() == check["mend"]
    count = len(found.having(WARNING))
    in_sum = f"{count} warning{'' if count == 1 else 's'}." if count else "All is well."
    assert (done.returncode, done.stderr.strip()) == (0, in_sum)


# What is taken away, and what doctor makes of it: name → verdict, and what its cure names.

LOST: dict[str, tuple[tuple[str, ...], str, dict[str, tuple[str, str]]]] = {
    "memory open to others": (
        ("_forbid_dumps",),
        "",
        {"not-dumpable": (ERROR, RESTART), "memory": (ERROR, RESTART)},
    ),
    "cores": (("_forbid_cores",), "LimitCORE=infinity", {"no-core": (ERROR, RESTART)}),
    "a user namespace": (
        (),
        "PrivateUsers=yes",
        {"no-user-namespace": (ERROR, "systemctl --user edit --full copilot-broker")},
    ),
    "no Landlock": (
        ("apply",),
        "",
        {
            "landlock": (WARNING, RESTART),
            "landlock-ports": (WARNING, RESTART),
            "landlock-scope": (WARNING, RESTART),
        },
    ),
    "files for others": (
        ("_set_umask",),
        "UMask=0022",
        {"umask": (WARNING, RESTART)},
    ),
}


@pytest.mark.parametrize(("taken", "settings", "expected"), LOST.values(), ids=LOST)
def test_a_layer_that_is_lost_is_told_with_its_cure(
    session: Session,
    installed: Path,
    taken: tuple[str, ...],
    settings: str,
    expected: dict[str, tuple[str, str]],
) -> None:
    machine = machine_of(session)
    start_inside(session, *taken, settings=settings, venv=installed)
    found = doctor(session)
    bad = found.having(WARNING) | found.having(ERROR)
    for name, (verdict, cure) in expected.items():
        if name in machine.keeps:
            assert found[name]["verdict"] == OK, "it cannot be taken away here"
            continue
        if name in machine.lacks:  # its cure is another one
            assert found[name]["verdict"] == WARNING
            continue
        assert (found[name]["verdict"], cure in found[name]["mend"]) == (verdict, True), found[
            name
        ]
    others = bad - set(expected) - set(OF_THE_MACHINE) - machine.lacks
    others -= {"account"}  # nobody is signed in
    if "no-user-namespace" in expected:  # its owner is let in, of which this one is the proof
        others -= {"memory"}
    assert others == set()


def test_without_a_broker_the_rest_is_looked_at(session: Session) -> None:
    session.systemctl("stop", SERVICE, *SOCKETS)
    found = doctor(session)
    assert found.having(ERROR) == {"broker"}
    assert found["broker"]["mend"].endswith("systemctl --user start copilot-broker.socket")
    assert set(found) <= {"broker", "linger", "environment", "other-logins"}
    session.systemctl("start", *SOCKETS)
    assert doctor(session).having(ERROR) == set(), "asking starts it"


def test_a_configuration_that_was_not_taken_is_an_error(signed_in: Session) -> None:
    before = signed_in.good("cat", CONFIG)
    assert doctor(signed_in)["configuration"]["verdict"] == OK
    signed_in.write(CONFIG, f"{before}[network]\nproxi = 1\n")
    reloaded(signed_in)
    line = before.count("\n") + 2
    found = doctor(signed_in)
    assert found.having(ERROR) == {"configuration"}
    assert f"line {line}:" in found["configuration"]["told"]
    assert found["configuration"]["mend"].endswith("systemctl --user reload copilot-broker")
    assert found["account-default"]["verdict"] == OK, "the old one serves"
    signed_in.write(CONFIG, before)
    reloaded(signed_in)
    assert doctor(signed_in)["configuration"]["verdict"] == OK


def test_accounts_are_told_as_they_are(signed_in: Session, github: GitHub) -> None:
    github.world.revoke_all()
    assert refused(signed_in, "refresh")["class"] == 4
    found = doctor(signed_in)
    assert found.having(ERROR) == {"account-default"}
    assert "does not accept the login" in found["account-default"]["told"]
    assert found["account-default"]["mend"].endswith("copilot-cred login")
    good(signed_in, "login")
    assert doctor(signed_in)["account-default"]["verdict"] == OK
    good(signed_in, "logout")
    found = doctor(signed_in)
    assert (found["account"]["verdict"], found.exit_code) == (WARNING, 0)
    assert found["account"]["mend"].endswith("copilot-cred login")
    assert "account-default" not in found


def test_a_store_that_is_not_there_is_an_error_for_who_is_to_sign_in(session: Session) -> None:
    session.write(CONFIG, session.good("cat", CONFIG).replace('"file"', '"auto"'))
    session.systemctl("start", SERVICE)
    found = doctor(session)
    assert found.having(ERROR) == {"login-store"}, "this user has no keyring"
    assert "copilot-cred login" in found["login-store"]["mend"]


def test_the_keyring_is_asked_through_closed_envelopes(with_keyring: Session) -> None:
    with_keyring.systemctl("start", *SOCKETS)
    good(with_keyring, "login")
    found = doctor(with_keyring)
    assert found["login-store"]["told"].endswith("secret-service")
    assert found.having(ERROR) == set()
    assert found["keyring-transport"]["told"] == "secrets cross the session bus encrypted"


@pytest.fixture
def loosened(signed_in: Session) -> Iterator[Session]:
    signed_in.good("chmod", "666", signed_in.rpc)
    yield signed_in
    signed_in.good("chmod", "600", signed_in.rpc)


def test_what_only_somebody_outside_can_see(loosened: Session) -> None:
    found = doctor(loosened, "GH_TOKEN=none", "COPILOT_GITHUB_TOKEN=none")
    assert found["socket broker.sock"]["verdict"] == WARNING
    assert found["socket broker.sock"]["mend"] == f"chmod 600 {loosened.rpc}"
    said = found["environment"]
    assert said["verdict"] == WARNING
    assert "COPILOT_GITHUB_TOKEN and GH_TOKEN are set" in said["told"]
    assert "none" not in said["told"] + said["mend"]
    assert said["mend"].endswith("unset COPILOT_GITHUB_TOKEN GH_TOKEN")
