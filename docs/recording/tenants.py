"""Chapter 12: the same steps on a tenant of ghe.com, whose hosts are its own."""

from __future__ import annotations

from brokerd.core.tokens import Pat
from recording.stage import APP, NOW, Stage, staged


__all__ = ["TENANT", "hosts"]

TENANT = "octo.ghe.com"

PLAN = "business"
QUESTION = {"model": "sim-chat", "messages": [{"role": "user", "content": "Hello"}]}


async def hosts(host: str) -> dict[str, str]:
    """Return what each step asks, by its request line without the host → the host."""
    async with staged(host, plan=PLAN) as stage:
        await _all_steps(stage)
        asked = stage.simulator.world.requests
    return {f"{each.method} {each.path}": each.headers["host"] for each in asked}


async def _all_steps(stage: Stage) -> None:
    github = stage.github
    code = await github.request_device_code(APP, "user:email")
    stage.simulator.world.decide(code.user_code, approve=True)
    await github.poll_device_grant(APP, code)
    await stage.sign_in()
    await stage.proxy.models(None)
    await stage.proxy.enable_model(None, "sim-premium")
    await stage.complete(QUESTION)
    await github.direct(stage.token(client_id="Ov0000000000000000AB"))
    stage.simulator.world.settings.endpoints = False
    await github.direct(stage.token(client_id="Ov0000000000000000AB"))
    pat = Pat(stage.token("github_pat_").value)
    await github.billing(pat, "octocat", NOW)
    await github.revoke(stage.token())
