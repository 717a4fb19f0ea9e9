"""A user of this machine with a real `systemd --user`, seen from the tests.

The session is made by `packaging/user-manager`; it lives as long as its command's stdin is open, so
it ends with the test run however that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Callable

    from system.witness import Witness


ROOT = Path(__file__).resolve().parents[2]
USER_MANAGER = str(ROOT / "packaging" / "user-manager")
USER = "cb-test"
SERVICE = "copilot-broker.service"
SOCKETS = ("copilot-broker.socket", "copilot-broker-http.socket")
POLL_INTERVAL = 0.05

# Runs the user's commands inside the session, one after the other: to enter its namespaces anew
# takes longer than most of the commands.
RUNNER = """
import json, subprocess, sys
for line in sys.stdin:
    argv, stdin, timeout = json.loads(line)
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout,
                              encoding="utf-8", errors="replace")
        told = [done.returncode, done.stdout, done.stderr]
    except subprocess.TimeoutExpired:
        told = None
    except OSError as error:
        told = [127, "", str(error)]
    print(json.dumps(told), flush=True)
"""


def eventually(ask: Callable[[], Any], within: float = 20.0, every: float = POLL_INTERVAL) -> Any:
    """Ask until the answer is true and return it; the last answer is in the failure."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {within} s; last answer: {answer!r}"
        time.sleep(every)  # another process's state: there is nothing to wait on
    return answer


class Session:
    """Runs commands as the user (or as root beside them) inside one session."""

    witness: Witness
    """Sees what the session shows of itself."""

    def __init__(self, name: str, *options: str) -> None:
        self.name = name
        argv = [USER_MANAGER, "--name", name, "--fresh-home", *options, USER, "--"]
        argv += ["sh", "-c", "id -u; pwd; exec cat"]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        uid = self._process.stdout.readline().strip()
        assert uid.isdigit(), "the session did not start; see above"
        self.uid = int(uid)
        self.home = self._process.stdout.readline().strip()
        self.runtime = f"/run/user/{self.uid}"
        self.rpc = f"{self.runtime}/copilot-broker/broker.sock"
        self.http = f"{self.runtime}/copilot-broker/http.sock"
        self._runner = subprocess.Popen(
            self.argv("/usr/bin/python3", "-c", RUNNER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """Close its stdin and wait for its end."""
        self._runner.communicate(timeout=60)
        self._process.communicate(timeout=60)

    def argv(self, *command: str, root: bool = False) -> list[str]:
        """Return the command line that runs `command` in the session."""
        as_root = ["--as-root"] if root else []
        return [USER_MANAGER, "--enter", "--name", self.name, *as_root, USER, "--", *command]

    def run(
        self, *command: str, stdin: str = "", root: bool = False, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit code."""
        if root:
            return subprocess.run(
                self.argv(*command, root=True),
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",  # the journal's export may hold any bytes
                timeout=timeout,
                check=False,
            )
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        self._runner.stdin.write(json.dumps([command, stdin, timeout]) + "\n")
        self._runner.stdin.flush()
        told = json.loads(self._runner.stdout.readline())
        if told is None:
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, *told)

    def good(self, *command: str, stdin: str = "", root: bool = False, timeout: float = 60) -> str:
        """Run a command that must succeed; returns its stdout."""
        done = self.run(*command, stdin=stdin, root=root, timeout=timeout)
        assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def spawn(self, *command: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            self.argv(*command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def spawn_with(self, stdin: str, *command: str) -> subprocess.Popen[str]:
        """Start a command, give it all of its stdin and leave it running."""
        pipe = subprocess.PIPE
        running = subprocess.Popen(
            self.argv(*command), stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        assert running.stdin is not None
        running.stdin.write(stdin)
        running.stdin.close()
        running.stdin = None  # `communicate` would flush it
        return running

    def script(self, source: str, *arguments: str, timeout: float = 60) -> str:
        """Run Python source that must succeed, as the user; returns its stdout."""
        return self.good("/usr/bin/python3", "-c", source, *arguments, timeout=timeout)

    def write(self, path: str, text: str) -> None:
        """Write a file of the user's, with its folders; `path` is relative to the home."""
        self.good("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "_", path, stdin=text)

    # The product's own commands, as set-up installed them.

    def cred(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `copilot-cred`."""
        return self.run(f"{self.home}/.local/bin/copilot-cred", *arguments, stdin=stdin)

    def status(self) -> dict[str, Any]:
        """Return what `copilot-cred status --json` says."""
        done = self.cred("status", "--json")
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    def systemctl(self, *arguments: str) -> str:
        """Run a `systemctl --user` that must succeed."""
        return self.good("systemctl", "--user", *arguments).strip()

    def show(self, name: str, unit: str = SERVICE) -> str:
        """Return one property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit)

    def main_pid(self) -> str:
        """Return the daemon's pid inside the session; "0" while there is none."""
        return self.show("MainPID")

    def proc(self, name: str) -> str:
        """Read a file of the daemon's /proc folder as root."""
        return self.good("cat", f"/proc/{self.main_pid()}/{name}", root=True)

    def journal(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the daemon's journal as the user reads it."""
        self.run("journalctl", "--sync", root=True)
        lines = self.good(
            "journalctl", "--user", "--unit", SERVICE, "--output=json", "-q", *arguments
        )
        return [json.loads(line) for line in lines.splitlines()]


def can_be_root() -> bool:
    """Tell whether sessions can be made here."""
    if os.geteuid() == 0:
        return True
    try:
        return (
            subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode
            == 0
        )
    except FileNotFoundError:
        return False
