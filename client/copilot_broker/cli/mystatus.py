"""The billing token that opencode-mystatus keeps, for those who have set that up already.

`~/.config/opencode/copilot-quota-token.json` holds `{"token", "username", "tier"}`: a fine-grained
token that may read the plan and nothing of Copilot. It is only ever read, and only where it is a
file of ours that nobody else may read. The broker cannot see the home folder, so it is read here.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from copilot_broker.cli.token_source import PLAN_TOKEN, why_unusable


__all__ = ["Found", "read_mystatus"]

PLACE = ".config/opencode/copilot-quota-token.json"

MAX_BYTES = 64 * 1024
"""Of the file; a true one has less than one KiB."""

MAX_WORD = 100
"""Characters of a user name or tier; GitHub's user names have at most 39."""


@dataclass(frozen=True)
class Found:
    """What was found there; empty when there is no such file."""

    token: str = field(default="", repr=False)
    username: str = ""
    """Whose plan the token may read; "" where the file does not say."""
    tier: str = ""
    """Name of the plan, such as `pro+`; "" where the file does not say."""
    warning: str = ""
    """Why it was not used although it is there, and what is dangerous about that."""
    remark: str = ""
    """Why it was not used, where that harms nobody."""


def read_mystatus() -> Found:
    """Read the file of this user. Raises nothing: what is wrong is said in the answer."""
    try:
        path = Path.home() / PLACE
        file = open(path, "rb", opener=_open)  # noqa: SIM115 - pathlib takes no opener
    except (FileNotFoundError, RuntimeError):  # the latter: this user has no home
        return Found()
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else error.strerror
        return Found(remark=f"{path} is not read: {reason}")
    with file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            return Found(remark=f"{path} is not read: it is no regular file")
        if about.st_uid != os.getuid():
            return Found(warning=f"{path} is not used: it belongs to uid {about.st_uid}")
        if about.st_mode & 0o077:
            return Found(
                warning=f"{path} is not used: others may read or change the token in it"
                f" (mode {stat.S_IMODE(about.st_mode):04o}); run: chmod 600 {path}"
            )
        try:
            data = file.read(MAX_BYTES + 1)
        except OSError as error:
            return Found(remark=f"{path} is not read: {error.strerror}")
    if len(data) > MAX_BYTES:
        return Found(remark=f"{path} is not read: it has more than {MAX_BYTES // 1024} KiB")
    return _found(path, data)


def _open(path: str, _flags: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _found(path: Path, data: bytes) -> Found:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):  # never quoted: it may hold a token
        return Found(remark=f"{path} is not used: it is no JSON")
    if not isinstance(said, dict):
        return Found(remark=f"{path} is not used: it is no JSON object")
    token = said.get("token")
    why_not = why_unusable(token.strip(), PLAN_TOKEN) if isinstance(token, str) else "is missing"
    if why_not:
        return Found(remark=f"{path} is not used: its token {why_not}")
    return Found(str(token).strip(), _word(said.get("username")), _word(said.get("tier")))


def _word(value: object) -> str:
    usable = isinstance(value, str) and len(value) <= MAX_WORD and value.isprintable()
    return str(value).strip() if usable else ""
