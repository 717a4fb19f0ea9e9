"""GitHub and Copilot over HTTP; the only place with httpx.

Upstream(settings)(host)         → HttpGitHub, the port `brokerd.ports.GitHub`
preset_for(name_or_client_id)    → what a login is started with, and whose name it shows
headers_for_client()             → what to send along with a Copilot token
"""

from __future__ import annotations

from brokerd.upstream.github import HttpGitHub, Upstream
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings, Urls, urls_for
from brokerd.upstream.http import HttpClient, Timeouts
from brokerd.upstream.identity import headers_for_client
from brokerd.upstream.presets import PRESETS, Preset, preset_for


__all__ = [
    "PRESETS",
    "HttpClient",
    "HttpGitHub",
    "OriginAllowList",
    "Preset",
    "Timeouts",
    "Upstream",
    "UpstreamSettings",
    "Urls",
    "headers_for_client",
    "preset_for",
    "urls_for",
]
