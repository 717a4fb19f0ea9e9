"""What the tables of the file hold: each key checked, and a mistake known by its path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from brokerd.core.access.settings import KEYS, nonsense, rule_of, value_of
from brokerd.core.given import SOURCES
from brokerd.core.repairs import NAMES
from brokerd.core.setting_checks import (
    NotAllowedError,
    account_name,
    client_id,
    header_value,
    host,
    model_id,
    model_pattern,
    number,
    one_of,
    origin,
    proxy,
    scope,
    switch,
    tcp_listener,
    text,
)
from brokerd.core.settings import (
    DEFAULT_ACCOUNT,
    AccountSettings,
    Config,
    HttpSettings,
    IdentitySettings,
    LogSettings,
    ModelSettings,
    NetworkSettings,
    StoreSettings,
    UrlSettings,
    UsageSettings,
)


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.core.access import Rule


__all__ = [
    "ALIASES_MAX",
    "GRANT",
    "GRANTS_MAX",
    "KEEPALIVE_MAX",
    "KEEP_MAX",
    "MistakeError",
    "config_of",
]

GRANT = "grant"
"""The table of which there may be many."""

GRANTS_MAX = 100
"""Each is looked at for every connection; a machine has a handful of tools."""

ALIASES_MAX = 100
"""Each may be looked at for every request; Copilot has some dozens of models."""

KEEPALIVE_MAX = 3600
"""Seconds; whoever waits so long hung up long ago."""

KEEP_MAX = 3660
"""Days: ten years of them are some megabytes."""


class MistakeError(Exception):
    """Something that cannot be; `path` leads to its key or table."""

    def __init__(self, path: tuple[str | int, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def config_of(document: dict[str, Any], places: list[str]) -> Config:
    """Return the settings; `places` says where each `[[grant]]` stands. Raises MistakeError."""
    known = ["accounts", *_TABLES, *_NESTED, GRANT]
    tables: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            what = "table" if isinstance(value, dict) else "key"
            raise MistakeError((name,), _unknown(what, name, known))
        if name == GRANT:
            tables["grants"] = _grants(value, places)
            continue
        _require_table((name,), value)
        if name == "accounts":
            tables[name] = _accounts(value)
        elif name in _NESTED:
            tables[name] = _NESTED[name](value)
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
            raise MistakeError(path, f"an account's name must be {allowed}") from None
        accounts[name] = AccountSettings(**_values(path, value, _ACCOUNT))
    named = [name for name, each in accounts.items() if each.source == "environment"]
    if len(named) > 1:
        # There is one environment: the second would be the same person, or the token would go to
        # a host that it is not for.
        key = ("accounts", named[1], "source")
        problem = "only one account can have the environment, and"
        raise MistakeError(key, f"{'.'.join(key)}: {problem} accounts.{named[0]} has it")
    return accounts


def _http(table: dict[str, Any]) -> HttpSettings:
    plain, inner = _apart("http", table, "repairs", list(_HTTP))
    switches = dict.fromkeys(NAMES, switch)
    repairs = dict.fromkeys(NAMES, True) | _values(("http", "repairs"), inner, switches)
    return HttpSettings(**_values(("http",), plain, _HTTP), repairs=repairs)


def _models(table: dict[str, Any]) -> ModelSettings:
    _, inner = _apart("models", table, "aliases", [])
    path = ("models", "aliases")
    if len(inner) > ALIASES_MAX:
        late = (*path, list(inner)[ALIASES_MAX])
        raise MistakeError(late, f"more than {ALIASES_MAX} names in [models.aliases]")
    for name, value in inner.items():
        if isinstance(value, dict):  # claude.opus = "…"
            problem = 'a name with a dot in it needs quotes: "gpt-4.1" = "…"'
            raise MistakeError((*path, name), f"models.aliases.{name[:80]}: {problem}")
        try:
            model_pattern(name)
        except NotAllowedError as allowed:
            problem = f"a name in models.aliases must be {allowed}"
            raise MistakeError((*path, name), problem) from None
    return ModelSettings(aliases=_values(path, inner, dict.fromkeys(inner, text(model_id))))


def _apart(
    name: str, table: dict[str, Any], inner: str, keys: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the table without the one inside, and that one; only `keys` may stand beside it."""
    for key in table:
        if key not in (*keys, inner):
            problem = _unknown("key", f"{name}.{key}", [*keys, inner])
            raise MistakeError((name, key), problem)
    found = table.get(inner, {})
    _require_table((name, inner), found)
    return {key: value for key, value in table.items() if key != inner}, found


