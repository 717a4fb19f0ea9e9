"""Which addresses belong to a GitHub host, and where a credential may be sent at all.

Four origins per host: login (device grant), API (`/user`, the exchange), Copilot, and the host for
fill-in-the-middle completions. The last two are named anew by every exchange (`endpoints`), so
they are checked: a credential goes to its own host's origins over https, and to those that the
configuration names. A tenant's credentials never go to the public hosts, nor theirs to a tenant.
Plain http stays on loopback.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from brokerd.core.settings import IdentitySettings
from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from pathlib import Path


__all__ = ["OriginAllowList", "UpstreamSettings", "Urls", "origin_of", "urls_for"]

GITHUB = "github.com"
# Plans with hosts of their own; tenants have none of these.
PLANS = frozenset({"individual", "business", "enterprise"})
# A data-residency tenant: one DNS label below ghe.com.
TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.ghe\.com")
# Letters, digits, hyphens and dots, or an IPv6 address without its brackets.
HOST_NAME = re.compile(r"[a-z0-9.-]{1,253}|[0-9a-f:.]{2,45}")
PUBLIC_COPILOT = re.compile(r"https://(?:[a-z0-9-]+\.)*githubcopilot\.com")
DEFAULT_PORTS = {"https": 443, "http": 80}
# GitHub's addresses are shorter; this one is shown to a person.
MAX_SHOWN_URL = 200


@dataclass(frozen=True)
class UpstreamSettings:
    """The way to GitHub: origins for tests and the simulator, proxy, further authorities."""

    login: str | None = None
    api: str | None = None
    copilot: str | None = None
    completions: str | None = None
    proxy: str | None = field(default=None, repr=False)
    """May hold a password."""
    ca_file: Path | None = None
    identity: IdentitySettings = field(default_factory=IdentitySettings)


@dataclass(frozen=True)
class Urls:
    """The origins of one host, without a trailing slash."""

    login: str
    api: str
    copilot: str
    """Used when an exchange names none."""
    completions: str
    """The same for fill-in-the-middle completions."""

    generic: frozenset[str] = field(default=frozenset(), compare=False)
    """Which of the last two are github.com's for everybody: what is more exact replaces them."""

    def for_plan(self, plan: str) -> Urls:
        """Return them with the Copilot hosts of `plan`; configured ones and a tenant's stay."""
        if plan not in PLANS:
            return self
        by_plan = {
            "copilot": f"https://api.{plan}.githubcopilot.com",
            "completions": f"https://proxy.{plan}.githubcopilot.com",
        }
        chosen = {key: url for key, url in by_plan.items() if key in self.generic}
        return replace(self, **chosen, generic=frozenset())


def origin_of(url: str) -> str | None:
    """Return `scheme://host[:port]` of a bare origin in its one normal form, None for all else."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme, host = parts.scheme, parts.hostname or ""
    if scheme not in DEFAULT_PORTS or not HOST_NAME.fullmatch(host):
        return None
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    if scheme == "http" and not _is_loopback(host):
        return None
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + (
        f":{port}" if port not in (None, DEFAULT_PORTS[scheme]) else ""
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def urls_for(host: str, settings: UpstreamSettings) -> Urls:
    """Return the origins of `host`; configured ones come first.

    Raises PermanentError (USAGE) for a host that is neither github.com nor a tenant of ghe.com:
    self-hosted servers have no Copilot.
    """
    if host == GITHUB:
        built_in = Urls(
            "https://github.com",
            "https://api.github.com",
            "https://api.githubcopilot.com",
            "https://copilot-proxy.githubusercontent.com",
        )
    elif TENANT.fullmatch(host):
        built_in = Urls(
            f"https://{host}",
            f"https://api.{host}",
            f"https://copilot-api.{host}",
            f"https://copilot-proxy.{host}",
        )
    else:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "host_unknown",
                f"{host[:MAX_SHOWN_URL]!r} is neither github.com nor a tenant of ghe.com",
                "Mend `host` of the account in config.toml, then: "
                "systemctl --user reload copilot-broker",
            )
        )
    generic = {key for key in ("copilot", "completions") if getattr(settings, key) is None}
    return Urls(
        login=_configured("urls.login", settings.login) or built_in.login,
        api=_configured("urls.api", settings.api) or built_in.api,
        copilot=_configured("urls.copilot", settings.copilot) or built_in.copilot,
        completions=_configured("urls.completions", settings.completions) or built_in.completions,
        generic=frozenset(generic if host == GITHUB else ()),
    )


def _configured(key: str, url: str | None) -> str | None:
    if url is None:
        return None
    origin = origin_of(url)
    if origin is None:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "url_unusable",
                f"{key} is not an https origin, nor an http one on loopback",
                f"Mend {key} in config.toml, then: systemctl --user reload copilot-broker",
            )
        )
    return origin


class OriginAllowList:
    """Where the credentials of one host may go."""

    def __init__(self, host: str, settings: UpstreamSettings) -> None:
        urls = urls_for(host, settings)
        built_in = urls_for(host, UpstreamSettings())
        self._host = host
        self._used = {urls.login, urls.api, urls.copilot, urls.completions}
        self._exact = self._used | {built_in.copilot, built_in.completions}

    def allows(self, origin: str) -> bool:
        """Whether a credential may be sent to an origin (as `origin_of` returns it)."""
        if origin in self._exact:
            return True
        return self._host == GITHUB and PUBLIC_COPILOT.fullmatch(origin) is not None

    def copilot_origin(self, url: str) -> str:
        """Return the origin of `endpoints.api`; PermanentError (DENIED) if not permitted."""
        origin = origin_of(url)
        if origin is not None and self.allows(origin):
            return origin
        shown = origin or "an address that is no https origin"
        raise PermanentError(
            Failure(
                ErrorClass.DENIED,
                "api_base_refused",
                f"GitHub's answer names a Copilot API that is not permitted for {self._host}: "
                f"{shown[:MAX_SHOWN_URL]}",
                "Find out who rewrites GitHub's answers, or permit it as urls.copilot in "
                "config.toml, then: copilot-cred refresh",
            )
        )

    def completions_origin(self, url: str) -> str | None:
        """Return the origin of `endpoints.proxy`; None if it is not permitted.

        Few need it, so another one must not cost a login: what falls back does without it.
        """
        origin = origin_of(url)
        return origin if origin is not None and self.allows(origin) else None

    def shown_page(self, url: str) -> str | None:
        """Return an address of GitHub's pages that may be shown to a person, None for others."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return None
        if len(url) > MAX_SHOWN_URL or not url.isascii() or not url.isprintable() or " " in url:
            return None
        if "@" in parts.netloc or "\\" in url or not parts.hostname:
            return None
        suffix = "" if port is None else f":{port}"
        origin = origin_of(f"{parts.scheme}://{parts.netloc.removesuffix(suffix)}{suffix}")
        if origin in self._used:
            return url
        pages = (GITHUB, self._host)
        own = origin is not None and any(
            origin == f"https://{page}" or origin.endswith(f".{page}") for page in pages
        )
        return url if own and parts.scheme == "https" else None
