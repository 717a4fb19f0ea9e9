"""copilot-cred as people run it: a process of its own, with or without a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time


COMMAND = [sys.executable, "-P", "-m", "copilot_broker.cli"]
WITHOUT_RICH = [
    sys.executable,
    "-P",
    "-c",
    "import sys; sys.modules['rich'] = None; from copilot_broker.cli import main; sys.exit(main())",
]
"""The same where the `[cli]` extra is not installed."""
PATIENCE = 30.0

OWN_TERMINAL = [shutil.which("setsid"), "--ctty"]
"""In a session of its own whose terminal is stdin, so that Ctrl-C is a signal (setsid(1))."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run(*args, env, stdin="", **options):
    """Run to the end, without a terminal."""
    return subprocess.run(
        [*COMMAND, *args],
        env=env,
        input=stdin,
        text=True,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


class Terminal:
    """copilot-cred on a pseudo-terminal: all of what it shows is in `shown`."""

    def __init__(self, *args, env, stdout=None, command=None):
        self.shown = ""
        master, slave = pty.openpty()
        self._master = master
        self.process = subprocess.Popen(
            [*OWN_TERMINAL, *(command or COMMAND), *args],
            env={"TERM": "xterm", **env},
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._master)

    def press(self, keys):
        os.write(self._master, keys.encode())

    def wait_for(self, pattern):
        """Read until the pattern is shown (escape sequences taken out)."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown):
            assert self._read(deadline), f"{pattern!r} never came: {self.shown!r}"

    def ends(self):
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline):
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the other side is closed (pty(7))
            return False
        self.shown += ESCAPES.sub("", data.decode())
        return bool(data)
