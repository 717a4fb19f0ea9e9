"""Who is at the other end of a connection, as the kernel said it: a value, and nothing that asks.

uid, gid and pid are frozen at connect(2) (unix(7), SO_PEERCRED). The pid is a number that the
kernel gives out again once its process is gone, so everything after the uid rests on the pidfd,
which names the process itself. Identity only ever lowers rights; the uid is the gate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket


__all__ = ["Peer", "PeerOf", "ProcessHandle"]


class ProcessHandle(Protocol):
    """A hold on one process, never on whoever gets its number next; `host.peercred` fills it."""

    def fileno(self) -> int:
        """Return the pidfd; -1 once closed."""
        ...

    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        ...

    def close(self) -> None:
        """Let go; closing twice is no error."""
        ...


@dataclass(frozen=True)
class Peer:
    """The process that connected. Close it together with the connection."""

    pid: int
    """Number at connect time; a label for the audit log, never a key to look things up with."""
    uid: int
    gid: int
    pidfd: ProcessHandle | None = field(default=None, repr=False, compare=False)
    """None when the kernel has no pidfds or the process was gone when we asked."""
    weak: bool = True
    """True when the pidfd is not the kernel's own word (SO_PEERPIDFD, Linux 6.5) but was opened by
    number afterwards, or is missing: somebody else may have had that number by then."""
    unit: str = ""
    """systemd unit of the process' cgroup, "" if unknown. The peer can choose it: a label."""
    label: str = ""
    """Security label (SO_PEERSEC: AppArmor, SELinux, Smack) without its mode; "" if unknown."""
    sandbox: str = ""
    """`none`, `flatpak`, `snap` or `container`, as cgroup and label tell; "" if unknown. A program
    outside of any sandbox can look like one inside: this only ever lowers rights."""
    comm: str = ""
    """The process' own name for itself (proc(5), comm), for the audit log; "" if unknown."""
    exe: str = ""
    """Path of its program, for the audit log and never a grant: whoever connects can exec another
    one afterwards. "" where it cannot be read, as under Landlock."""
    key: str = ""
    """Name of the key that its request has shown to the HTTP door; "" for none."""
    gone: bool = False
    """The kernel itself said that the process had ended before we asked."""

    def is_alive(self) -> bool:
        """Whether the process that connected still runs; True when the kernel cannot tell."""
        if self.gone:
            return False
        return self.pidfd is None or self.pidfd.is_alive()

    def close(self) -> None:
        """Let go of the pidfd; closing twice is no error."""
        if self.pidfd is not None:
            self.pidfd.close()


PeerOf: TypeAlias = "Callable[[socket], Peer]"
"""How a door learns who connected; raises OSError when the kernel does not say."""
