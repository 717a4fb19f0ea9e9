"""Confinement, judged by what another process of the same uid can still do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from brokerd.host.confinement import layers as confinement
from system.session import can_be_root


KEEPER = textwrap.dedent(
    """
    import ctypes, json, os, resource, sys
    secret = ctypes.create_string_buffer(b"c4n4ry")
    holds = []
    if sys.argv[1] == "confined":
        from brokerd.host.confinement.layers import before_secrets
        holds = [check.name for check in before_secrets() if check.holds]
    before = os.umask(0)
    print(json.dumps({
        "address": ctypes.addressof(secret),
        "holds": holds,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "umask": before,
    }), flush=True)
    sys.stdin.readline()
    """
)

ATTACKER = textwrap.dedent(
    """
    import ctypes, os, sys
    pid, address = int(sys.argv[1]), int(sys.argv[2])

    def mem():
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            file.seek(address)
            return file.read(6) == b"c4n4ry"

    def readv():
        class Iovec(ctypes.Structure):
            _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
        here = ctypes.create_string_buffer(6)
        local = Iovec(ctypes.addressof(here), 6)
        remote = Iovec(address, 6)
        libc = ctypes.CDLL(None, use_errno=True)
        one = ctypes.c_ulong(1)
        read = libc.process_vm_readv(
            pid, ctypes.byref(local), one, ctypes.byref(remote), one, ctypes.c_ulong(0))
        return read == 6 and here.raw[:6] == b"c4n4ry"

    def environ():
        with open(f"/proc/{pid}/environ", "rb") as file:
            return bool(file.read())

    def descriptors():
        return bool(os.listdir(f"/proc/{pid}/fd"))

    for attack in (mem, readv, environ, descriptors):
        try:
            print(attack.__name__, attack())
        except OSError:
            print(attack.__name__, False)
    """
)

NOBODY = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
AS_USER = [*NOBODY, "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""Root may read everything, so the two play it as somebody else."""

REPO = Path(__file__).parents[2]

MODULES = [
    "core/checks.py",
    "host/confinement/layers.py",
    "host/confinement/file_limit.py",
    "host/confinement/landlock.py",
    "host/confinement/probe.py",
]


