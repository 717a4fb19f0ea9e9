"""The daemon as its unit starts it, which first writes down what it could do of what it must not.

    python inside.py REPORT [FUNCTION…]

Runs in the installed environment, in the daemon's place. Each attempt is made in a fork, which has
the confinement of its parent: same filter, same Landlock domain, same limits. FUNCTION is what is
taken away first: it then does nothing. REPORT is JSON, attempt → whether it succeeded.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd import cli
from brokerd.host.confinement import landlock
from brokerd.host.confinement import layers as confinement


if TYPE_CHECKING:
    from collections.abc import Callable


KEYCTL = {"x86_64": 250, "aarch64": 219}
GETPID_OF_I386 = bytes.fromhex("b8 14 00 00 00 cd 80 c3")  # mov $20, %eax; int $0x80; ret

libc = ctypes.CDLL(None, use_errno=True)
HOME = os.environ["HOME"]
MANAGER = os.getppid()


def let_through(result: int) -> bool:
    """Tell a system call that the kernel saw from one that the filter refused with EPERM."""
    return result != -1 or ctypes.get_errno() != errno.EPERM


def opened(path: str, flags: int) -> bool:
    os.close(os.open(path, flags, 0o666))
    return True


def made_readable() -> bool:
    place = Path(REPORT).with_name("mode")
    opened(str(place), os.O_WRONLY | os.O_CREAT)
    mode = place.stat().st_mode
    place.unlink()
    return bool(mode & 0o077)


def executed() -> bool:
    return os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0


def connected() -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", 9)) != errno.EACCES


def bound() -> bool:
    """A port of one's own choice, which is free; one of the kernel's is for runs."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()
    with socket.socket() as sock:
        sock.bind(free)
    return True


def signalled() -> bool:
    os.kill(MANAGER, 0)
    return True


def netlink() -> bool:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
    return True


def read_memory() -> bool:
    class Iovec(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(1)
    vector = Iovec(ctypes.addressof(buffer), 1)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    there = ctypes.byref(vector)
    return let_through(libc.process_vm_readv(os.getpid(), there, one, there, one, none))


def mapped() -> bool:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return True


def set_uid_file() -> bool:
    os.fchmod(os.memfd_create("probe"), 0o4700)
    return True


def other_architecture() -> bool:
    """Ask for our pid as a 32-bit program does."""
    if os.uname().machine != "x86_64":
        return False
    fd = os.memfd_create("code")
    os.write(fd, GETPID_OF_I386)
    libc.mmap.restype = ctypes.c_void_p
    size, readable_and_executable, private = ctypes.c_size_t(4096), 1 | 4, 2
    address = libc.mmap(None, size, readable_and_executable, private, fd, ctypes.c_long(0))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid()


ATTEMPTS: dict[str, Callable[[], bool]] = {
    "readable files": made_readable,
    "core": lambda: resource.getrlimit(resource.RLIMIT_CORE)[0] != 0,
    "list home": lambda: opened(HOME, os.O_RDONLY | os.O_DIRECTORY),
    "write home": lambda: opened(HOME, os.O_WRONLY | os.O_TMPFILE),
    "exec": executed,
    "connect": connected,
    "bind": bound,
    "signal": signalled,
    "mount": lambda: let_through(libc.mount(b"x", b"/nonexistent", b"tmpfs", 0, None)),
    "chroot": lambda: let_through(libc.chroot(b"/nonexistent")),
    "ptrace": lambda: let_through(libc.ptrace(2, os.getpid(), None, None)),
    "process_vm_readv": read_memory,
    "keyctl": lambda: let_through(libc.syscall(KEYCTL[os.uname().machine], 0, -3, 0, 0, 0)),
    "setpriority": lambda: let_through(libc.setpriority(0, 0, 19)),
    "setuid": lambda: let_through(libc.setuid(os.getuid())),
    "personality": lambda: let_through(libc.personality(ctypes.c_ulong(8))),
    "write and execute": mapped,
    "realtime": lambda: let_through(libc.sched_setscheduler(0, 1, bytes(4))),
    "set-uid file": set_uid_file,
    "user namespace": lambda: let_through(libc.unshare(0x10000000)),
    "netlink": netlink,
    "32-bit": other_architecture,
}


def succeeds(attempt: Callable[[], bool]) -> bool:
    """Make the attempt in a fork; who is killed for it has not succeeded."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if attempt() else 1)
        except OSError:
            os._exit(1)
        except BaseException as broken:  # the attempt itself is
            sys.stderr.write(f"{broken!r}\n")
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGSYS, signal.SIGSEGV), status
        return False
    assert os.WEXITSTATUS(status) in (0, 1), status
    return os.WEXITSTATUS(status) == 0


def report() -> None:
    found = {name: succeeds(attempt) for name, attempt in ATTEMPTS.items()}
    Path(REPORT).write_text(json.dumps(found))


def main() -> int:
    for name in sys.argv[2:]:
        module = landlock if name in ("apply", "_no_new_privileges") else confinement
        assert hasattr(module, name), name
        setattr(module, name, lambda *_: [])
    from_outside = confinement.from_outside  # the last thing before the daemon's parts

    def reporting() -> list[confinement.Check]:
        report()
        return from_outside()

    confinement.from_outside = reporting
    return cli.main([])


if __name__ == "__main__":
    REPORT = sys.argv[1]
    sys.exit(main())
