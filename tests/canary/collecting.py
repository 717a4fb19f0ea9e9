"""Every secret that a simulated GitHub of this process makes, told to who listens.

The one place of the tests that looks into the simulator for it; production code has no hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.simulator import minting
from brokerd.simulator.world import World


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["listen"]


def listen(tell: Callable[[str, str], None]) -> Callable[[], None]:
    """Call `tell(secret, kind)` for each from now on, from any thread; returns how to stop it."""
    github, copilot, start = (
        minting.mint_github_token,
        minting.mint_copilot_token,
        World.start_grant,
    )

    def mint_github_token(grant: minting.GitHubGrant) -> str:
        token = github(grant)
        tell(token, "refresh token" if grant.kind == "ghr_" else f"GitHub token ({grant.kind})")
        return token

    def mint_copilot_token(*args: Any, **more: Any) -> str:
        token = copilot(*args, **more)
        tell(token, "Copilot token")
        return token

    def start_grant(world: World, *args: Any, **more: Any) -> Any:
        grant = start(world, *args, **more)
        tell(grant.device_code, "device code")
        return grant

    def stop() -> None:
        minting.mint_github_token, minting.mint_copilot_token = github, copilot
        World.start_grant = start  # type: ignore[method-assign]

    minting.mint_github_token = mint_github_token
    minting.mint_copilot_token = mint_copilot_token
    World.start_grant = start_grant  # type: ignore[method-assign]
    return stop
