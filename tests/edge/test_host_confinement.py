"""Confinement, judged by what another process of the same uid can still do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


KEEPER = textwrap.dedent(
    """
    import ctypes, json, os, resource, sys
    secret = ctypes.create_string_buffer(b"c4n4ry")
    holds = []
    if sys.argv[1] == "confined":
        from brokerd.host.confinement import before_secrets
        holds = before_secrets()
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


@contextlib.contextmanager
def keeper(mode: str, tmp_path: Path):
    import json
    import shutil

    # The other uid may be unable to read this checkout: it gets a copy of the one module.
    for name in ("brokerd", "brokerd/host"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    shutil.copy(REPO / "brokerd/host/confinement.py", tmp_path / "brokerd/host")
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
    assert {"umask 077", "not dumpable", "no core"} <= set(told["holds"])


def test_nothing_is_said_to_hold_that_does_not():
    """prctl refused (here: by a libc without it) is told as such, and stops nothing."""
    program = """
        import ctypes, logging, sys
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        from brokerd.host import confinement
        class Refused:
            def __init__(self, *_, **__): pass
            def prctl(self, *_): return -1
        confinement.ctypes.CDLL = Refused
        print(confinement.before_secrets())
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "memory stays readable by your other processes" in done.stdout
    assert "'not dumpable'" not in done.stdout
    assert "'no core'" in done.stdout


def test_a_user_namespace_is_warned_about():
    if subprocess.run(
        ["/usr/bin/unshare", "--user", "--map-root-user", "true"], check=False
    ).returncode:
        pytest.skip("no user namespaces here")
    program = (
        "import logging, sys; logging.basicConfig(stream=sys.stdout, format='%(message)s');"
        "from brokerd.host.confinement import before_secrets; print(before_secrets())"
    )
    done = subprocess.run(
        ["/usr/bin/unshare", "--user", "--map-root-user", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "in a user namespace" in done.stdout
    assert "'no user namespace'" not in done.stdout
