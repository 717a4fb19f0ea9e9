"""Read the GitHub tokens that the daemon was given: from its environment, from its credentials.

The variables are taken out of the environment in the same moment, so that no library and no child
finds them there. /proc/PID/environ still shows what the process was started with, to root only:
the process is not dumpable by then (proc(5)). Credentials are files that the service manager puts
into a folder of the service's own (systemd.exec(5), CREDENTIALS).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd.core.given import (
    CREDENTIAL_MAX,
    SOURCES,
    VARIABLES,
    Given,
    credential_name,
    from_credential,
    from_environment,
    missing_credential,
    unusable_credential,
)
from brokerd.host.logs.redaction import register_secret


if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from brokerd.core.settings import Config


__all__ = ["GivenTokens"]

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class GivenTokens:
    """What this process was given; the environment is read once, credentials each time."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """`environ` loses the variables once an account wants them."""
        self._environ = environ
        self._of_environment: Given | None = None

    def read(self, config: Config) -> dict[str, Given]:
        """Return what each account was given whose `source` is not `login`. Raises nothing."""
        found = {
            name: self._read(name, settings.source)
            for name, settings in config.accounts.items()
            if settings.source in SOURCES
        }
        for given in found.values():
            if given.token is not None:
                register_secret(given.token.value)
        return found

    def _read(self, account: str, source: str) -> Given:
        if source == "credential":
            return _credential(self._environ.get("CREDENTIALS_DIRECTORY", ""), account)
        if self._of_environment is None:
            taken = {name: self._environ.pop(name) for name in VARIABLES if name in self._environ}
            self._of_environment = from_environment(taken)
        return self._of_environment


def _credential(folder: str, account: str) -> Given:
    if not folder.startswith("/"):
        return missing_credential(account)
    path = Path(folder, credential_name(account))
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        return missing_credential(account)
    except OSError as error:
        why = "a symbolic link" if error.errno == errno.ELOOP else os.strerror(error.errno or 0)
        return unusable_credential(account, f"its file cannot be opened: {why}")
    try:
        return _read_from(fd, account)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        return unusable_credential(account, f"its file cannot be read: {why}")
    finally:
        os.close(fd)


def _read_from(fd: int, account: str) -> Given:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return unusable_credential(account, "it is not a regular file")
    if found.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        return unusable_credential(account, "every user may read or write its file")
    with os.fdopen(fd, "rb", closefd=False) as file:
        return from_credential(account, file.read(CREDENTIAL_MAX + 1))
