"""Fit the edges to the configuration of the moment: upstream, login requests, what logins mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.core.setting_checks import NotAllowedError, account_name, client_id, host, scope
from brokerd.core.settings import DEFAULT_ACCOUNT
from brokerd.errors import ErrorClass, Failure, PermanentError
from brokerd.upstream import Upstream, UpstreamSettings, preset_for
from brokerd.views import LoginRequest


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brokerd.core.settings import Config


__all__ = ["about_app", "login_request", "upstream_of"]


def upstream_of(config: Config) -> Upstream:
    """Return the configured way to GitHub; it connects when first asked."""
    return Upstream(
        UpstreamSettings(
            login=config.urls.login,
            api=config.urls.api,
            copilot=config.urls.copilot,
            completions=config.urls.completions,
            proxy=config.network.proxy,
            ca_file=config.network.ca_file,
            identity=config.identity,
        )
    )


def login_request(config: Config, params: Mapping[str, Any]) -> LoginRequest:
    """Fill what the caller left open from the account's settings; PermanentError (USAGE)."""
    account = _checked("account", params.get("account") or DEFAULT_ACCOUNT, account_name)
    settings = config.account(account)
    client = _checked("client_id", params.get("client_id") or settings.client_id, client_id)
    wanted = _checked("scope", params.get("scope") or settings.scope, scope)
    preset = preset_for(client, wanted)
    return LoginRequest(
        account=account,
        host=_checked("host", params.get("host") or settings.host, host),
        client_id=preset.client_id,
        scope=preset.scope,
        token=params.get("token"),
        store=params.get("store"),
    )


def _checked(name: str, value: str, check: Callable[[str], str]) -> str:
    """Hold what a caller sends to the rules of the configuration."""
    try:
        return check(value)
    except NotAllowedError as allowed:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                f"bad_{name}",
                f"{name} must be {allowed}",
                "See: copilot-cred login --help",
            )
        ) from None


def about_app(request: LoginRequest) -> Mapping[str, object]:
    """Whom the person approves on GitHub's page, and what that means."""
    preset = preset_for(request.client_id, request.scope, host=request.host)
    notice = (
        "copilot-broker is unofficial; one login is one person; use counts against your own plan"
    )
    return {
        "app": preset.app,
        "client": preset.name,
        "means": list(preset.means),
        "notice": notice,
    }