@contextlib.contextmanager
def keeper(mode: str, tmp_path: Path):
    import shutil

    # The other uid may be unable to read this checkout: it gets a copy of what is needed.
    for name in ("brokerd", "brokerd/host", "brokerd/host/confinement", "brokerd/core"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for name in MODULES:
        shutil.copy(REPO / "brokerd" / name, tmp_path / "brokerd" / name)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
    process = subprocess.Popen(
        [*AS_USER, python(), "-c", KEEPER, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        line = process.stdout.readline()
        assert line, "the keeper did not start"
        yield process.pid, json.loads(line)
    finally:
        process.communicate("end\n", timeout=30)


def python() -> str:
    """An interpreter that the other uid can run."""
    return "/usr/bin/python3" if AS_USER else sys.executable


def attack(pid: int, address: int) -> dict[str, bool]:
    done = subprocess.run(
        [*AS_USER, python(), "-c", ATTACKER, str(pid), str(address)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd="/",
    )
    return {name: said == "True" for name, said in map(str.split, done.stdout.splitlines())}


def yama_forbids() -> bool:
    try:
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip() != "0"
    except OSError:
        return False


def test_without_confinement_the_attack_works(tmp_path):
    """So that the next test fails when the layer is taken away, not when the attack is broken."""
    with keeper("open", tmp_path) as (pid, told):
        result = attack(pid, told["address"])
    assert result["environ"]
    assert result["descriptors"]
    if yama_forbids():
        pytest.skip("Yama forbids reading memory by itself")
    assert result == {"mem": True, "readv": True, "environ": True, "descriptors": True}


def test_the_same_uid_reads_nothing(tmp_path):
    with keeper("confined", tmp_path) as (pid, told):
        result = attack(pid, told["address"])
        assert result == {"mem": False, "readv": False, "environ": False, "descriptors": False}
        # What we give ourselves up to: these stay readable, so nothing secret may be in them.
        assert b"confined" in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert told["core"] == [0, 0]
    assert told["umask"] == 0o077
    assert {"umask", "not-dumpable", "no-core", "no-new-privileges"} <= set(told["holds"])


def told_by(program: str, *prefix: str, **environ: str) -> dict[str, list[str]]:
    """Run a program that fills `checks`; name → [verdict, told, mend] as a process tells it."""
    tail = "print(json.dumps({c.name: [c.verdict, c.told, c.mend] for c in checks}))\n"
    head = "import ctypes, json, os, resource\nfrom brokerd.host.confinement import layers as confinement\n"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", head + textwrap.dedent(program) + tail],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OWN = ["umask", "not-dumpable", "no-core", "no-user-namespace", "no-new-privileges"]


def test_what_was_put_in_force_is_found_in_force():
    before = told_by("checks = confinement.before_secrets()\n")
    assert {name: verdict for name, (verdict, *_) in before.items()} == dict.fromkeys(OWN, "ok")
    later = told_by("confinement.before_secrets()\nchecks = confinement.effective()\n")
    assert {name: later[name] for name in OWN} == before


def around_us() -> set[str]:
    """What is in force around the tests already, as a container's filter is."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    found = {
        "no-core": resource.getrlimit(resource.RLIMIT_CORE)[0] == 0,
        "no-new-privileges": status["NoNewPrivs"].strip() == "1",
        "seccomp": status["Seccomp"].strip() == "2",
    }
    return {name for name, holds in found.items() if holds}


def test_without_it_each_is_found_lacking_with_what_mends_it():
    found = told_by("os.umask(0o022)\nchecks = confinement.effective()\n")
    lacking = {name for name, (verdict, *_) in found.items() if verdict != "ok"}
    ours = {"umask", "not-dumpable", "no-core", "no-new-privileges", "landlock", "seccomp"}
    assert lacking & ours == ours - around_us()
    for name in lacking:
        assert re.search(r": (?:sudo )?(systemctl|uname|cat) ", found[name][2]), found[name]


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        ("_set_umask", "umask"),
        ("_forbid_dumps", "not-dumpable"),
        ("_forbid_cores", "no-core"),
        ("_forbid_new_privileges", "no-new-privileges"),
    ],
)
def test_the_layer_that_is_taken_away_is_the_one_that_is_lacking(function, layer):
    """What the process does itself: nothing is said to hold that does not."""
    found = told_by(
        f"""
        os.umask(0o022)
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        if hard == resource.RLIM_INFINITY or hard > 0:
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        else:  # nothing to take away here
            confinement._no_core = lambda: confinement.Check("no-core", "error", "", "")
        confinement.{function} = lambda: None
        checks = confinement.before_secrets()
        """
        if function == "_forbid_cores"
        else f"""
        os.umask(0o022)
        confinement.{function} = lambda: None
        checks = confinement.before_secrets()
        """
    )
    assert [name for name, (verdict, *_) in found.items() if verdict != "ok"] == [layer]


def test_a_refused_prctl_is_told_and_stops_nothing():
    found = told_by(
        """
        class Refused:
            def __init__(self, *_, **__): pass
            def prctl(self, *_): return -1
        confinement.ctypes.CDLL = Refused
        checks = confinement.before_secrets()
        """
    )
    verdict, told, mend = found["not-dumpable"]
    assert verdict == "error"
    assert "memory stays readable by your other processes" in told
    assert mend.endswith("systemctl --user restart copilot-broker")
    assert found["no-core"][0] == "ok"


def can_make_user_namespaces() -> bool:
    return not subprocess.run(
        ["/usr/bin/unshare", "--user", "--map-root-user", "true"], check=False
    ).returncode


@pytest.mark.skipif(not can_make_user_namespaces(), reason="needs user namespaces")
def test_a_user_namespace_is_told_of():
    unshare = ["/usr/bin/unshare", "--user", "--map-root-user"]
    found = told_by("checks = confinement.before_secrets()\n", *unshare)
    verdict, told, mend = found["no-user-namespace"]
    assert verdict == "error"
    assert "its owner's processes can read this memory" in told
    assert "PrivateUsers=" in mend


@pytest.mark.skipif(
    not can_be_root() and not os.environ.get("CI"), reason="needs root or passwordless sudo"
)
def test_capabilities_are_told_of():
    program = "checks = confinement.effective()\n"
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n", "env", "PYTHONDONTWRITEBYTECODE=1"]
    bare = [] if as_root else ["/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    assert told_by(program, *as_root)["no-capabilities"][0] == "warning"
    assert told_by(program, *bare)["no-capabilities"][0] == "ok"


def test_the_keys_of_tls_are_written_nowhere(tmp_path):
    keys = tmp_path / "keys"
    program = """
    confinement.before_secrets()
    import ssl
    checks = []
    assert ssl.create_default_context().keylog_filename is None
    """
    told_by(program, SSLKEYLOGFILE=str(keys))
    assert not keys.exists()


SWAP = "Filename Type Size Used Priority\n"


@pytest.mark.parametrize(
    ("swap", "maximum", "swapped", "holds"),
    [
        (SWAP, None, "0 kB", True),  # a machine without swap
        (SWAP + "/dev/sda2 partition 1 0 -2\n", "0\n", "0 kB", True),
        (SWAP + "/dev/sda2 partition 1 0 -2\n", "max\n", "0 kB", False),
        (SWAP + "/dev/sda2 partition 1 0 -2\n", None, "0 kB", False),
        (SWAP + "/dev/sda2 partition 1 0 -2\n", "0\n", "12 kB", False),
    ],
)
def test_swap(swap, maximum, swapped, holds, monkeypatch):
    files = {"/proc/self/cgroup": "0::/user.slice/x.service\n", "/proc/swaps": swap}
    if maximum is not None:
        files["/sys/fs/cgroup/user.slice/x.service/memory.swap.max"] = maximum

    class Files(type(Path())):
        def read_text(self):
            try:
                return files[str(self)]
            except KeyError:
                raise FileNotFoundError(str(self)) from None

    monkeypatch.setattr(confinement, "Path", Files)
    check = confinement._no_swap({"VmSwap": swapped})
    assert check.holds is holds
    assert holds or check.mend.endswith("MemorySwapMax=0")
