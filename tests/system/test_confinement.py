"""What the kernel says about the running daemon, and what another user gets from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
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
