"""What the tests of upstream's answers share: faults by name, errors as JSON, logins by token."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, cast

from brokerd.simulator.naming import named
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    import subprocess

    from system.github import GitHub
    from system.session import Session


CHAT = "/chat/completions"
JSON_ERRORS = ("--error-format", "json")
LOGINS = ".local/state/copilot-broker/logins"
CONFIG = ".config/copilot-broker/config.toml"
AT_DEBUG = '[log]\nlevel = "debug"\n'
"""So are all daemons of these tests, for the scan of what they say."""

GITHUB_TOKEN = re.compile(r"(?:gh[a-z]_|github_pat_)\w{20,}")


def fault(github: GitHub, path: str, *names: str) -> None:
    """Let the next answers at `path` be the faults of these names."""
    github.world.queue_faults(path, [named(name, time.time(), path) for name in names])


def error_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what `--error-format json` said, having checked what holds for every error."""
    error = dict(json.loads(done.stderr.strip().splitlines()[-1]))
    assert error["class"] == done.returncode
    assert error["message"], error
    command = re.search(r"(?:copilot-cred|systemctl --user) [a-z][^:]*$", error["hint"])
    assert command, f"no command at the end of: {error['hint']}"
    return error


def refused(session: Session, *arguments: str, stdin: str = "") -> dict[str, Any]:
    """Run a `copilot-cred` that must fail; return its error."""
    done = session.cred(*JSON_ERRORS, *arguments, stdin=stdin)
    assert done.returncode != 0, (arguments, done.stdout, done.stderr)
    return error_of(done)


def good(session: Session, *arguments: str, stdin: str = "") -> str:
    """Run a `copilot-cred` that must succeed; return its stdout."""
    done = session.cred(*arguments, stdin=stdin)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def asked_anew(
    session: Session, github: GitHub, *listing: str
) -> subprocess.CompletedProcess[str]:
    """Run this `copilot-cred models` until GitHub is asked: not twice within ten seconds."""
    asked = github.asked("/models")

    def done() -> subprocess.CompletedProcess[str] | None:
        found = session.cred(*listing, "--fresh")
        return found if github.asked("/models") > asked else None

    return cast("subprocess.CompletedProcess[str]", eventually(done, every=0.4))


def account(session: Session, name: str = "default") -> dict[str, Any]:
    """Return one account as `status --json` shows it."""
    (found,) = [each for each in session.status()["accounts"] if each["name"] == name]
    return dict(found)


def stored(session: Session) -> dict[str, Any]:
    """Return the one login of the file store."""
    return dict(json.loads(session.good("sh", "-c", f"cat {LOGINS}/*.json")))


def with_more(session: Session, more: str) -> None:
    """Add to the configuration; a daemon that runs has to be told."""
    session.write(CONFIG, session.good("cat", CONFIG) + more)


def reloaded(session: Session) -> str:
    """Have the daemon reload; return what it says of that in the journal."""

    def told() -> list[str]:
        pid = session.main_pid()
        messages = [entry["MESSAGE"] for entry in session.journal(f"_PID={pid}")]
        return [message for message in messages if message.startswith("configuration ")]

    before = len(told())
    session.systemctl("reload", SERVICE)
    return str(eventually(lambda: told()[before:])[0])
