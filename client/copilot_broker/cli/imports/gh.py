"""The GitHub CLI's `hosts.yml`; the token itself is mostly in the keyring, where only gh reads it.

Then `gh auth token` is run, when and only when somebody has picked this login: running a program
is their decision.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import APP_OF_GH, Kind, Login
from copilot_broker.cli.imports.reading import Unreadable
from copilot_broker.cli.imports.yaml_maps import read_yaml_maps


if TYPE_CHECKING:
    from collections.abc import Iterator

    from copilot_broker.cli.imports.yaml_maps import YamlMap


__all__ = ["ask_gh", "read_gh"]

PATIENCE = 30.0
"""Seconds for gh; the keyring may have to be unlocked first."""

MOST = 4096
"""Bytes of its answer that are looked at."""

ITS_VARIABLES = ("GH_TOKEN", "GITHUB_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN")
"""gh would answer with what they hold instead of the login that was picked."""


def read_gh(data: bytes) -> Iterator[Login]:
    """Read `HOST: {user, oauth_token?, users: {LOGIN: {oauth_token?}}}`."""
    for host, entry in read_yaml_maps(data).items():
        if not isinstance(entry, dict):
            yield Login(host=host, problem="an entry of another form")
            continue
        active = _text(entry.get("user"))
        users = entry.get("users")
        others = users if isinstance(users, dict) else {}
        for user in dict.fromkeys([active, *others]):
            own = others.get(user)
            token = _text(own.get("oauth_token")) if isinstance(own, dict) else ""
            if not token and user == active:
                token = _text(entry.get("oauth_token"))
            yield _login(host, user, token, is_active=user == active)


def ask_gh(program: tuple[str, ...]) -> str:
    """Run `gh auth token …`; return what it prints. Raises Unreadable."""
    path = shutil.which(program[0])
    if path is None or not Path(path).is_absolute():
        raise Unreadable(f"{program[0]} is not installed")
    environ = {name: value for name, value in os.environ.items() if name not in ITS_VARIABLES}
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command, the host and user checked, no shell
            [path, *program[1:]],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise Unreadable(f"{program[0]} gives no answer") from None
    if done.returncode != 0:
        raise Unreadable(f"{program[0]} has no such token (it exits {done.returncode})")
    return done.stdout[:MOST].decode("ascii", "replace").strip()


def _login(host: str, user: str, token: str, *, is_active: bool) -> Login:
    if token:
        return Login(token, host, user, APP_OF_GH if token.startswith(Kind.OAUTH) else "")
    if shutil.which("gh") is None:
        return Login("", host, user, problem="in the keyring, and gh is not installed to ask")
    named = () if is_active or not user else ("--user", user)
    program = ("gh", "auth", "token", "--hostname", host, *named)
    is_safe = not (host.startswith("-") or user.startswith("-"))
    return Login("", host, user, program=program) if is_safe else Login(problem="an odd name")


def _text(value: YamlMap | str | None) -> str:
    return value if isinstance(value, str) else ""
