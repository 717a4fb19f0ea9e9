"""Landlock, judged by what a confined process can still do; the table, number by number."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from brokerd.core.checks import Verdict
from brokerd.host.confinement import landlock


HEADER = Path("/usr/include/linux/landlock.h")

# As in the kernel's documentation, Documentation/userspace-api/landlock.rst.
CONSTANTS = {
    "ACCESS_FS_EXECUTE": 0x1, "ACCESS_FS_WRITE_FILE": 0x2, "ACCESS_FS_READ_FILE": 0x4,
    "ACCESS_FS_READ_DIR": 0x8, "ACCESS_FS_REMOVE_DIR": 0x10, "ACCESS_FS_REMOVE_FILE": 0x20,
    "ACCESS_FS_MAKE_CHAR": 0x40, "ACCESS_FS_MAKE_DIR": 0x80, "ACCESS_FS_MAKE_REG": 0x100,
    "ACCESS_FS_MAKE_SOCK": 0x200, "ACCESS_FS_MAKE_FIFO": 0x400, "ACCESS_FS_MAKE_BLOCK": 0x800,
    "ACCESS_FS_MAKE_SYM": 0x1000, "ACCESS_FS_REFER": 0x2000, "ACCESS_FS_TRUNCATE": 0x4000,
    "ACCESS_FS_IOCTL_DEV": 0x8000,
    "ACCESS_NET_BIND_TCP": 0x1, "ACCESS_NET_CONNECT_TCP": 0x2,
    "SCOPE_ABSTRACT_UNIX_SOCKET": 0x1, "SCOPE_SIGNAL": 0x2,
}  # fmt: skip
OURS = {"SCOPE_ABSTRACT_UNIX_SOCKET": "SCOPE_ABSTRACT"}


def abi_here():
    try:
        return landlock.abi(), "this kernel is older"
    except OSError as error:
        return 0, landlock.missing(error)[0].told


ABI, WHY_NOT = abi_here()


def needs_abi(version):
    return pytest.mark.skipif(version > ABI, reason=f"needs Landlock ABI {version}: {WHY_NOT}")


def our_value(name):
    short = OURS.get(name, re.sub("ACCESS_(FS|NET)_", "", name))
    return getattr(landlock, short)


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_each_right_has_its_number(name, value):
    assert our_value(name) == value


@pytest.mark.skipif(not HEADER.exists(), reason="needs linux-libc-dev")
def test_the_numbers_are_those_of_this_machines_header():
    text = HEADER.read_text()
    found = re.findall(r"define LANDLOCK_((?:ACCESS|SCOPE)_\w+)\s+\(1ULL << (\d+)\)", text)
    assert found
    known = [(name, int(bit)) for name, bit in found if name in CONSTANTS]
    assert known == [(name, our_value(name).bit_length() - 1) for name, _ in known]


@pytest.mark.parametrize(
    ("abi", "rights"),
    [
        (1, (0x1FFF, 0, 0)),
        (2, (0x3FFF, 0, 0)),
        (3, (0x7FFF, 0, 0)),
        (4, (0x7FFF, 3, 0)),
        (5, (0xFFFF, 3, 0)),
        (6, (0xFFFF, 3, 3)),
        (7, (0xFFFF, 3, 3)),
        (8, (0xFFFF, 3, 3)),  # newer ones are used as the newest that was tried
        (99, (0xFFFF, 3, 3)),
    ],
)
def test_each_right_is_pinned_to_its_abi(abi, rights):
    assert landlock.handled(abi) == rights


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSYS, "built without Landlock"),
        (errno.EOPNOTSUPP, "switched off at boot"),
        (errno.EPERM, "the unit's SystemCallFilter= or a container's filter refuses"),
        (errno.ENOMEM, "Landlock failed"),
    ],
)
def test_a_machine_without_it_says_why_and_how_to_mend_it(number, words):
    checks = landlock.missing(OSError(number, os.strerror(number)))
    assert [check.name for check in checks] == list(landlock.LAYERS)
    for check in checks:
        assert check.verdict is Verdict.WARNING
        assert words in check.told
        assert re.search(r": [a-z]", check.mend), "ends in a command"


PROGRAM = """
import ctypes, errno, json, os, signal, socket, struct, sys
from brokerd.core.reach import Reach
from brokerd.host.confinement import landlock, probe

given = json.loads(sys.argv[1])
if old := given.pop("abi", None):
    landlock.abi = lambda: old
