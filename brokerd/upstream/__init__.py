"""GitHub and Copilot over HTTP; the only place with httpx.

Upstream(settings)(host)                 → HttpGitHub, the port `brokerd.ports.GitHub`
Upstream(settings).copilot               → Copilot, the port `brokerd.ports.CopilotApi`
Upstream(settings).headers_for_client()  → what to send along with a Copilot token
preset_for(name_or_client_id, scope)     → what a login is started with, and what it means

httpx asks the small questions (`http`); completions and their streams have a path of their own:
`copilot` renders the request, `pool` has a connection for it, `dial` makes one on the way that
`routes` says, `h1` speaks HTTP/1.1 on it.
"""

from __future__ import annotations

from brokerd.upstream.copilot import Copilot
from brokerd.upstream.github import HttpGitHub, Upstream
from brokerd.upstream.hosts import OriginAllowList, UpstreamSettings, Urls, urls_for
from brokerd.upstream.http import HttpClient, Timeouts
from brokerd.upstream.identity import Identity
from brokerd.upstream.presets import PRESETS, Preset, preset_for


__all__ = [
    "PRESETS",
    "Copilot",
    "HttpClient",
    "HttpGitHub",
    "Identity",
    "OriginAllowList",
    "Preset",
    "Timeouts",
    "Upstream",
    "UpstreamSettings",
    "Urls",
    "preset_for",
    "urls_for",
]
