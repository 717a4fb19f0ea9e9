"""What can be told of a process besides its uid: unit, sandbox, security label, names.

All of it is for rules that take rights away and for the audit log. A program outside of any
sandbox can choose its cgroup, its name and its program; what it cannot do is leave a sandbox's
cgroup from within. So where several names stand in a path, the outermost one counts.

What is read by number here belongs to the right process only if its pidfd is still alive
afterwards: that is for the caller to look at (`host.peercred`).
"""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from typing import NamedTuple


__all__ = ["SO_PEERSEC", "Labels", "label_in", "labels_of", "peer_label", "process_label"]

SO_PEERSEC = 31
"""<asm-generic/socket.h>; Python's socket module does not name it."""

_LABEL_MAX = 1024
"""Bytes of a security label: the most that Python's getsockopt gives, and far above real ones."""

_CGROUP_MAX = 16 * 1024
"""Bytes of /proc/PID/cgroup that are read: one line a hierarchy, paths up to PATH_MAX."""

_COMM_MAX = 64
"""Bytes of a process' name for itself: 15, more for kernel threads (proc(5))."""

_NAME_MAX = 255
"""Characters of a unit's name (systemd.unit(5)) or of a security label that are kept."""

_PATH_MAX = 4096
"""Characters of a program's path, as the kernel has it."""

_PLACES_KEPT = 16
"""Texts whose meaning is remembered, each up to `_CGROUP_MAX`: most connections come from few
places, and to read one out takes a third of the time of a whole connection's labels."""

_UNIT_SUFFIXES = (".service", ".scope", ".socket")

_USER_MANAGER = re.compile(r"user@\d+\.service")
"""The unit that all of a user's own units are in: the ones inside say more."""

_LABEL_MODE = re.compile(r" \(\w+\)$")
"""AppArmor says how a profile is applied: `snap.firefox.firefox (enforce)`."""

_SANDBOX_CGROUP = re.compile(
    r"""(?:^|[/:])(?:
        (?P<flatpak> (?:app-)?flatpak-[^/\n]+\.scope )
      | (?P<snap> snap\.[^/\n]+\.(?:scope|service) )
      | (?P<container> (?:docker|lxc)/[^/\n]
          | (?:docker|libpod|crio|cri-containerd|nerdctl)-[^/\n]*\.scope
          | libpod_parent | libpod-payload- | kubepods | lxc\.payload
          | machine\.slice | machine-[^/\n]+\.scope | systemd-nspawn@ )
    )""",
    re.VERBOSE | re.MULTILINE,
)
"""How Flatpak, snapd, Docker, Podman, CRI-O, containerd, Kubernetes, LXC and machined name the
cgroups of what they start. Their own services (`docker.service`) are outside."""

_SANDBOX_LABEL = re.compile(
    r"""(?P<snap> snap\.)
      | (?P<container> docker- | containers-default | cri-containerd | crio- | lxc-
          | libvirt-
          | [^:]*:[^:]*:(?:container(?:_(?!runtime)\w+)?|svirt_lxc_net|spc)_t(?::|$) )
    """,
    re.VERBOSE,
)
"""AppArmor profiles and SELinux types (user:role:type:level) of the same."""


class Labels(NamedTuple):
    """What was found; each is "" if unknown. As in `core.peer.Peer`."""

    unit: str = ""
    label: str = ""
    sandbox: str = ""
    comm: str = ""
    exe: str = ""


def labels_of(pid: int, label: str, *, proc: str = "/proc") -> Labels:
    """Read by number what /proc tells of a process whose security label is `label`; never raises.

    Reads a bounded number of bytes. The program's path needs the right to trace the process, which
    a Landlock domain takes away: it is "" then.
    """
    folder = f"{proc}/{pid}/"
    unit, sandbox = _placed(_read(f"{folder}cgroup", _CGROUP_MAX), label)
    try:
        exe = os.readlink(f"{folder}exe".encode())  # noqa: PTH115 - once a connection, 3 µs less
    except OSError:
        exe = b""
    return Labels(
        unit=unit,
        label=label,
        sandbox=sandbox,
        comm=_word(_read(f"{folder}comm", _COMM_MAX).removesuffix(b"\n"), _COMM_MAX),
        exe=_word(exe, _PATH_MAX),
    )


def peer_label(sock: socket.socket) -> str:
    """Return the security label that the peer had at connect(2) (SO_PEERSEC); "" without one."""
    try:
        return label_in(sock.getsockopt(socket.SOL_SOCKET, SO_PEERSEC, _LABEL_MAX))
    except OSError:  # ENOPROTOOPT: no such module; ERANGE: longer than any real one
        return ""


def process_label(pid: int, *, proc: str = "/proc") -> str:
    """Return the security label that a process has now, by number; "" without one."""
    return label_in(_read(f"{proc}/{pid}/attr/current", _LABEL_MAX))


def label_in(raw: bytes) -> str:
    """Return the label as rules name it: without its end, and without AppArmor's mode.

    `unconfined` is a label like any other: the module looked and found no profile.
    """
    return _LABEL_MODE.sub("", _word(raw.rstrip(b"\0\n"), _NAME_MAX))


@lru_cache(maxsize=_PLACES_KEPT)
def _placed(cgroup: bytes, label: str) -> tuple[str, str]:
    """Return (unit, sandbox) as the text of /proc/PID/cgroup and the security label tell."""
    text = cgroup.decode("utf-8", "replace")
    sandbox = _sandbox_in(text, label)
    if sandbox == "none" and len(cgroup) == _CGROUP_MAX:
        sandbox = ""  # there is more, and a hint may be in it
    return _unit_in(text), sandbox


def _unit_in(cgroup: str) -> str:
    """Return the outermost systemd unit below the user's manager; "" if there is none."""
    lines = cgroup.split("\n")  # mkdir(2) refuses that one in a name
    # cgroup v2 is the line `0::/path`; on a hybrid machine systemd's is `9:name=systemd:/path`.
    for hierarchy in ("::", ":name=systemd:"):
        for line in lines:
            number, found, path = line.partition(hierarchy)
            if not (found and number.isdecimal()):
                continue
            units = [part for part in path.split("/") if part.endswith(_UNIT_SUFFIXES)]
            inside = (unit for unit in units if not _USER_MANAGER.fullmatch(unit))
            if unit := next(inside, units[0] if units else ""):
                # systemd writes `_memory.service` where a name could be taken for a file of the
                # kernel's or begins with `_` itself; rules name the unit.
                return _printable(unit.removeprefix("_"))[:_NAME_MAX]
    return ""


def _sandbox_in(cgroup: str, label: str) -> str:
    """Return the kind; `none` where the cgroup was read and nothing hints at one."""
    found = _SANDBOX_CGROUP.search(cgroup) or _SANDBOX_LABEL.match(label)
    if found is not None:
        return str(found.lastgroup)
    return "none" if cgroup else ""


def _word(raw: bytes, most: int) -> str:
    """Return a peer's word as it may stand in a log: printable, and no longer than `most`."""
    return _printable(raw.decode("utf-8", "replace")[:most])


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _read(path: str, most: int) -> bytes:
    """Return the first bytes of a file of /proc; b"" if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)
