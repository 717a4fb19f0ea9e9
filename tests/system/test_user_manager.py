"""`packaging/user-manager` itself: a session is real, its own, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from system.session import USER, USER_MANAGER, eventually


pytestmark = pytest.mark.usefixtures("installed")


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [USER_MANAGER, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_runs_the_command_as_the_user_with_its_manager() -> None:
    done = run(
        "--fresh-home", USER, "--", "sh", "-c", "id -un; systemctl --user is-system-running"
    )
    assert done.stdout.split() == [USER, "running"]


def test_passes_stdin_arguments_and_exit_code() -> None:
    done = run(
        "--fresh-home",
        USER,
        "--",
        "sh",
        "-c",
        'cat; printf "%s|" "$@"; exit 7',
        "_",
        "a b",
        "$x",
        stdin="in ",
    )
    assert (done.returncode, done.stdout) == (7, "in a b|$x|")


def test_time_limit() -> None:
    assert run("--fresh-home", "--timeout", "1", USER, "--", "sleep", "60").returncode == 124


def test_what_the_command_leaves_behind_dies_with_the_session() -> None:
    seconds = str(400_000 + os.getpid())
    done = run(
        "--fresh-home",
        USER,
        "--",
        "sh",
        "-c",
        f"setsid sleep {seconds} & systemd-run --user -q sleep {seconds}",
    )
    assert done.returncode == 0
    left = subprocess.run(
        ["pgrep", "-fc", f"sleep {seconds}"], capture_output=True, text=True, check=False
    )
    assert left.stdout.strip() == "0"


def test_kept_session_is_entered_and_stopped() -> None:
    name = f"kept{os.getpid()}"
    named = ("--name", name)
    try:
        assert run("--keep", "--fresh-home", *named, USER).returncode == 0
        assert run("--keep", "--fresh-home", *named, USER).returncode == 0, "twice is no error"
        run("--enter", *named, USER, "--", "touch", "here")
        assert run("--enter", *named, USER, "--", "ls").stdout == "here\n"
        assert run("--enter", "--as-root", *named, USER, "--", "id", "-u").stdout == "0\n"
    finally:
        assert run("--stop", *named, USER).returncode == 0
    gone = run("--enter", *named, USER, "--", "true")
    assert gone.returncode == 125
    assert "--keep" in gone.stderr


def test_ends_in_order_when_terminated() -> None:
    with subprocess.Popen(
        [USER_MANAGER, "--fresh-home", USER, "--", "sh", "-c", "echo up; exec sleep 60"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (128 + signal.SIGTERM, -signal.SIGTERM)
    pid = str(process.pid)

    def own_state() -> list[Path]:
        return [
            p
            for p in Path("/run").glob(".copilot-broker-manager.run.*")
            if (p / "pid").exists() and (p / "pid").read_text().strip() == pid
        ]

    eventually(lambda: not own_state())