if given.get("filtered"):  # as a container's, or a unit's SystemCallFilter=
    def op(code, yes, no, value):
        return struct.pack("=HBBI", code, yes, no, value)
    words = [
        op(0x20, 0, 0, 0),  # load the number of the call
        op(0x35, 0, 2, 444),  # at least landlock_create_ruleset
        op(0x25, 1, 0, 446),  # and not above landlock_restrict_self
        op(0x06, 0, 0, 0x00050000 | errno.EPERM),  # SECCOMP_RET_ERRNO
        op(0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    program = b"".join(words)
    held = ctypes.create_string_buffer(program, len(program))
    attached = struct.pack("HP", len(words), ctypes.addressof(held))
    zero = ctypes.c_ulong(0)
    assert ctypes.CDLL(None).prctl(38, ctypes.c_ulong(1), zero, zero, zero) == 0
    assert ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), attached, zero, zero) == 0
code = {sys.prefix, sys.base_prefix, *filter(None, sys.path), "/usr", "/lib", "/proc"}
reach = Reach(
    readable=frozenset(given["readable"]) | code,
    writable=frozenset(given["writable"]),
    connect_ports=frozenset(given["connect"]),
    bind_ports=frozenset(given["bind"]),
    abstract_sockets=given.get("abstract", False),
)
before = len(os.listdir("/proc/self/fd"))
checks = landlock.apply(reach) if given["confined"] else []
leaked = len(os.listdir("/proc/self/fd")) - before

def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def connected(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.connect(address)

def bound(port):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))

def executed():
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)

def written(path):
    with open(path, "w") as file:
        file.write("x")

def moved(old, new):
    written(old)
    os.rename(old, new)
    os.unlink(new)

def probed(*, ports):
    known = reach if ports else None
    return {check.name: check.holds for check in probe.landlock_in_force(known)}

tries = {
    "open": lambda path: open(path).close(),
    "list": os.listdir,
    "write": written,
    "move": moved,
    "mkdir": os.mkdir,
    "connect": lambda port: connected(socket.AF_INET, ("127.0.0.1", port)),
    "abstract": lambda name: connected(socket.AF_UNIX, chr(0) + name),
    "unix": lambda path: connected(socket.AF_UNIX, path),
    "bind": bound,
    "exec": executed,
    "signal": lambda pid: os.kill(pid, 0),
}
print(json.dumps({
    "checks": [[check.name, check.verdict, check.told] for check in checks],
    "probed": probed(ports=True),
    "leaked": leaked,
    "outcomes": [outcome(lambda: tries[what](*args)) for what, *args in given["tries"]],
}))
"""


def run(*tries, confined=True, readable=(), writable=(), connect=(), bind=(), home=None, **more):
    """Let a child confine itself, then try; returns what it told."""
    given = {
        "confined": confined,
        "readable": [str(path) for path in readable],
        "writable": [str(path) for path in writable],
        "connect": list(connect),
        "bind": list(bind),
        "tries": tries,
        **more,
    }
    environ = {**os.environ, "HOME": str(home)} if home else None
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd="/",
        env=environ,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def outcomes(*tries, **given):
    return run(*tries, **given)["outcomes"]


@pytest.fixture
def folders(tmp_path):
    for name in ("home", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "home/secret").write_text("s")
    (tmp_path / "state/kept").write_text("s")
    return tmp_path


@pytest.fixture
def ports():
    """Two ports on loopback that answer."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as b,
    ):
        yield one.getsockname()[1], b.getsockname()[1]


@needs_abi(6)
def test_every_layer_is_said_to_hold_and_no_descriptor_is_left():
    told = run()
    assert [(name, verdict) for name, verdict, _ in told["checks"]] == [
        (name, "ok") for name in landlock.LAYERS
    ]
    assert told["leaked"] == 0


@needs_abi(1)
@pytest.mark.parametrize("confined", [True, False])
def test_files(folders, confined):
    """The same attempts unconfined: so each refusal is Landlock's."""
    home, state = folders / "home", folders / "state"
    found = outcomes(
        ("open", f"{home}/secret"),
        ("list", str(home)),
        ("write", f"{home}/planted"),
        ("mkdir", f"{home}/folder"),
        ("list", "/"),
        ("open", f"{state}/kept"),
        ("write", f"{state}/new"),
        ("move", f"{state}/.new.tmp", f"{state}/moved"),
        ("mkdir", f"{state}/folder"),
        ("list", str(state)),
        confined=confined,
        writable=[state, "/dev/null", "/nonexistent"],
    )
    assert found == ["EACCES" if confined else "done"] * 5 + ["done"] * 5


@needs_abi(1)
def test_readable_is_not_writable_and_a_file_is_that_file_alone(folders):
    home = folders / "home"
    (home / "other").write_text("")
    found = outcomes(
        ("open", f"{home}/secret"),
        ("write", f"{home}/secret"),
        ("open", f"{home}/other"),
        readable=[home / "secret"],
    )
    assert found == ["done", "EACCES", "EACCES"]
    found = outcomes(("open", f"{home}/other"), ("write", f"{home}/new"), readable=[home])
    assert found == ["done", "EACCES"]


