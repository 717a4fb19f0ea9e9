"""The configuration: a TOML file to frozen values, every mistake named with its file and line.

No file is no mistake: all has a default, and `packaging/copilot-broker.toml` spells them out.
An empty string stands for "not set". Unknown keys are errors, since a misspelt key that is ignored
is a setting somebody believes in.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brokerd.core.access.settings import KEYS, nonsense, rule_of, value_of
from brokerd.core.given import SOURCES
from brokerd.core.setting_checks import (
    NotAllowedError,
    account_name,
    client_id,
    header_value,
    host,
    one_of,
    origin,
    proxy,
    scope,
)
from brokerd.core.settings import (
    DEFAULT_ACCOUNT,
    AccountSettings,
    Config,
    IdentitySettings,
    LogSettings,
    NetworkSettings,
    StoreSettings,
    UrlSettings,
)
from brokerd.core.toml_lines import line_of_key, line_of_syntax_error, lines_of_tables
from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.core.access import Rule


__all__ = [
    "AccountSettings",
    "Config",
    "ConfigError",
    "IdentitySettings",
    "LogSettings",
    "NetworkSettings",
    "StoreSettings",
    "UrlSettings",
    "load",
    "parse",
    "where",
]

_GRANT = "grant"
"""The table of which there may be many."""

GRANTS_MAX = 100
"""Each is looked at for every connection; a machine has a handful of tools."""

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
        lines = lines_of_tables(text, _GRANT) if _GRANT in document else []
        return _config(document, [f"{path.name}:{line}" for line in lines])
    except _MistakeError as mistake:
        line = line_of_key(text, mistake.path)
        raise ConfigError(path, line, mistake.problem) from None


class _MistakeError(Exception):
    def __init__(self, path: tuple[str | int, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _config(document: dict[str, Any], places: list[str]) -> Config:
    """Return the settings; `places` says where each `[[grant]]` stands."""
    known = ["accounts", *_TABLES, _GRANT]
    tables: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            what = "table" if isinstance(value, dict) else "key"
            raise _MistakeError((name,), _unknown(what, name, known))
        if name == _GRANT:
            tables["grants"] = _grants(value, places)
            continue
        _require_table((name,), value)
        if name == "accounts":
            tables[name] = _accounts(value)
        else:
            build, checks = _TABLES[name]
            tables[name] = build(**_values((name,), value, checks))
    return Config(**tables)


def _accounts(tables: dict[str, Any]) -> dict[str, AccountSettings]:
    accounts = {DEFAULT_ACCOUNT: AccountSettings()}
    for name, value in tables.items():
        path = ("accounts", name)
        _require_table(path, value)
        try:
            account_name(name)
        except NotAllowedError as allowed:
            raise _MistakeError(path, f"an account's name must be {allowed}") from None
        accounts[name] = AccountSettings(**_values(path, value, _ACCOUNT))
    named = [name for name, each in accounts.items() if each.source == "environment"]
    if len(named) > 1:
        # There is one environment: the second would be the same person, or the token would go to
        # a host that it is not for.
        key = ("accounts", named[1], "source")
        problem = "only one account can have the environment, and"
        raise _MistakeError(key, f"{'.'.join(key)}: {problem} accounts.{named[0]} has it")
    return accounts


def _grants(tables: object, places: list[str]) -> tuple[Rule, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _MistakeError((_GRANT,), "grant must be a list of tables: [[grant]]")
    if len(tables) > GRANTS_MAX:
        raise _MistakeError((_GRANT, GRANTS_MAX), f"more than {GRANTS_MAX} tables [[grant]]")
    return tuple(
        _grant(table, number, place)
        for number, (table, place) in enumerate(zip(tables, places, strict=True))
    )


def _grant(table: dict[str, Any], number: int, place: str) -> Rule:
    values = {}
    for key, value in table.items():
        path = (_GRANT, number, key)
        if key not in KEYS:
            raise _MistakeError(path, _unknown("key", f"{_GRANT}.{key}", list(KEYS)))
        try:
            values[key] = value_of(key, value)
        except NotAllowedError as allowed:
            raise _MistakeError(path, f"{_GRANT}.{key} must be {allowed}") from None
    rule = rule_of(values, place)
    if (mistake := nonsense(rule)) is not None:
        key, problem = mistake
        raise _MistakeError((_GRANT, number, key) if key else (_GRANT, number), problem)
    return rule


def _values(path: tuple[str, ...], table: dict[str, Any], checks: _Checks) -> dict[str, Any]:
    values = {}
    for key, value in table.items():
        name = ".".join((*path, key))
        if key not in checks:
            raise _MistakeError(
                (*path, key), _unknown("key", f"{'.'.join(path)}.{key}", list(checks))
            )
        if not isinstance(value, str):
            raise _MistakeError((*path, key), f'{name} must be a string in "quotes"')
        try:
            values[key] = checks[key](value)
        except NotAllowedError as allowed:
            raise _MistakeError((*path, key), f"{name} must be {allowed}") from None
    return values


def _require_table(path: tuple[str, ...], value: object) -> None:
    if not isinstance(value, dict):
        raise _MistakeError(path, f"{'.'.join(path)} must be a table: [{'.'.join(path)}]")


def _unknown(what: str, name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415 - for mistakes only

    close = difflib.get_close_matches(name.rpartition(".")[2], known, n=1)
    guess = f"; did you mean {close[0]}?" if close else ";"
    return f"unknown {what} {name[:80]}{guess} allowed here: {', '.join(known)}"


def _ca_file(value: str) -> Path | None:
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_absolute() or not path.is_file():
        raise NotAllowedError("the absolute path (or ~/…) of an existing PEM file")
    return path


if TYPE_CHECKING:
    _Checks = Mapping[str, Callable[[str], object]]

_ACCOUNT: _Checks = {
    "host": host,
    "client_id": client_id,
    "scope": scope,
    "mode": one_of("auto", "exchange", "direct"),
    "plan": one_of("auto", "individual", "business", "enterprise"),
    "source": one_of("login", *SOURCES),
}
_TABLES: dict[str, tuple[Callable[..., object], _Checks]] = {
    "urls": (
        UrlSettings,
        {"login": origin, "api": origin, "copilot": origin, "completions": origin},
    ),
    "store": (
        StoreSettings,
        {"kind": one_of("auto", "secret-service", "file", "memory")},
    ),
    "network": (NetworkSettings, {"proxy": proxy, "ca_file": _ca_file}),
    "identity": (
        IdentitySettings,
        dict.fromkeys(IdentitySettings.__dataclass_fields__, header_value),
    ),
    "log": (LogSettings, {"level": one_of("debug", "info", "warning", "error")}),
}
