"""The settings as values. `brokerd.config` reads them from a file; the defaults are right here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from brokerd.core.repairs import NAMES


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from brokerd.core.access.rules import Rule


__all__ = [
    "DEFAULT_ACCOUNT",
    "AccountSettings",
    "Config",
    "HttpSettings",
    "IdentitySettings",
    "LogSettings",
    "ModelSettings",
    "NetworkSettings",
    "StoreSettings",
    "UrlSettings",
    "UsageSettings",
]

DEFAULT_ACCOUNT = "default"
"""The name of the account that is meant when nobody names one."""


@dataclass(frozen=True)
class AccountSettings:
    """How one account signs in; `[accounts.NAME]`."""

    host: str = "github.com"
    client_id: str = "vscode"
    """Name of a preset, or an OAuth client id itself; resolved by `upstream`."""
    scope: str = ""
    """Scopes to ask for, separated by spaces; empty: those of the preset."""
    mode: str = "auto"
    """`auto`, `exchange` or `direct`; see `core.modes`."""
    plan: str = "auto"
    """`individual`, `business` or `enterprise`: the Copilot host where GitHub names none."""
    source: str = "login"
    """`login`, or where the daemon is given the token: see `core.given`."""


@dataclass(frozen=True)
class UrlSettings:
    """Origins permitted besides the built-in ones, for tests and the simulator; `[urls]`."""

    login: str | None = None
    api: str | None = None
    copilot: str | None = None
    completions: str | None = None


@dataclass(frozen=True)
class StoreSettings:
    """Where new logins are kept; `[store]`."""

    kind: str = "auto"


@dataclass(frozen=True)
class NetworkSettings:
    """The way out; `[network]`."""

    proxy: str | None = field(default=None, repr=False)
    """May hold a password."""
    ca_file: Path | None = None


@dataclass(frozen=True)
class IdentitySettings:
    """Who we say we are; `[identity]`. "" leaves a header out, `{version}` is our own version."""

    user_agent: str = "copilot-broker/{version}"
    editor_version: str = "copilot-broker/{version}"
    editor_plugin_version: str = "copilot-broker/{version}"
    integration_id: str = "vscode-chat"
    """The one borrowed value: it selects the integrator for exchanged tokens, and only ids known
    to GitHub are served."""
    copilot_api_version: str = "2025-05-01"
    """X-GitHub-Api-Version for Copilot; a withdrawn one is answered with 466."""
    exchange_api_version: str = "2025-04-01"
    """The same for the exchange."""
    completions_api_version: str = "2025-04-01"
    """The same for fill-in-the-middle completions, whose host goes by another version."""
    completions_organization: str = "github-copilot"
    """`Openai-Organization` for that host: the one value that is known to be sent."""


@dataclass(frozen=True)
class HttpSettings:
    """The HTTP door; `[http]`."""

    tcp: str = ""
    """Where it listens by TCP too, as `core.loopback` writes it: `127.0.0.1:4141`. "": nowhere."""
    keepalive: int = 15
    """Seconds of silence after which a stream is sent a comment; 0: never."""
    repairs: Mapping[str, bool] = field(default_factory=lambda: dict.fromkeys(NAMES, True))
    """Whether each is made, all of them by name; `[http.repairs]`."""


@dataclass(frozen=True)
class ModelSettings:
    """What models are called; `[models]`."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names, or patterns (fnmatch(3)) of names, to the ids of models, in the order of the file;
    `[models.aliases]`."""


@dataclass(frozen=True)
class UsageSettings:
    """The ledger; `[usage]`."""

    keep: int = 400
    """Days that it remembers: a year, and what of it is still looked at; 0: nothing is counted."""


@dataclass(frozen=True)
class LogSettings:
    """What is logged; `[log]`."""

    level: str = "info"


@dataclass(frozen=True)
class Config:
    """All settings. There is always an account called `default`."""

    accounts: Mapping[str, AccountSettings] = field(
        default_factory=lambda: {DEFAULT_ACCOUNT: AccountSettings()}
    )
    urls: UrlSettings = UrlSettings()
    store: StoreSettings = StoreSettings()
    network: NetworkSettings = NetworkSettings()
    identity: IdentitySettings = IdentitySettings()
    http: HttpSettings = field(default_factory=HttpSettings)
    models: ModelSettings = field(default_factory=ModelSettings)
    usage: UsageSettings = UsageSettings()
    log: LogSettings = LogSettings()
    grants: tuple[Rule, ...] = ()
    """In the order of the file; `[[grant]]`."""

    def account(self, name: str) -> AccountSettings:
        """Return the settings of `name`; the defaults for one that the file does not mention."""
        return self.accounts.get(name, AccountSettings())
