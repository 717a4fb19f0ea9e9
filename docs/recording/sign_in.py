"""Chapters 1 to 4: from a device code to a login that is known and kept alive."""

from __future__ import annotations

from brokerd.core.tokens import GitHubToken
from brokerd.simulator.github_refusals import table
from brokerd.upstream import preset_for
from recording.stage import APP, NOW, Section, staged


__all__ = ["grant", "person", "polls", "renewal"]

EIGHT_HOURS = 28_800
GITHUB_APP = preset_for("copilot").client_id


async def grant() -> Section:
    """1: the device authorization grant begins."""
    async with staged() as stage:
        preset = preset_for("vscode")
        begun = await stage.part(
            "A device code",
            "Asks for the code that a person types on GitHub's page; `scope` is the preset's.",
            stage.github.request_device_code(preset.client_id, preset.scope),
        )
    return Section(
        "Start of the device grant",
        "A login begins at the login host, without a credential (RFC 8628 §3.1).",
        [begun],
    )


async def polls() -> Section:
    """2: whether the person has decided."""
    async with staged() as stage:
        code = await stage.github.request_device_code(APP, preset_for("vscode").scope)
        pending = await stage.part(
            "Not decided yet",
            "Asked every `interval` seconds until the person has decided or the code ends: then "
            "`error` is `access_denied` or `expired_token`, and nothing more is asked.",
            stage.github.poll_device_grant(APP, code),
        )
        hurried = await stage.part(
            "Too fast",
            "Asked sooner than `interval`, GitHub adds five seconds to it, for good; the broker "
            "does as it is told, and a clock that runs fast is what it suspects.",
            stage.github.poll_device_grant(APP, code),
        )
        stage.simulator.world.settings.enforce_pacing = False
        stage.simulator.world.decide(code.user_code, approve=True)
        granted = await stage.part(
            "Granted",
            "The person has approved: this is the login, and the only time it is told.",
            stage.github.poll_device_grant(APP, code),
        )
    return Section(
        "Polls",
        "While the person is on GitHub's page the broker asks whether they have decided "
        "(RFC 8628 §3.4). All of these answers, the errors too, have status 200.",
        [pending, hurried, granted],
    )


async def renewal() -> Section:
    """3: a GitHub token that expires is replaced."""
    async with staged(github_token_expires_in=EIGHT_HOURS) as stage:
        world = stage.simulator.world
        access, refresh = world.issue_github_token(world.person(), GITHUB_APP, host=stage.host)
        pair = GitHubToken(access, refresh, EIGHT_HOURS)
        renewed = await stage.part(
            "Renewed",
            "Asked before the old token ends; the new pair is saved before it is used, because "
            "the old one is dead from here on.",
            stage.github.renew(GITHUB_APP, pair),
        )
        spent = await stage.part(
            "A refresh token that was used already",
            "Only a newer pair in the store, or a new login, helps here; nothing is deleted.",
            stage.github.renew(GITHUB_APP, pair),
        )
    return Section(
        "Renewal of an expiring token",
        "Tokens of GitHub Apps may expire after eight hours and then come with a refresh token, "
        "which works once (RFC 6749 §6). No secret of the app is sent: tokens of the device "
        "grant need none.",
        [renewed, spent],
    )


async def person() -> Section:
    """4: whose token it is."""
    async with staged() as stage:
        told = await stage.part(
            "A person",
            "The number is what the account is kept under; `x-oauth-scopes` says what the token "
            "may do, and is missing for tokens that have permissions instead.",
            stage.github.identify(stage.token()),
            all_headers=True,
        )
        world = stage.simulator.world
        world.queue_faults("/user", [table(NOW)["401_portal"]])
        portal = await stage.part(
            "Somebody else's answer",
            "Without GitHub's request id and without its JSON, a 401 is a portal's or a proxy's: "
            "the login is kept and asked about again later.",
            stage.github.identify(stage.token()),
        )
    return Section(
        "Whose token it is",
        "The first thing done with any GitHub token, granted or given.",
        [told, portal],
    )
