"""Ready-made faults for GitHub's own paths, by name: the API, the exchange, the device flow.

The errors of the device flow come with status 200, as GitHub sends them. Where the request id is
missing, a proxy or a firewall has answered in GitHub's place.
"""

from __future__ import annotations

from typing import Any

from brokerd.simulator import answers
from brokerd.simulator.faults import Fault
from brokerd.simulator.login import oauth_error
from brokerd.simulator.notifications import NOTIFICATIONS, error_envelope


__all__ = ["NAMES", "table"]

LOGIN = "octocat"
SOON = 60
SLOWED_DOWN = 10
SAML = (
    "Resource protected by organization SAML enforcement. You must grant your OAuth token access "
    "to this organization."
)
SSO = "orgs/octo-org/sso?authorization_request=SIMULATED"
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
_DEVICE_ERRORS = (
    "authorization_pending", "expired_token", "token_expired", "access_denied",
    "incorrect_device_code", "incorrect_client_credentials", "unsupported_grant_type",
    "bad_refresh_token", "device_flow_disabled", "an_error_of_tomorrow",
)  # fmt: skip
_HTML: dict[str, str | None] = {"Content-Type": "text/html"}
_FOREIGN = _HTML | {"x-github-request-id": None}


def table(now: float) -> dict[str, Fault]:
    """Build them all; moments in them are counted from `now`, Unix seconds."""
    spent: dict[str, str | None] = {
        "x-ratelimit-limit": "5000",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-used": "5000",
        "x-ratelimit-reset": str(int(now) + SOON),
        "x-ratelimit-resource": "core",
    }
    retry: dict[str, str | None] = {"retry-after": str(SOON)}
    return {
        **{f"403_{each}": Fault(403, {}, error_envelope(each, LOGIN)) for each in NOTIFICATIONS},
        "403_rate_limit": _refused(403, "API rate limit exceeded for user ID 583231.", spent),
        "403_secondary": _refused(403, SECONDARY, retry),
        "429": _refused(429, SECONDARY, retry),
        "429_rate_limit": _refused(429, "API rate limit exceeded for user ID 583231.", spent),
        "429_no_header": _refused(429, SECONDARY),
        "403_sso": _sso(f"https://github.com/{SSO}"),
        "403_sso_foreign_url": _sso(f"https://github.com.example.net/{SSO}"),
        "403_plain": _refused(403, "Forbidden"),
        "404_saml": _refused(404, SAML),
        "403_lockout": _refused(403, answers.LOCKED_OUT),
        "401": _refused(401, "Bad credentials"),
        "404": _refused(404, "Not Found"),
        "466": _refused(466, "The API version of this request is no longer supported."),
        "500": _refused(500, "Server Error"),
        "503": _refused(503, "Service Unavailable"),
        "404_proxy": Fault(404, _FOREIGN, "<html><h1>404 Not Found</h1></html>\n"),
        "401_portal": Fault(401, _FOREIGN, "<html><h1>Sign in to the network</h1></html>\n"),
        "403_proxy_html": Fault(403, _FOREIGN, "<html><h1>Blocked by policy</h1></html>\n"),
        "502_html": Fault(502, _HTML, "<html><h1>502 Bad Gateway</h1></html>\n"),
        "200_html": Fault(200, _HTML, "<html><h1>Welcome</h1></html>\n"),
        "200_empty": Fault(200, {"Content-Type": "application/json"}, ""),
        "200_list": Fault(200, {}, []),
        # Of the device flow.
        **{each: Fault(200, {}, oauth_error(each)) for each in _DEVICE_ERRORS},
        "slow_down": Fault(200, {}, oauth_error("slow_down", interval=SLOWED_DOWN)),
        "slow_down_no_interval": Fault(200, {}, oauth_error("slow_down")),
        "400_device_flow_disabled": Fault(400, {}, oauth_error("device_flow_disabled")),
        "400_unauthorized_client": Fault(400, {}, oauth_error("unauthorized_client")),
        "404_client": Fault(404, {}, {"error": "Not Found"}),
    }


def _refused(status: int, message: str, headers: dict[str, str | None] | None = None) -> Fault:
    body: dict[str, Any] = answers.standard(status, message)
    return Fault(status, headers or {}, body)


def _sso(url: str) -> Fault:
    return _refused(403, SAML, {"X-GitHub-SSO": f"required; url={url}"})


NAMES = tuple(table(0))
