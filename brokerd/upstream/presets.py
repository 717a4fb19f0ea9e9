"""OAuth client ids by name, and what a person says yes to with each.

Whoever uses another product's client id presents itself as that product on GitHub's consent
screen: the name in `app` is what the login must show. An own id works as well, given literally.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


__all__ = ["PRESETS", "Preset", "preset_for"]

Kind = Literal["OAuth App", "GitHub App"]


@dataclass(frozen=True)
class Preset:
    """What the device authorization grant is started with."""

    client_id: str
    scope: str
    """Separated by spaces; GitHub Apps have permissions instead and ignore it."""
    app: str
    """The name on GitHub's consent screen."""
    name: str
    """`vscode`, `copilot`, or the client id itself."""
    kind: Kind
    exchanges: bool | None
    """Whether GitHub exchanges this app's tokens for short-lived ones; None: not known."""
    means: tuple[str, ...] = ()
    """What approving means, in whole sentences for the login to show."""


PRESETS = {
    "vscode": Preset(
        "01ab8ac9400c4e429b23", "user:email", "Visual Studio Code", "vscode", "OAuth App", True
    ),
    "copilot": Preset(
        "Iv1.b507a08c87ecfe98", "", "GitHub Copilot Plugin", "copilot", "GitHub App", True
    ),
}

# Apps that are known, but have no name here: tokens of theirs serve in direct mode only.
KNOWN = {
    "Ov23li8tweQw6odWQebz": "opencode",
    "Ov23ctDVkRmgkPke0Mmm": "GitHub Copilot CLI",
    "178c6fc778ccc68e1d6a": "GitHub CLI",
}

# What a client id of one's own asks for: to see who it is.
LITERAL_SCOPE = "read:user"

# GitHub's documentation, "Scopes for OAuth apps".
SCOPES = {
    "user": "read and change your profile",
    "read:user": "read your profile",
    "user:email": "read your e-mail addresses",
    "user:follow": "follow and unfollow people as you",
    "repo": "read and change all your repositories, private ones too",
    "public_repo": "change your public repositories",
    "read:org": "see your organizations and teams",
    "gist": "create and change your gists",
    "workflow": "change your GitHub Actions workflows",
    "codespace": "create and manage your codespaces",
}


_TAKE_BACK = (
    "Take it back at any time: https://{host}/settings/applications, or: "
    "copilot-cred logout --revoke"
)


def preset_for(client_id: str, scope: str = "", *, host: str = "github.com") -> Preset:
    """Resolve the name of a preset, or a client id itself; a given `scope` replaces its own.

    `host` is where the person will approve, and can take it back.
    """
    known = {each.client_id: each for each in PRESETS.values()}
    preset = PRESETS.get(client_id) or known.get(client_id) or _literal(client_id)
    preset = replace(preset, scope=scope or preset.scope)
    return replace(preset, means=_meaning(preset, host))


def _literal(client_id: str) -> Preset:
    # The ids of GitHub Apps begin with Iv, those of OAuth Apps with Ov or (older) a hex digit.
    kind: Kind = "GitHub App" if client_id.startswith("Iv") else "OAuth App"
    scope = LITERAL_SCOPE if kind == "OAuth App" else ""
    name = KNOWN.get(client_id)
    app = name or f"the app with client id {client_id}"
    return Preset(client_id, scope, app, client_id, kind, False if name else None)


def _meaning(preset: Preset, host: str) -> tuple[str, ...]:
    shared = preset.name in PRESETS or preset.client_id in KNOWN
    return (
        f"GitHub's page will name {preset.app} ({preset.kind}), not copilot-broker"
        + (": to GitHub, this login is one of that product." if shared else "."),
        _asked(preset),
        _used(preset.exchanges),
        "GitHub keeps at most ten logins of one person with one app and one set of scopes: the "
        "eleventh ends the oldest"
        + (", and tools that share this client id can sign each other out." if shared else "."),
        _TAKE_BACK.format(host=host),
    )


def _asked(preset: Preset) -> str:
    if preset.kind == "GitHub App":
        return (
            "It asks for no scopes: a GitHub App has fixed permissions, which GitHub's page lists."
        )
    scopes = preset.scope.split()
    told = [f"{scope} ({SCOPES.get(scope, 'see GitHub')})" for scope in scopes]
    return f"Scopes it asks for: {', '.join(told)}." if told else "It asks for no scopes."


def _used(exchanges: bool | None) -> str:
    direct = (
        "used directly and never leaves the broker: completions work, copilot-cred get does not."
    )
    if exchanges:
        return (
            "GitHub exchanges such a login for short-lived Copilot tokens, which tools are lent."
        )
    if exchanges is None:
        return (
            "GitHub decides whether such a login can be exchanged for short-lived Copilot tokens; "
            f"where not, it is {direct}"
        )
    return f"GitHub does not exchange such a login for Copilot tokens: it is {direct}"
