"""What SECURITY.md promises of the running daemon and no other test looks at.

Under the shipped units and a real user manager; each test names the promise that it proves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from system.effective import machine_of, start_inside
from system.scripted import CONFIG, good, with_more
from system.session import ROOT, SERVICE, SOCKETS, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session


@contextlib.contextmanager
def watching(session: Session, source: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run Python source as root beside what is done; it ends with its stdin and tells in JSON."""
    told: dict[str, Any] = {}
    with subprocess.Popen(
        session.argv("/usr/bin/python3", "-c", source, *arguments, root=True),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "looking\n"
        yield told
        answer, _ = watcher.communicate(timeout=60)
    told |= json.loads(answer)


# P2: the mode of the sockets, from the first instant.

LOOK_AT_MODES = """
import json, os, select, sys
modes, inodes = {}, set()
print("looking", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for path in sys.argv[1:]:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        modes.setdefault(path, {})[oct(status.st_mode & 0o7777)] = True
        inodes.add((path, status.st_ino, status.st_ctime_ns))
print(json.dumps({"modes": {path: sorted(found) for path, found in modes.items()},
                  "births": len(inodes)}))
"""
BIRTHS = 25
MADE_ANEW = """
for i in $(seq "$1"); do
  folder="$XDG_RUNTIME_DIR/copilot-broker"
  systemctl --user start copilot-broker.socket copilot-broker-http.socket
  systemctl --user stop copilot-broker.socket copilot-broker-http.socket
  rmdir "$folder"
done
"""


def test_who_always_looks_never_sees_another_mode(session: Session) -> None:
    folder = f"{session.runtime}/copilot-broker"
    session.systemctl("stop", *SOCKETS)
    session.run("rm", "-rf", folder)  # a broker started by hand leaves its lock file there
    places = (folder, session.rpc, session.http)
    with watching(session, LOOK_AT_MODES, *places) as seen:
        session.good("bash", "-c", MADE_ANEW, "_", str(BIRTHS))
    assert seen["modes"] == {folder: ["0o700"], session.rpc: ["0o600"], session.http: ["0o600"]}
    assert seen["births"] > BIRTHS, "it has hardly looked"


# P7: who hides gets neither an error nor more than others.

HIDE = """
import ctypes, socket, sys
libc = ctypes.CDLL(None)
if sys.argv[2] == "not dumpable":
    libc.prctl(4, 0, 0, 0, 0)
readable = libc.prctl(3, 0, 0, 0, 0) == 1  # PR_GET_DUMPABLE
namespace = open("/proc/self/uid_map").read().split() != ["0", "0", str(2**32 - 1)]
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    s.connect(sys.argv[1])
    s.sendall(b"\\x94\\x00\\x02\\xa9token.get\\x91\\x80")
    data = s.recv(65536)
print("closed" if not data else "token" if data[3:4] == b"\\xc0" else "denied", readable, namespace)
"""
HIDERS = {
    "not dumpable": ("/usr/bin/python3",),
    "with file capabilities": ("{capable}",),
    "in a user namespace": ("unshare", "--user", "--map-root-user", "/usr/bin/python3"),
}


@pytest.mark.parametrize("how", HIDERS)
def test_who_hides_is_treated_as_what_it_is(
    signed_in: Session, request: pytest.FixtureRequest, how: str
) -> None:
    """Its unit is known whatever it hides: its listener's rights, less what a rule takes away."""
    session = signed_in
    capable = f"/var/lib/copilot-broker-test-{os.getpid()}"  # home and /tmp may be nosuid
    request.addfinalizer(lambda: session.run("rm", "-f", capable, root=True))
    session.good("cp", "--dereference", "/usr/bin/python3", capable, root=True)
    session.good("setcap", "cap_net_raw+ep", capable, root=True)
    program = [part.format(capable=capable) for part in HIDERS[how]]

    def asks() -> list[str]:
        unit = ("systemd-run", "--user", "--wait", "--collect", "--pipe", "--quiet")
        command = (*program, "-c", HIDE, session.rpc, how)
        return session.good(*unit, "--unit=hides-x", "--", *command).split()

    told, readable, namespace = asks()
    assert told == "token"
    assert (readable == "False") or (namespace == "True"), "it does not hide"
    with_more(session, '[[grant]]\nunit = "hides-*"\nscope = "status"\n')
    session.systemctl("restart", SERVICE)
    assert asks()[0] == "denied"
    assert session.cred("get").returncode == 0, "the rule is about nobody else"


# P11: no secret in argv or environment, at any moment.

# Arguments and environment change together, in execve(2); so the latter is read when the former did.
LOOK_AT_PROCESSES = """
import json, os, re, select, sys
secret = re.compile(rb"(?:gh[oprsu]_|github_pat_)\\w{9}|tid=\\w")
found, commands, children, known = set(), set(), set(), {}
def read(name):
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError:
        return b""
def look():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        data = read(f"/proc/{pid}/cmdline")
        if not data or known.get(pid) == data:
            continue
        known[pid] = data
        if b"copilot-cred" in data:
            commands.add(data.replace(b"\\0", b" ").decode(errors="replace").strip()[-200:])
        data += read(f"/proc/{pid}/environ")
        if secret.search(data):
            found.add(data.decode(errors="replace"))
    for task in os.listdir(f"/proc/{sys.argv[1]}/task"):
        children.update(read(f"/proc/{sys.argv[1]}/task/{task}/children").split())
print("looking", flush=True)
look()
while not select.select([sys.stdin], [], [], 0)[0]:
    look()
print(json.dumps({"found": sorted(found), "commands": sorted(commands),
                  "children": len(children)}))
"""


def test_no_process_shows_a_secret_while_it_is_used(signed_in: Session, github: GitHub) -> None:
    session = signed_in
    planted = github.world.mint("gho_", "canary", "Iv1.canary")
    with watching(session, LOOK_AT_PROCESSES, session.main_pid()) as seen:
        good(session, "login", "--account", "second")
        good(session, "login", "--account", "third", "--with-token", stdin=f"{planted}\n")
        for _ in range(5):
            good(session, "refresh")
            assert good(session, "get").startswith("tid=")
        good(session, "get", "--format", "env")
        good(session, "chat", "--model", "sim-chat", "hello")
        good(session, "logout", "--account", "third", "--revoke")
    assert seen["found"] == []
    assert seen["children"] == 0, "the daemon has started a program"
    verbs = set(re.findall(r"copilot-cred (\w+)", " ".join(seen["commands"])))
    assert len(verbs) > 2, "it has hardly looked"


def test_who_looks_at_processes_sees_a_secret(signed_in: Session) -> None:
    """The control to the test above."""
    canary = "CANARY=gho_123456789"
    with signed_in.spawn("env", canary, "sleep", "60") as sleeper:
        all_of_them = ("sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null; true")
        eventually(lambda: canary in signed_in.good(*all_of_them, root=True))
        with watching(signed_in, LOOK_AT_PROCESSES, signed_in.main_pid()) as seen:
            pass
        sleeper.kill()  # what it has started ends with the session
    assert any(canary in each for each in seen["found"])


# P13: a handler of core dumps that is a pipe is started whatever the limit is.


def test_not_to_be_dumpable_prevents_a_core_by_itself(session: Session, installed: Path) -> None:
    """The kernel looks at it first (core(5)), and asks for no limit where cores go to a pipe."""
    if not machine_of(session).cores:
        pytest.skip(
            "nobody may ask for cores here: sudo took them, and root has not CAP_SYS_RESOURCE"
        )
    taken = ("_forbid_cores", "apply")
    start_inside(session, *taken, settings="LimitCORE=infinity", venv=installed)
    assert "unlimited" in session.proc("limits").partition("Max core file size")[2].split("\n")[0]
    session.systemctl("kill", "--signal=SEGV", SERVICE)
    eventually(lambda: session.show("ActiveState") == "failed")
    session.run("sh", "-c", "rm -f core core.*")
    assert session.show("Result") == "signal"


# P14: never swapped.


def test_no_page_is_swapped_out(signed_in: Session) -> None:
    """Also when the kernel is told to take memory back, where it can be told."""
    session = signed_in
    assert session.show("MemorySwapMax") == "0"
    cgroup = session.proc("cgroup").rpartition("0::")[2].strip()
    squeeze = 'test ! -e "$1" || echo 64M > "$1" || true'  # EAGAIN: it got less than asked for
    path = f"/sys/fs/cgroup{cgroup}/memory.reclaim"
    session.run("sh", "-c", squeeze, "_", path, root=True)
    assert "VmSwap:\t       0 kB" in session.proc("status")
    assert session.cred("get").returncode == 0


# P33: the manager is given nothing to keep.


def test_the_manager_keeps_nothing_of_ours(signed_in: Session) -> None:
    session = signed_in
    for _ in range(2):
        assert session.show("NFileDescriptorStore") == "0"
        assert session.show("FileDescriptorStoreMax") == "0"
        assert session.show("NotifyAccess") == "main"
        manager = session.good("ps", "-o", "ppid=", "-p", session.main_pid(), root=True).strip()
        assert session.good("cat", f"/proc/{manager}/comm").strip() == "systemd"
        links = session.good("sh", "-c", f"readlink /proc/{manager}/fd/*", root=True)
        assert "socket:" in links
        assert "memfd:" not in links
        session.systemctl("restart", SERVICE)
        assert session.cred("get").returncode == 0


# P39: no TCP listener by default.

TCP_LISTENERS = """
import glob, json, os, sys
mine = set()
for name in glob.glob(f"/proc/{sys.argv[1]}/fd/*"):
    try:
        mine.add(os.readlink(name))
    except OSError:
        pass
listening = set()
for table in ("tcp", "tcp6"):
    for line in list(open(f"/proc/{sys.argv[1]}/net/{table}"))[1:]:
        words = line.split()
        if words[3] == "0A":  # TCP_LISTEN
            listening.add(f"socket:[{words[9]}]")
print(json.dumps({"sockets": len([each for each in mine if each.startswith("socket:")]),
                  "listening": len(listening), "mine": sorted(mine & listening)}))
"""


def test_nothing_listens_on_tcp(signed_in: Session) -> None:
    session = signed_in
    good(session, "chat", "--model", "sim-chat", "hello")
    source = ("/usr/bin/python3", "-c", TCP_LISTENERS, session.main_pid())
    told = json.loads(session.good(*source, root=True))
    assert told["mine"] == []
    assert told["sockets"] >= len(SOCKETS)
    assert told["listening"] > 0, "the simulator's at least: the table was read"


# P8: what comes through a further socket has that socket's rights, whoever it is.

AGENTS = "copilot-broker@agents.socket"
COMMANDS, RULE = re.findall(
    r"```(?:sh|toml)\n(.*?)```", (ROOT / "SECURITY.md").read_text(), re.DOTALL
)
"""How SECURITY.md says that it is done."""
RULES = {
    "no rule": "",
    "the page's": RULE,
    "the page's, for a model of the simulator's": RULE.replace("gpt-*", "sim-c*"),
    "tokens": '[[grant]]\nlistener = "agents"\nscope = "token"\n',
}
ASKED = {
    ("status",): (0, 0, 0, 0),
    ("chat", "--model", "sim-chat", "hello"): (5, 5, 0, 0),
    ("get",): (5, 5, 5, 0),
    ("refresh",): (5, 5, 5, 5),
}
"""Exit codes, rule by rule."""


def test_a_further_socket_gives_what_its_rule_says(signed_in: Session) -> None:
    session = signed_in
    cred = f"{session.home}/.local/bin/copilot-cred"
    path = f"{session.runtime}/copilot-broker/agents.sock"
    configuration = session.good("cat", CONFIG)
    refused = session.run("systemctl", "--user", "start", AGENTS)
    assert refused.returncode != 0, "then the page need not say that the service has to be stopped"
    try:
        session.good("bash", "-e", "-c", COMMANDS)
        assert session.good("stat", "--format=%a %U", path).strip() == "600 cb-test"
        for column, rule in enumerate(RULES.values()):
            session.write(CONFIG, configuration + rule)
            session.systemctl("restart", SERVICE)
            for verb, codes in ASKED.items():
                done = session.run("env", f"COPILOT_BROKER_SOCKET={path}", cred, *verb)
                assert done.returncode == codes[column], (rule, verb, done.stdout, done.stderr)
                assert session.cred(*verb).returncode == 0, "the user's own has all rights"
    finally:
        session.run("systemctl", "--user", "stop", SERVICE, AGENTS)
        session.run("systemctl", "--user", "disable", AGENTS)
