"""Which Copilot hosts serve a token: the most exact word about it that there is.

First what GitHub names in the answer that the token came with (`endpoints`), then the plan, then
what the token says of itself, last the host for everybody. Configured origins and those of a
tenant take the place of all but the first. Each is checked before a credential goes there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from brokerd.core.token_string import TokenString


if TYPE_CHECKING:
    from brokerd.upstream.hosts import OriginAllowList, Urls


__all__ = ["Bases", "Endpoints", "choose", "endpoints_of", "plan_of"]


@dataclass(frozen=True)
class Endpoints:
    """What GitHub names, unchecked; "" for what it does not."""

    api: str = ""
    proxy: str = ""


@dataclass(frozen=True)
class Bases:
    """The origins to use, checked."""

    copilot: str
    completions: str


def endpoints_of(value: object) -> Endpoints:
    """Read `endpoints` of an answer; what has another type counts as absent."""
    if not isinstance(value, dict):
        return Endpoints()
    api, proxy = value.get("api"), value.get("proxy")
    return Endpoints(
        api=api if isinstance(api, str) else "", proxy=proxy if isinstance(proxy, str) else ""
    )


def plan_of(value: object) -> str:
    """Return the plan that `copilot_plan` means for the choice of a host; "auto" if none."""
    # `free` counts as individual (the exchange says so); the rest has suffixes: individual_pro.
    if not isinstance(value, str):
        return "auto"
    word = value.partition("_")[0]
    return {"free": "individual"}.get(word, word)


def choose(
    endpoints: Endpoints,
    plan: str,
    urls: Urls,
    permitted: OriginAllowList,
    told: TokenString = TokenString(),  # noqa: B008 - frozen
) -> Bases:
    """Choose both; PermanentError (DENIED) when GitHub names an API that is not permitted."""
    urls = urls.for_plan(plan)
    copilot, completions = urls.copilot, urls.completions
    if "copilot" in urls.generic and told.api_host:
        copilot = permitted.completions_origin(f"https://{told.api_host}") or copilot
    if "completions" in urls.generic and told.proxy_host:
        completions = permitted.completions_origin(f"https://{told.proxy_host}") or completions
    if endpoints.api:
        copilot = permitted.copilot_origin(endpoints.api)
    if endpoints.proxy:
        completions = permitted.completions_origin(endpoints.proxy) or completions
    return Bases(copilot, completions)