def _grants(tables: object, places: list[str]) -> tuple[Rule, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise MistakeError((GRANT,), "grant must be a list of tables: [[grant]]")
    if len(tables) > GRANTS_MAX:
        raise MistakeError((GRANT, GRANTS_MAX), f"more than {GRANTS_MAX} tables [[grant]]")
    return tuple(
        _grant(table, number, place)
        for number, (table, place) in enumerate(zip(tables, places, strict=True))
    )


def _grant(table: dict[str, Any], number: int, place: str) -> Rule:
    values = {}
    for key, value in table.items():
        path = (GRANT, number, key)
        if key not in KEYS:
            raise MistakeError(path, _unknown("key", f"{GRANT}.{key}", list(KEYS)))
        try:
            values[key] = value_of(key, value)
        except NotAllowedError as allowed:
            raise MistakeError(path, f"{GRANT}.{key} must be {allowed}") from None
    rule = rule_of(values, place)
    if (mistake := nonsense(rule)) is not None:
        key, problem = mistake
        raise MistakeError((GRANT, number, key) if key else (GRANT, number), problem)
    return rule


def _values(path: tuple[str, ...], table: dict[str, Any], checks: _Checks) -> dict[str, Any]:
    values = {}
    for key, value in table.items():
        name = ".".join((*path, key))
        if key not in checks:
            raise MistakeError(
                (*path, key), _unknown("key", f"{'.'.join(path)}.{key}", list(checks))
            )
        try:
            values[key] = checks[key](value)
        except NotAllowedError as allowed:
            raise MistakeError((*path, key), f"{name} must be {allowed}") from None
    return values


def _require_table(path: tuple[str, ...], value: object) -> None:
    if not isinstance(value, dict):
        raise MistakeError(path, f"{'.'.join(path)} must be a table: [{'.'.join(path)}]")


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
    _Checks = Mapping[str, Callable[[object], object]]

_ACCOUNT: _Checks = {
    "host": text(host),
    "client_id": text(client_id),
    "scope": text(scope),
    "mode": text(one_of("auto", "exchange", "direct")),
    "plan": text(one_of("auto", "individual", "business", "enterprise")),
    "source": text(one_of("login", *SOURCES)),
}
_HTTP: _Checks = {
    "tcp": text(tcp_listener),
    "keepalive": number(0, KEEPALIVE_MAX, " in seconds, 0 for never"),
}
_NESTED: Mapping[str, Callable[[dict[str, Any]], object]] = {"http": _http, "models": _models}
_TABLES: dict[str, tuple[Callable[..., object], _Checks]] = {
    "urls": (
        UrlSettings,
        dict.fromkeys(("login", "api", "copilot", "completions"), text(origin)),
    ),
    "store": (
        StoreSettings,
        {"kind": text(one_of("auto", "secret-service", "file", "memory"))},
    ),
    "network": (NetworkSettings, {"proxy": text(proxy), "ca_file": text(_ca_file)}),
    "identity": (
        IdentitySettings,
        dict.fromkeys(IdentitySettings.__dataclass_fields__, text(header_value)),
    ),
    "usage": (UsageSettings, {"keep": number(0, KEEP_MAX, " in days, 0 to count nothing")}),
    "log": (LogSettings, {"level": text(one_of("debug", "info", "warning", "error"))}),
}
