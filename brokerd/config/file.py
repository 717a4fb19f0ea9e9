"""Find the file, read it, and say of a mistake where it stands."""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from brokerd.config.tables import GRANT, MistakeError, config_of
from brokerd.core.settings import Config
from brokerd.core.toml_lines import line_of_key, line_of_syntax_error, lines_of_tables
from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["MAX_BYTES", "ConfigError", "load", "parse", "where"]

MAX_BYTES = 64 * 1024
"""It is a page of text; a larger file is a wrong path, and parsing it would stall the loop."""


class ConfigError(PermanentError):
    """The file cannot be used; the message names file, line and what is allowed."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        place = str(path) if line is None else f"{path}, line {line}"
        super().__init__(
            Failure(
                ErrorClass.USAGE,
                "config_invalid",
                f"{place}: {problem}",
                "Mend it, then run: systemctl --user reload-or-restart copilot-broker",
            )
        )
        self.path = path
        self.line = line


def where(env: Mapping[str, str]) -> Path:
    """Return where the file belongs: $COPILOT_BROKER_CONFIG, else under $XDG_CONFIG_HOME."""
    if explicit := env.get("COPILOT_BROKER_CONFIG"):
        return Path(explicit)
    base = env.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):  # the XDG specification: ignore relative ones
        home = env.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        base = f"{home}/.config"
    return Path(base) / "copilot-broker" / "config.toml"


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Read the file at `path`, or the one `where(env)` names.

    Without a file the defaults hold, unless somebody named that file (`path`, or
    $COPILOT_BROKER_CONFIG). Raises ConfigError.
    """
    named = path is not None or bool(env.get("COPILOT_BROKER_CONFIG"))
    path = path or where(env)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise ConfigError(path, None, "everybody may write it; run: chmod o-w on it")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        if named:
            raise ConfigError(path, None, "no such file") from None
        return Config()
    except OSError as error:
        told = f"cannot be read ({error.strerror})"
        if isinstance(error, PermissionError) and path.is_symlink():
            # The daemon sees no more of the home folder than what it was given at its start.
            told += "; is it a new link? Run: systemctl --user restart copilot-broker"
        raise ConfigError(path, None, told) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(path, None, f"larger than {MAX_BYTES} bytes; is it the right file?")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, line, "not UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """Turn the file's text into a Config; `path` is for messages. Raises ConfigError."""
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = re.sub(r" \(at .*\)$", "", str(error))
        line = line_of_syntax_error(text, error)
        raise ConfigError(path, line, f"not TOML: {problem}") from None
    except RecursionError:
        raise ConfigError(path, None, "nested too deep") from None
    try:
        lines = lines_of_tables(text, GRANT) if GRANT in document else []
        return config_of(document, [f"{path.name}:{line}" for line in lines])
    except MistakeError as mistake:
        line = line_of_key(text, mistake.path)
        raise ConfigError(path, line, mistake.problem) from None
