"""The configuration: a TOML file to frozen values, every mistake named with its file and line.

No file is no mistake: all has a default, and `packaging/copilot-broker.toml` spells them out.
An empty string stands for "not set". Unknown keys are errors, since a misspelt key that is ignored
is a setting somebody believes in.
"""

from brokerd.config.file import ConfigError, load, parse, where
from brokerd.core.settings import (
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


__all__ = [
    "AccountSettings",
    "Config",
    "ConfigError",
    "HttpSettings",
    "IdentitySettings",
    "LogSettings",
    "ModelSettings",
    "NetworkSettings",
    "StoreSettings",
    "UrlSettings",
    "UsageSettings",
    "load",
    "parse",
    "where",
]
