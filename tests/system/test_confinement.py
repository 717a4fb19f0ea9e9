"""What confines the running daemon, layer by layer, and what others get from it.

For each layer there is a case that takes it away: the checker must find that one missing. Below
that: everything still works with all of them. What the machine itself refuses to everybody, as a
container without Landlock does, is found out beside the unit: that, and no more, is then missing.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from brokerd.host.confinement import landlock
from system.effective import (
    ATTACKS,
    DROP_INS,
    LAYERS,
    Machine,
    attacks_on,
    machine_of,
    missing,
    start_inside,
)
from system.scripted import CONFIG, reloaded
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session


# As another uid: connect, send, report what came back. A connection that is closed while bytes of
# ours lie unread in its buffer is reset (unix(7)), so "reset" or "pipe" proves that none was read.
KNOCK = """
import json, socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(10)
s.connect(sys.argv[1])
try:
    s.sendall(bytes.fromhex(sys.argv[2]))
    got = "closed" if (data := s.recv(65536)) == b"" else f"answer {data!r}"
except ConnectionResetError:
    got = "reset"
except BrokenPipeError:
    got = "pipe"
print(json.dumps(got))
"""


@pytest.fixture
def machine(session: Session) -> Machine:
    return machine_of(session)


@pytest.fixture
def running(session: Session) -> Session:
    session.systemctl("start", "copilot-broker")
    return session


def fields(text: str) -> dict[str, str]:
    return {
        name: rest.strip() for name, _, rest in (line.partition(":") for line in text.splitlines())
    }


def test_uid_map_is_the_identity(running: Session) -> None:
    assert running.proc("uid_map").split() == ["0", "0", str(2**32 - 1)]
    daemon, manager = (
        running.good("readlink", f"/proc/{pid}/ns/user", root=True)
        for pid in (running.main_pid(), "1")
    )
    assert daemon == manager


def test_seccomp_and_no_new_privileges_are_in_force(running: Session) -> None:
    status = fields(running.proc("status"))
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["CapEff"] == "0000000000000000"
    assert status["Umask"] == "0077"


def test_refused_system_calls_are_refused(running: Session) -> None:
    """The unit's own filter, around a probe in the daemon's place."""
    probe = (
        "import ctypes, errno, mmap, os, socket\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def refused(call):\n"
        "    try: result = call()\n"
        "    except OSError as error: return error.errno in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT)\n"
        "    return result == -1 and ctypes.get_errno() == errno.EPERM\n"
        "buffer = ctypes.create_string_buffer(16)\n"
        "print(refused(lambda: libc.ptrace(0, 0, 0, 0)),\n"
        "      refused(lambda: libc.unshare(0x10000000)),\n"
        "      refused(lambda: libc.process_vm_readv(os.getpid(), 0, 0, 0, 0, 0)),\n"
        "      refused(lambda: libc.setuid(os.getuid())),\n"
        "      refused(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),\n"
        "      refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),\n"
        "      refused(lambda: libc.syscall(444, 0, 0, 1)))\n"
    )
    running.write("probe.py", probe)
    unit = running.systemctl("cat", "copilot-broker.service")
    wanted = ("NoNewPrivileges", "Memory", "Restrict", "SystemCall", "LockPersonality")
    settings = [line for line in unit.splitlines() if line.startswith(wanted)]
    options = [word for setting in settings for word in ("--property", setting)]

    def probed(*properties: str) -> list[str]:
        run = ["systemd-run", "--user", "--wait", "--collect", "--pipe", "--quiet", *properties]
        return running.good(*run, "/usr/bin/python3", f"{running.home}/probe.py").split()

    *refused, landlock = probed(*options)
    assert refused == ["True"] * 6
    # Landlock's calls are let through, as far as the machine has them
    assert landlock == probed()[-1]


def test_limits_are_in_force(running: Session) -> None:
    limits = {
        line[:25].strip(): line[25:].split()[:2] for line in running.proc("limits").splitlines()
    }
    assert limits["Max core file size"] == ["0", "0"]
    ceiling = int(running.systemctl("show", "--value", "--property=DefaultLimitNOFILE"))
    wanted = str(min(65536, ceiling))  # a container may not let the manager raise its own
    assert limits["Max open files"] == [wanted, wanted]


def test_memory_and_environment_are_closed_to_the_own_uid(running: Session) -> None:
    pid = running.main_pid()
    assert running.good("stat", "--format=%u", f"/proc/{pid}/environ", root=True).strip() == "0"
    for name in ("environ", "mem", "maps"):
        assert running.run("head", "-c1", f"/proc/{pid}/{name}").returncode != 0, name


@pytest.mark.parametrize("door", ["rpc", "http"])
def test_another_uid_is_closed_before_a_byte_is_read(running: Session, door: str) -> None:
    path = getattr(running, door)
    message = (
        b"GET / HTTP/1.1\r\n\r\n" if door == "http" else b"\x94\x00\x01\xacbroker.hello\x91\x80"
    )
    running.good("chmod", "711", running.runtime, root=True)
    try:
        running.good("chmod", "755", f"{running.runtime}/copilot-broker")
        running.good("chmod", "666", path)
        nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        knock = ["/usr/bin/python3", "-c", KNOCK, path, message.hex()]
        answer = running.good(*nobody, *knock, root=True)
    finally:
        running.good("chmod", "700", running.runtime, root=True)
        running.good("chmod", "700", f"{running.runtime}/copilot-broker")
        running.good("chmod", "600", path)
    assert json.loads(answer) in ("reset", "pipe")
    assert any(entry.get("PEER_UID") == "65534" for entry in running.journal())


def test_own_uid_is_answered_by_the_same_probe(running: Session) -> None:
    """The control to the test above: the probe does see an answer where there is one."""
    hello = b"\x94\x00\x01\xacbroker.hello\x91\x80"
    assert "answer" in running.script(KNOCK, running.rpc, hello.hex())


NO_FILTERS = """
NoNewPrivileges=no
LockPersonality=no
MemoryDenyWriteExecute=no
RestrictRealtime=no
RestrictSUIDSGID=no
RestrictNamespaces=no
RestrictAddressFamilies=
SystemCallArchitectures=
SystemCallFilter=
"""
FIRST_LINE = (
    "SystemCallFilter=\nSystemCallFilter=@system-service"
    " landlock_create_ruleset landlock_add_rule landlock_restrict_self\n"
)
LANDLOCK = {"landlock", "landlock-ports", "landlock-scope"}
FILTERS = {
    "seccomp", "SystemCallFilter", "SystemCallFilter=~", "LockPersonality",
    "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "RestrictNamespaces",
    "RestrictAddressFamilies", "SystemCallArchitectures",
}  # fmt: skip

TAKEN_AWAY: dict[str, tuple[tuple[str, ...], str, set[str]]] = {
    # what the process does for itself; the first and the third are the unit's too
    "umask": (("_set_umask",), "UMask=0022", {"umask"}),
    "not-dumpable": (("_forbid_dumps",), "", {"not-dumpable"}),
    "no-core": (("_forbid_cores",), "LimitCORE=infinity", {"no-core"}),
    "landlock": (("apply",), "", LANDLOCK),
    # the kernel filters and confines only who gave up new privileges: they go together
    "no-new-privileges": (
        ("_forbid_new_privileges", "apply"),
        NO_FILTERS,
        {"no-new-privileges", *FILTERS, *LANDLOCK},
    ),
    # what the unit does; nothing of it in PrivateUsers= but its absence
    "no-user-namespace": ((), "PrivateUsers=yes", {"no-user-namespace", "not-dumpable"}),
    "no-swap": ((), "MemorySwapMax=infinity", {"no-swap"}),
    "seccomp": ((), NO_FILTERS, FILTERS),
    "SystemCallFilter": ((), "SystemCallFilter=", {"SystemCallFilter", "SystemCallFilter=~"}),
    "SystemCallFilter=~": ((), FIRST_LINE, {"SystemCallFilter=~"}),
    # refused by ~@resources as well
    "RestrictRealtime": (
        (),
        f"{FIRST_LINE}RestrictRealtime=no",
        {"RestrictRealtime", "SystemCallFilter=~"},
    ),
    "LockPersonality": ((), "LockPersonality=no", {"LockPersonality"}),
    "MemoryDenyWriteExecute": ((), "MemoryDenyWriteExecute=no", {"MemoryDenyWriteExecute"}),
    "RestrictSUIDSGID": ((), "RestrictSUIDSGID=no", {"RestrictSUIDSGID"}),
    "RestrictNamespaces": ((), "RestrictNamespaces=no", {"RestrictNamespaces"}),
    "RestrictAddressFamilies": ((), "RestrictAddressFamilies=", {"RestrictAddressFamilies"}),
    "SystemCallArchitectures": ((), "SystemCallArchitectures=", {"SystemCallArchitectures"}),
}
OWN_WORD = {"umask", "not-dumpable", "no-core", "no-new-privileges", "no-user-namespace"}
OWN_WORD |= {"seccomp", "no-capabilities", *LANDLOCK}
"""What the daemon itself tells of."""


def doctors_checks(session: Session) -> dict[str, dict[str, str]]:
    """Return what the daemon, asked anew, finds: each check by its name."""
    told = json.loads(session.cred("doctor", "--json").stdout)
    return {check["name"]: check for check in told["checks"]}


def found_by_doctor(session: Session) -> set[str]:
    """Return what the daemon, asked anew, finds in force."""
    checks = doctors_checks(session)
    return {name for name, check in checks.items() if check["verdict"] == "ok"}


def test_every_layer_is_in_force_under_the_shipped_unit(
    session: Session, installed: Path, machine: Machine
) -> None:
    start_inside(session, venv=installed)
    assert missing(session) == machine.lacks
    expected = OWN_WORD - machine.lacks
    assert set(session.status()["confinement"]) & OWN_WORD == expected
    assert found_by_doctor(session) & OWN_WORD == expected
    (record,) = [each for each in session.journal() if each.get("MESSAGE") == "confined"][-1:]
    assert set(record["HOLDS"].split(", ")) & OWN_WORD == expected
    assert set(filter(None, record["LACKS"].split(", "))) == machine.lacks


def test_doctor_says_why_the_machine_has_no_landlock(running: Session, machine: Machine) -> None:
    found = {name: check for name, check in doctors_checks(running).items() if name in LANDLOCK}
    assert set(found) == LANDLOCK
    if machine.landlock_error:
        expected = landlock.missing(OSError(machine.landlock_error, ""))
        told = {(check.name, check.verdict.value, check.told, check.mend) for check in expected}
        assert {
            (name, *map(c.get, ("verdict", "told", "mend"))) for name, c in found.items()
        } == told
    else:
        lacking = {name for name, check in found.items() if check["verdict"] == "warning"}
        assert lacking == machine.lacks
        assert all(f"ABI {machine.landlock_abi}" in found[name]["told"] for name in lacking)


@pytest.mark.parametrize("layer", TAKEN_AWAY)
def test_a_layer_that_is_taken_away_is_found_missing(
    session: Session, installed: Path, machine: Machine, layer: str
) -> None:
    taken, settings, own = TAKEN_AWAY[layer]
    expected = (own | machine.lacks) - machine.keeps
    start_inside(session, *taken, settings=settings, venv=installed)
    assert missing(session) == expected
    # and the daemon claims nothing that does not hold
    for claimed in (set(session.status()["confinement"]), found_by_doctor(session)):
        if layer == "no-user-namespace":  # in there it cannot tell that its owner gets in
            assert claimed & OWN_WORD == OWN_WORD - {layer} - machine.lacks
        else:
            assert claimed & OWN_WORD == OWN_WORD - expected


def test_every_layer_has_its_case() -> None:
    # nobody can give a user's unit a capability; tests/edge/test_host_confinement.py does as root
    assert set(TAKEN_AWAY) | LANDLOCK == set(LAYERS) - {"no-capabilities"}


def test_the_attacks_work_where_nothing_keeps_them_out(running: Session, machine: Machine) -> None:
    """The control: the same attempts on another process of this user, then on the daemon."""
    other = running.good("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!").strip()
    try:
        assert attacks_on(running, other) == machine.attacks
    finally:
        running.good("kill", other)
    assert attacks_on(running, running.main_pid()) == dict.fromkeys(ATTACKS, False)
    assert running.show("ActiveState") == "active"


@pytest.mark.parametrize("confined", [True, False])
def test_a_crash_leaves_no_core(
    session: Session, installed: Path, machine: Machine, confined: bool
) -> None:
    """Dumped only where all that prevents it is taken away: the control."""
    taken = () if confined else ("_forbid_dumps", "_forbid_cores", "apply")
    settings = "" if confined else "LimitCORE=infinity"
    start_inside(session, *taken, settings=settings, venv=installed)
    session.systemctl("kill", "--signal=SEGV", SERVICE)
    eventually(lambda: session.show("ActiveState") == "failed")
    session.run("sh", "-c", "rm -f core core.*")
    assert session.show("Result") == ("core-dump" if machine.cores and not confined else "signal")


# ---- with all of it, everything works --------------------------------------------------------


def test_a_simulator_of_its_own(session: Session, machine: Machine) -> None:
    command = f"{session.home}/.local/bin/copilot-brokerd --simulate"
    session.write(f"{DROP_INS}/simulate.conf", f"[Service]\nExecStart=\nExecStart={command}\n")
    session.systemctl("daemon-reload")
    session.systemctl("start", SERVICE)
    assert session.cred("login").returncode == 0
    assert session.cred("get").stdout.startswith("tid=")
    assert session.status()["simulated"]
    assert set(session.status()["confinement"]) >= OWN_WORD - machine.lacks


def test_the_keyring_and_its_modules(with_keyring: Session) -> None:
    machine = machine_of(with_keyring)
    with_keyring.systemctl("start", SERVICE)
    assert with_keyring.cred("login").returncode == 0
    status = with_keyring.status()
    assert status["accounts"][0]["store"] == "secret-service"
    assert set(status["confinement"]) >= OWN_WORD - machine.lacks


class Proxy:
    """Hears one CONNECT and opens no tunnel."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(30)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.heard: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    self.heard.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            return

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.mark.parametrize("place", ["configuration", "environment"])
def test_a_proxy(session: Session, proxy: Proxy, place: str) -> None:
    names = ("login", "api", "copilot", "completions")
    config = "[urls]\n" + "".join(f'{name} = "https://github.invalid"\n' for name in names)
    config += '[store]\nkind = "file"\n'
    if place == "configuration":
        config += f'[network]\nproxy = "{proxy.url}"\n'
    else:
        drop_in = f"[Service]\nEnvironment=HTTPS_PROXY={proxy.url}\n"
        session.write(f"{DROP_INS}/proxy.conf", drop_in)
        session.systemctl("daemon-reload")
    session.write(CONFIG, config)
    session.systemctl("start", SERVICE)
    assert session.cred("login").returncode != 0
    assert proxy.heard[0].startswith(b"CONNECT github.invalid:443 ")