@needs_abi(4)
@pytest.mark.parametrize("confined", [True, False])
def test_ports(ports, confined):
    listed, other = ports
    found = outcomes(
        ("connect", listed), ("connect", other), ("bind", 0), confined=confined, connect=[listed]
    )
    assert found == ["done", *(["EACCES"] * 2 if confined else ["done"] * 2)]


@needs_abi(4)
def test_one_port_may_be_bound(ports):
    with socket.socket() as one, socket.socket() as other:  # two that nobody has
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        free, unlisted = one.getsockname()[1], other.getsockname()[1]
    found = outcomes(("bind", free), ("bind", unlisted), ("bind", 0), bind=[free])
    assert found == ["done", "EACCES", "EACCES"]
    assert outcomes(("connect", ports[0]), bind=[ports[0]]) == ["EACCES"]


@needs_abi(4)
def test_a_port_of_the_kernels_choice_can_be_permitted_alone():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        free = one.getsockname()[1]
    found = outcomes(("bind", 0), ("bind", free), bind=[0])
    assert found == ["done", "EACCES"]


@needs_abi(6)
@pytest.mark.parametrize("confined", [True, False])
def test_nothing_is_executed_and_nobody_outside_is_signalled(confined):
    found = outcomes(("exec",), ("signal", os.getpid()), confined=confined)
    assert found == (["EACCES", "EPERM"] if confined else ["done", "done"])


@needs_abi(6)
@pytest.mark.parametrize(("abstract", "expected"), [(False, "EPERM"), (True, "done")])
def test_abstract_sockets_are_out_of_reach_unless_asked_for(tmp_path, abstract, expected):
    name = f"landlock-test-{os.getpid()}"
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as hidden, socket.socket(socket.AF_UNIX) as plain:
        hidden.bind(f"\0{name}")
        hidden.listen()
        plain.bind(path)
        plain.listen()
        found = outcomes(("abstract", name), ("unix", path), abstract=abstract)
    assert found == [expected, "done"]  # a socket with a path is the folder's mode to decide


@pytest.mark.parametrize(
    ("abi", "layers"),
    [
        pytest.param(abi, layers, marks=needs_abi(abi))
        for abi, layers in ((1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3))
    ],
)
def test_each_older_abi_does_what_it_can(folders, ports, abi, layers):
    told = run(
        ("open", f"{folders}/home/secret"),
        ("connect", ports[0]),
        ("signal", os.getpid()),
        ("write", f"{folders}/state/new"),
        writable=[folders / "state"],
        abi=abi,
    )
    refused = ["EACCES", "EACCES", "EPERM"]
    assert told["outcomes"] == [*refused[:layers], *["done"] * (3 - layers), "done"]
    held = [name for name, verdict, _ in told["checks"] if verdict == "ok"]
    assert held == list(landlock.LAYERS[:layers])
    assert [name for name, holds in told["probed"].items() if holds] == held


@needs_abi(6)
def test_what_holds_is_found_out_by_trying(folders):
    assert run(home=folders / "home")["probed"] == dict.fromkeys(landlock.LAYERS, True)
    open_ = run(home=folders / "home", confined=False)["probed"]
    assert open_ == dict.fromkeys(landlock.LAYERS, False)
    # a home folder within reach is no home folder out of reach
    opened = run(home=folders / "home", readable=[folders])["probed"]
    assert opened["landlock"] is False


@needs_abi(1)
def test_threads_that_began_before_are_told_of():
    program = (
        "import threading\n"
        "from brokerd.core.reach import Reach\n"
        "from brokerd.host.confinement import landlock\n"
        "end = threading.Event()\n"
        "thread = threading.Thread(target=end.wait); thread.start()\n"
        "print([(c.holds, c.told) for c in landlock.apply(Reach(readable=frozenset({'/proc'})))])\n"
        "end.set(); thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.count("(False, '1 threads began before it was in force')") == 3


def test_where_a_filter_refuses_its_calls_all_goes_on_and_is_told(folders, ports):
    told = run(
        ("open", f"{folders}/home/secret"),
        ("connect", ports[0]),
        ("signal", os.getpid()),
        ("write", f"{folders}/state/new"),
        writable=[folders / "state"],
        filtered=True,
    )
    why = landlock.missing(OSError(errno.EPERM, ""))[0].told
    assert told["checks"] == [[name, "warning", why] for name in landlock.LAYERS]
    assert told["probed"] == dict.fromkeys(landlock.LAYERS, False)
    assert told["outcomes"] == ["done"] * 4
    assert told["leaked"] == 0
