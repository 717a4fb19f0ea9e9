"""Where a request was sent: GitHub's real names, told by `Host`, and the addresses that follow.

Asked under a loopback name (or one that is nobody's) the simulator is everything at once, and
every address it tells is its own. Asked under a real name it is that host alone, and tells the
real addresses: so the daemon's own rules about hosts can be tried as they are shipped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


__all__ = [
    "GITHUB",
    "NOWHERE",
    "Place",
    "api_host",
    "endpoints",
    "is_github",
    "place_of",
    "proxy_host",
    "serves",
]

GITHUB = "github.com"
# A data-residency tenant and its hosts, by what they begin with.
_TENANT = re.compile(r"(?:(api|copilot-api|copilot-proxy)\.)?([a-z0-9-]+\.ghe\.com)")
_TENANT_ROLES = {"": "login", "api": "api", "copilot-api": "copilot", "copilot-proxy": "proxy"}
# Individual, business and enterprise plans have hosts of their own.
_BY_PLAN = re.compile(r"(api|proxy)\.[a-z]+\.githubcopilot\.com")
_ROLES = {
    GITHUB: "login",
    "api.github.com": "api",
    "api.githubcopilot.com": "copilot",
    "copilot-proxy.githubusercontent.com": "proxy",
}
# The generic hosts take the tokens of every plan.
GENERIC = frozenset({"api.githubcopilot.com", "copilot-proxy.githubusercontent.com"})
_API_PATHS = ("/user", "/users/", "/copilot_internal/", "/graphql", "/credentials/")
# The hosts for fill-in-the-middle completions serve nothing else, and nobody else serves them.
_COMPLETION_PATHS = "/v1/engines/"


@dataclass(frozen=True)
class Place:
    """One host, and what it is there for."""

    host: str = ""
    """Without a port; empty = not one of GitHub's."""
    site: str = ""
    """`github.com` or the tenant it belongs to."""
    role: str = ""
    """`login`, `api`, `copilot` or `proxy`; empty = all of them."""


NOWHERE = Place()


def place_of(host: str) -> Place:
    """Tell the place by a `Host` header."""
    name = host.lower().removesuffix(":443")
    if name in _ROLES:
        return Place(name, GITHUB, _ROLES[name])
    if by_plan := _BY_PLAN.fullmatch(name):
        return Place(name, GITHUB, "copilot" if by_plan[1] == "api" else "proxy")
    if tenant := _TENANT.fullmatch(name):
        return Place(name, tenant[2], _TENANT_ROLES[tenant[1] or ""])
    return NOWHERE


def is_github(path: str) -> bool:
    """Whether a path is GitHub's own, not the Copilot API's."""
    return path.startswith(("/login/", *_API_PATHS))


def serves(place: Place, path: str) -> bool:
    """Whether that host knows this path; the others answer 404."""
    if path.startswith("/login/"):
        return place.role in ("", "login")
    if path.startswith(_API_PATHS):
        return place.role in ("", "api")
    if path.startswith(_COMPLETION_PATHS):
        return place.role in ("", "proxy")
    return place.role in ("", "copilot")


def proxy_host(site: str, plan: str) -> str:
    """Name the host for completions, as a Copilot token does; empty under no real name."""
    if not site:
        return ""
    return f"proxy.{plan}.githubcopilot.com" if site == GITHUB else f"copilot-proxy.{site}"


def api_host(proxy: str) -> str:
    """Name the API's host that stands beside a host for completions; the API's own stays."""
    return proxy.replace("proxy.", "api.", 1)


def endpoints(place: Place, plan: str, base_url: str, api_base: str | None) -> dict[str, str]:
    """Build the `endpoints` of an answer; `api_base` is told for the API whatever else is true."""
    if not place.site:
        own = dict.fromkeys(("api", "proxy", "telemetry", "origin-tracker"), base_url)
        return own if api_base is None else dict.fromkeys(own, api_base)
    if place.site == GITHUB:
        names = {
            name: f"https://{name}.{plan}.githubcopilot.com"
            for name in ("api", "proxy", "telemetry", "origin-tracker")
        }
    else:
        names = {
            "api": f"https://copilot-api.{place.site}",
            "proxy": f"https://copilot-proxy.{place.site}",
            "telemetry": f"https://copilot-telemetry-service.{place.site}",
            "origin-tracker": f"https://origin-tracker.{place.site}",
        }
    return names if api_base is None else {**names, "api": api_base}
