"""Chapters 5, 6 and 10: what a GitHub token is exchanged for, used as, and how it ends."""

from __future__ import annotations

from brokerd.simulator.faults import Fault
from recording.copilot import CHAT
from recording.stage import Part, Section, staged


__all__ = ["direct_mode", "exchange", "revocation"]

OWN_APP = "Ov0000000000000000AB"
QUESTION = {"model": "sim-chat", "messages": [{"role": "user", "content": "Hello"}]}


async def exchange() -> Section:
    """5: a GitHub token for a Copilot token."""
    async with staged() as stage:
        full = await stage.part(
            "Exchanged",
            "Gives the short-lived token that tools are lent; `refresh_in` says when to ask "
            "again, `expires_at` is read against the answer's own `Date`, `endpoints` are the "
            "hosts that take it.",
            stage.github.exchange(stage.token()),
        )
        dead = stage.token()
        stage.simulator.world.revoke(dead.value)
        revoked = await stage.part(
            "Bad credentials",
            "The login is dead; the broker never asks with it again, because a few such answers "
            "in a row lock the person out of every tool.",
            stage.github.exchange(dead),
        )
        stage.simulator.world.settings.no_access = "no_copilot_access"
        no_plan = await stage.part(
            "No plan",
            "The person has no Copilot: GitHub's own words and its page are passed on.",
            stage.github.exchange(stage.token()),
        )
    async with staged(rate_limit=1) as stage:
        await stage.github.identify(stage.token())
        limited = await stage.part(
            "Rate limit",
            "The person's hour of API requests is used up, by whatever tool; the broker keeps "
            "the token it has and asks again after the reset.",
            stage.github.exchange(stage.token()),
            all_headers=True,
        )
    async with staged() as stage:
        hidden = await stage.part(
            "Hidden",
            "GitHub does not exchange this kind of token, or not this app's: from here on the "
            "account is used in direct mode.",
            stage.github.exchange(stage.token("github_pat_")),
        )
    return Section(
        "Exchange",
        "A GitHub token becomes a Copilot token. The endpoint is undocumented; everything but "
        "`token`, `expires_at` and `refresh_in` is read leniently.",
        [full, revoked, no_plan, limited, hidden],
    )


async def direct_mode() -> Section:
    """6: the GitHub token is the bearer."""
    async with staged() as stage:
        seat = await stage.part(
            "The seat",
            "Asked for `endpoints.api`, the host that takes this person's token, and for the "
            "plan; also proves twice a day that the login lives.",
            stage.github.direct(stage.token(client_id=OWN_APP)),
            kept={"quota_snapshots": 1},
        )
    async with staged() as stage:
        untold = [Fault(json_patch={"endpoints": None})]
        stage.simulator.world.queue_faults("/copilot_internal/user", untold)
        asked = await stage.part(
            "GraphQL",
            "Asked where the seat names no host, as is the case for some tokens.",
            stage.github.direct(stage.token(client_id=OWN_APP)),
        )
        graphql = Part(asked.title, asked.about, asked.exchanges[1:])
    async with staged(mode="direct") as stage:
        await stage.sign_in(stage.token(client_id=OWN_APP))
        chat = await stage.part(
            "A completion",
            "The GitHub token stands where the Copilot token stood, and no "
            "`Copilot-Integration-Id` is sent: it would claim an integration that the token does "
            "not have.",
            stage.complete(QUESTION),
            answered_like=CHAT,
        )
        return Section(
            "Direct mode",
            "What is never exchanged is sent to Copilot as it is. The GitHub token leaves the "
            "broker to GitHub alone; no tool is lent it.",
            [seat, graphql, chat],
        )


async def revocation() -> Section:
    """10: the login ends at GitHub."""
    async with staged() as stage:
        killed = await stage.part(
            "Revoked",
            "Asked by `copilot-cred logout --revoke` only; needs no credential but the one that "
            "dies.",
            stage.github.revoke(stage.token()),
        )
    return Section(
        "Revocation",
        "A login that is forgotten here still lives at GitHub, unless GitHub is told to end it. "
        "Where GitHub refuses, it is kept here too and the page is named where it is ended by "
        "hand.",
        [killed],
    )