def test_a_reload_within_reach(signed_in: Session) -> None:
    signed_in.write(CONFIG, signed_in.good("cat", CONFIG).replace('"debug"', '"info"'))
    # as an editor does it: another file in its place
    signed_in.good("sh", "-c", f"cp {CONFIG} {CONFIG}~ && mv {CONFIG}~ {CONFIG}")
    assert reloaded(signed_in) == "configuration reloaded"
    assert signed_in.cred("refresh").returncode == 0


def test_a_reload_that_needs_more_asks_for_a_restart(signed_in: Session, github: GitHub) -> None:
    old = signed_in.good("cat", CONFIG)
    other = github.url.rpartition(":")[0] + ":1"
    signed_in.write(CONFIG, old.replace(f'copilot = "{github.url}"', f'copilot = "{other}"'))
    signed_in.systemctl("reload", SERVICE)
    problem = eventually(lambda: signed_in.status()["config_problem"])
    assert problem == "restart required: systemctl --user restart copilot-broker (port 1)"
    assert signed_in.cred("refresh").returncode == 0, "the old configuration stays"
    signed_in.systemctl("restart", SERVICE)
    assert signed_in.status()["config_problem"] is None
    signed_in.write(CONFIG, old)


def test_a_configuration_written_later_is_reloaded(session: Session) -> None:
    """Its folder is made at the start, since only what is there can be permitted."""
    session.good("rm", "-r", ".config/copilot-broker")
    # nothing is asked of GitHub before the configuration says which
    session.systemctl("start", SERVICE)
    session.write(CONFIG, '[log]\nlevel = "debug"\n')
    assert reloaded(session) == "configuration reloaded"
