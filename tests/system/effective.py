"""What is in force around the running daemon, found out by effect; each layer by its name.

From outside as another process of the same uid, which tries to get at its memory, and as root from
/proc. From inside by `inside.py` in the daemon's place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from system.session import SERVICE


if TYPE_CHECKING:
    from system.session import Session


__all__ = [
    "ATTACKS",
    "INSIDE",
    "LAYERS",
    "Machine",
    "attacks_on",
    "machine_of",
    "missing",
    "start_inside",
]

DROP_INS = f".config/systemd/user/{SERVICE}.d"
REPORT = ".local/state/copilot-broker/effective.json"
PROGRAM = (Path(__file__).with_name("inside.py")).read_text()

ATTACK = """
import ctypes, errno, json, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def opened(name):
    try:
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
    except OSError:
        return False
    return True

def let_through(result):
    return result != -1 or ctypes.get_errno() != errno.EPERM

def readv():  # an address that nobody has: EFAULT where reading is permitted
    class Iovec(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
    here = Iovec(ctypes.addressof(ctypes.create_string_buffer(1)), 1)
    there = Iovec(1, 1)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    return let_through(libc.process_vm_readv(
        pid, ctypes.byref(here), one, ctypes.byref(there), one, none))

def getfd():
    pidfd = os.pidfd_open(pid)
    return let_through(libc.syscall(438, pidfd, 0, 0))

def listed():
    try:
        return bool(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False

print(json.dumps({
    "mem": opened("mem"),
    "maps": opened("maps"),
    "environ": opened("environ"),
    "fd": listed(),
    "process_vm_readv": readv(),
    "pidfd_getfd": getfd(),
    "ptrace": let_through(libc.ptrace(0x4206, pid, None, None)),  # SEIZE: it goes on running
}))
"""
ATTACKS = ("mem", "maps", "environ", "fd", "process_vm_readv", "pidfd_getfd", "ptrace")

INSIDE = {
    "umask": ("readable files",),
    "no-core": ("core",),
    "landlock": ("list home", "write home", "exec"),
    "landlock-ports": ("connect", "bind"),
    "landlock-scope": ("signal",),
    "SystemCallFilter": ("mount", "chroot", "ptrace"),
    "SystemCallFilter=~": ("process_vm_readv", "keyctl", "setpriority", "setuid"),
    "LockPersonality": ("personality",),
    "MemoryDenyWriteExecute": ("write and execute",),
    "RestrictRealtime": ("realtime",),
    "RestrictSUIDSGID": ("set-uid file",),
    "RestrictNamespaces": ("user namespace",),
    "RestrictAddressFamilies": ("netlink",),
    "SystemCallArchitectures": ("32-bit",),
}
"""Layer → the attempts that it alone refuses, each of which shows that it is missing."""

FROM_PROC = ("no-new-privileges", "no-capabilities", "seccomp", "no-user-namespace", "no-swap")

LAYERS = ("not-dumpable", *FROM_PROC, *INSIDE)


MACHINE = """
import ctypes, errno, json, os, resource
libc = ctypes.CDLL(None, use_errno=True)

def let_through(result):
    return result != -1 or ctypes.get_errno() != errno.EPERM

def readv():
    class Iovec(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))
    buffer = ctypes.create_string_buffer(1)
    here = Iovec(ctypes.addressof(buffer), 1)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    return let_through(libc.process_vm_readv(
        os.getpid(), ctypes.byref(here), one, ctypes.byref(here), one, none))

with open("/proc/self/status") as file:
    status = dict(line.split(":", 1) for line in file)
abi = libc.syscall(444, None, ctypes.c_size_t(0), 1)
print(json.dumps({
    "landlock_abi": abi,
    "landlock_error": 0 if abi > 0 else ctypes.get_errno(),
    "filtered": status["Seccomp"].strip() == "2",
    "cores": resource.getrlimit(resource.RLIMIT_CORE)[1] != 0,
    "let_through": {
        "process_vm_readv": readv(),
        "pidfd_getfd": let_through(libc.syscall(438, os.pidfd_open(os.getpid()), 0, 0)),
        "ptrace": let_through(libc.ptrace(0x4206, 0, None, None)),
    },
}))
"""

LANDLOCK_SINCE = {"landlock": 1, "landlock-ports": 4, "landlock-scope": 6}
"""Layer → the ABI that brought it."""


@dataclass(frozen=True)
class Machine:
    """What the machine itself does to every process of the user's, whatever unit it is of."""

    landlock_abi: int
    landlock_error: int
    """Why there is none: ENOSYS, EOPNOTSUPP; EPERM where a container's filter refuses it."""
    filtered: bool
    """A filter is around all of it, as a container's is."""
    cores: bool
    """Whether anybody may ask for cores at all."""
    let_through: dict[str, bool]
    """Whether a process may make that call on itself, which nothing but a filter refuses."""

    @property
    def lacks(self) -> set[str]:
        """The layers that nobody can have here."""
        return {layer for layer, abi in LANDLOCK_SINCE.items() if self.landlock_abi < abi}

    @property
    def keeps(self) -> set[str]:
        """The layers that nobody can be without here."""
        found = {"seccomp": self.filtered, "no-core": not self.cores}
        return {layer for layer, holds in found.items() if holds}

    @property
    def attacks(self) -> dict[str, bool]:
        """Which attacks work on a process that nothing of ours protects."""
        return {name: self.let_through.get(name, True) for name in ATTACKS}


def machine_of(session: Session) -> Machine:
    """Find it out beside the daemon's unit."""
    return Machine(**json.loads(session.script(MACHINE)))


def attacks_on(session: Session, pid: str) -> dict[str, bool]:
    """Return which ways another process of the same uid has into `pid`."""
    return dict(json.loads(session.script(ATTACK, pid)))


def start_inside(session: Session, *taken: str, settings: str = "", venv: Path) -> None:
    """Start the shipped unit with `inside.py` as its program, these functions and settings less."""
    session.write("inside.py", PROGRAM)
    command = [f"{venv}/bin/python", f"{session.home}/inside.py", f"{session.home}/{REPORT}"]
    started = f"[Service]\nExecStart=\nExecStart={' '.join([*command, *taken])}\nRestart=no\n"
    session.write(f"{DROP_INS}/inside.conf", started + settings)
    session.systemctl("daemon-reload")
    session.systemctl("start", SERVICE)


def missing(session: Session) -> set[str]:
    """Return the layers that are not in force around the daemon that `start_inside` started."""
    could = json.loads(session.good("cat", REPORT))
    found = {layer for layer, attempts in INSIDE.items() if any(could[each] for each in attempts)}
    if any(attacks_on(session, session.main_pid()).values()):
        found.add("not-dumpable")
    return found | _missing_in_proc(session)


def _missing_in_proc(session: Session) -> set[str]:
    pid = session.main_pid()
    names = ("status", "uid_map", "cgroup")
    ask = "cd /proc/$1; cat status; echo; cat uid_map; echo; cat cgroup"
    told = session.good("sh", "-c", ask, "_", pid, root=True).split("\n\n")
    files = dict(zip(names, told, strict=True))
    status = dict(line.split(":", 1) for line in files["status"].splitlines())
    wanted = {
        "no-new-privileges": status["NoNewPrivs"].strip() == "1",
        "seccomp": status["Seccomp"].strip() == "2",
        "no-capabilities": not status["CapEff"].strip().strip("0"),
        "no-user-namespace": files["uid_map"].split() == ["0", "0", str(2**32 - 1)],
        "no-swap": _is_never_swapped(session, files["cgroup"], status),
    }
    assert set(wanted) == set(FROM_PROC)
    return {layer for layer, holds in wanted.items() if not holds}


def _is_never_swapped(session: Session, cgroup: str, status: dict[str, str]) -> bool:
    """By the kernel's word; by the manager's where the memory controller is of cgroup v1."""
    path = cgroup.rpartition("0::")[2].strip()
    done = session.run("cat", f"/sys/fs/cgroup{path}/memory.swap.max")
    limit = done.stdout.strip() if done.returncode == 0 else session.show("MemorySwapMax")
    return limit == "0" and status["VmSwap"].split()[0] == "0"
