"""OAuth client ids by name, and the app that a person approves with each.

Whoever uses another product's client id presents itself as that product on GitHub's consent
screen: the name in `app` is what the login must show. An own id works as well, given literally.
"""

from __future__ import annotations

from dataclasses import dataclass


__all__ = ["PRESETS", "Preset", "preset_for"]


@dataclass(frozen=True)
class Preset:
    """What the device authorization grant is started with."""

    client_id: str
    scope: str
    """Space-separated; GitHub Apps have permissions instead and ignore it."""
    app: str
    """The name on GitHub's consent screen."""


PRESETS = {
    "vscode": Preset("01ab8ac9400c4e429b23", "user:email", "Visual Studio Code"),
    "copilot": Preset("Iv1.b507a08c87ecfe98", "", "GitHub Copilot Plugin"),
}

# What a client id of one's own asks for: to see who it is.
LITERAL_SCOPE = "read:user"


def preset_for(client_id: str) -> Preset:
    """Resolve the name of a preset, or a client id itself."""
    if client_id in PRESETS:
        return PRESETS[client_id]
    for preset in PRESETS.values():
        if preset.client_id == client_id:
            return preset
    return Preset(client_id, LITERAL_SCOPE, f"the app with client id {client_id}")
