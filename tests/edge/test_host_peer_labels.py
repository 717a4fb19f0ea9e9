"""Labels of a process: what fixed texts of the kernel and of security modules mean."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from brokerd.host.peers.labels import (
    SO_PEERSEC,
    Labels,
    label_in,
    labels_of,
    peer_label,
    process_label,
)


if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def proc(tmp_path):
    """A /proc with process 77, which nothing is known of yet."""
    (tmp_path / "77" / "attr").mkdir(parents=True)
    return tmp_path


def placed(proc: Path, cgroup: str, label: str = "") -> tuple[str, str]:
    (proc / "77" / "cgroup").write_text(cgroup)
    found = labels_of(77, label, proc=str(proc))
    return found.unit, found.sandbox


USER = "0::/user.slice/user-1000.slice/user@1000.service"

UNITS = [
    (f"{USER}/app.slice/my-tool.service\n", "my-tool.service"),
    ("0::/user.slice/user-1000.slice/session-2.scope\n", "session-2.scope"),
    (f"{USER}/app.slice/a.service/inner/b\n", "a.service"),
    # a process may make cgroups below its own, of any name
    (f"{USER}/app.slice/a.service/b.service\n", "a.service"),
    # systemd.unit(5) allows names that the kernel has for files of its own
    (f"{USER}/app.slice/_memory.service\n", "memory.service"),
    (f"{USER}/app.slice/__private.scope\n", "_private.scope"),
    (f"{USER}/app.slice/\x1b[2J\u202ea.service\n", "?[2J?a.service"),
    (f"{USER}/app.slice/a\x0cb.service/c.service\n", "a?b.service"),
    (f"{USER}/init.scope\n", "init.scope"),
    (f"{USER}\n", "user@1000.service"),
    ("4:cpu:/x.service\n1:name=systemd:/user.slice/b.service\n0::/\n", "b.service"),
    ("9:name=systemd:/user.slice/b.service\n0::/\n", "b.service"),
    ("9:name=systemd:/b.service\n0::/a.service\n", "a.service"),
    ("0::/\n", ""),
    ("", ""),
    ("0::/user.slice/x.slice\n", ""),
    ("nonsense\n::/a.service\nx::/a.service", ""),
    (f"0::/{'x' * 400}.service", "x" * 255),
]


@pytest.mark.parametrize(("cgroup", "unit"), UNITS)
def test_unit(proc, cgroup, unit):
    assert placed(proc, cgroup)[0] == unit


HEX = "0123456789abcdef" * 4

SANDBOXES = [
    (f"{USER}/app.slice/app-flatpak-org.mozilla.firefox-4242.scope\n", "flatpak"),
    (f"{USER}/flatpak-org.gnome.Builder-17.scope\n", "flatpak"),
    (f"{USER}/app.slice/snap.firefox.firefox-{HEX[:8]}.scope\n", "snap"),
    ("0::/system.slice/snap.lxd.daemon.service\n", "snap"),
    (f"0::/system.slice/docker-{HEX}.scope\n", "container"),
    (f"0::/\n4:memory:/docker/{HEX}\n", "container"),
    (f"{USER}/user.slice/libpod-{HEX}.scope/container\n", "container"),
    (f"0::/machine.slice/libpod-payload-{HEX}\n", "container"),
    (f"0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-{HEX}.scope\n", "container"),
    ("0::/kubepods/besteffort/pod1/2\n", "container"),
    (
        f"0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{HEX}\n",
        "container",
    ),
    (f"0::/a.slice/crio-{HEX}.scope\n", "container"),
    ("0::/lxc.payload.box/init.scope\n", "container"),
    ("4:cpu:/lxc/box\n", "container"),
    ("0::/machine.slice/machine-box.scope\n", "container"),
    ("0::/machine.slice/systemd-nspawn@box.service\n", "container"),
    # whoever is inside of one cannot hide it below a name of its own
    (f"{USER}/app-flatpak-a.b-1.scope/docker-{HEX}.scope\n", "flatpak"),
    (f"{USER}/app.slice/my-tool.service\n", "none"),
    ("0::/system.slice/docker.service\n", "none"),
    (f"{USER}/app.slice/flatpak-session-helper.service\n", "none"),
    (f"{USER}/app.slice/snapshot.service\n", "none"),
    (f"{USER}/app.slice/dockerish-app.scope\n", "none"),
    ("0::/\n", "none"),
    ("", ""),
]


@pytest.mark.parametrize(("cgroup", "sandbox"), SANDBOXES)
def test_sandbox(proc, cgroup, sandbox):
    assert placed(proc, cgroup)[1] == sandbox


@pytest.mark.parametrize(
    ("label", "sandbox"),
    [
        ("snap.firefox.firefox", "snap"),
        ("docker-default", "container"),
        ("containers-default-0.50.1", "container"),
        ("cri-containerd.apparmor.d", "container"),
        ("lxc-container-default-cgns", "container"),
        ("system_u:system_r:container_t:s0:c1,c2", "container"),
        ("system_u:system_r:container_init_t:s0:c1,c2", "container"),
        ("system_u:system_r:svirt_lxc_net_t:s0:c1,c2", "container"),
        ("system_u:system_r:spc_t:s0", "container"),
        ("unconfined_u:unconfined_r:unconfined_t:s0", "none"),
        ("system_u:system_r:container_runtime_t:s0", "none"),
        ("unconfined", "none"),
        ("my-snap.profile", "none"),
    ],
)
def test_sandbox_by_security_label(proc, label, sandbox):
    assert placed(proc, "0::/a.service\n", label)[1] == sandbox
    (proc / "77" / "cgroup").unlink()  # where the cgroup says nothing, only a hint is knowledge
    known = labels_of(77, label, proc=str(proc)).sandbox
    assert known == ("" if sandbox == "none" else sandbox)


LABELS = [
    (b"snap.firefox.firefox (enforce)", "snap.firefox.firefox"),
    (b"docker-default (enforce)\n", "docker-default"),
    (b"/usr/bin/a b (complain)", "/usr/bin/a b"),
    (b"chrome (unconfined)", "chrome"),
    (b"firefox//&unpriv (enforce)", "firefox//&unpriv"),
    (b"unconfined", "unconfined"),
    (b"unconfined\n", "unconfined"),
    (b"system_u:system_r:container_t:s0:c1,c2\0", "system_u:system_r:container_t:s0:c1,c2"),
    (b"", ""),
    (b"\0", ""),
    (b"a\nPEER_UID=0\x1b[0m\xff", "a?PEER_UID=0?[0m\ufffd"),
    (b"x" * 2000, "x" * 255),
]


@pytest.mark.parametrize(("raw", "label"), LABELS)
def test_security_label(proc, raw, label):
    assert label_in(raw) == label
    (proc / "77" / "attr" / "current").write_bytes(raw[:1024])
    assert process_label(77, proc=str(proc)) == label
    assert peer_label(Labelled(raw[:1024])) == label


class Labelled:
    """A connection on a machine with a security module."""

    def __init__(self, raw: bytes = b"", number: int = 0) -> None:
        self.raw = raw
        self.number = number

    def getsockopt(self, level, option, room):
        assert (level, option, room) == (socket.SOL_SOCKET, SO_PEERSEC, 1024)
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        return self.raw


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.ERANGE])
def test_no_security_label(proc, number):
    assert peer_label(Labelled(number=number)) == ""
    assert process_label(77, proc=str(proc)) == ""


def test_this_kernel_gives_the_same_label_both_ways():
    """Both are empty without a security module; with one, both say who runs this test."""
    a, b = socket.socketpair()
    with a, b:
        assert peer_label(a) == process_label(os.getpid())


def test_names_are_words_that_a_log_can_hold(proc, tmp_path):
    (proc / "77" / "comm").write_bytes(b"a\tb\x1b" + b"x" * 100 + b"\n")
    program = tmp_path / "pro\ngram"
    (proc / "77" / "exe").symlink_to(program)
    found = labels_of(77, "", proc=str(proc))
    assert found.comm == "a?b?" + "x" * 60
    assert found.exe == str(program).replace("\n", "?")


def test_nothing_is_known_of_nobody(proc):
    assert labels_of(78, "", proc=str(proc)) == Labels()


def test_a_long_list_of_cgroups_is_not_read_to_its_end(proc):
    filler = "".join(f"{n}:x{n}:/{'y' * 1000}\n" for n in range(2, 40))
    assert placed(proc, f"0::/a.service\n{filler}") == ("a.service", "")
    assert placed(proc, f"{filler}0::/lxc.payload.box\n") == ("", "")  # not "none"
    assert placed(proc, f"0::/lxc.payload.box\n{filler}") == ("", "container")
