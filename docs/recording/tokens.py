"""Chapters 5, 6, 10 and 11: what a GitHub token is exchanged for, used as, tells, and its end."""

from __future__ import annotations

from brokerd.core.tokens import Pat
from brokerd.simulator.faults import Fault
from recording.copilot import CHAT
from recording.stage import NOW, Part, Section, Stage, staged


__all__ = ["direct_mode", "exchange", "quota", "revocation"]

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


async def quota() -> Section:
    """10: what is left of the plan."""
    async with staged(user_form="free") as stage:
        seat = await stage.part(
            "The seat of a free plan",
            "Asked with the GitHub token when somebody wants to know, every five minutes at most; "
            "read leniently, as its shape has changed often. Plans that are paid for have "
            "`quota_snapshots` instead.",
            stage.github.seat(stage.token()),
        )
    async with staged() as stage:
        billed = await stage.part(
            "The bill",
            "Asked first where a personal access token was given (`copilot-cred quota set-pat`), "
            "which is sent nowhere else; counts exactly, but does not say what the plan includes.",
            stage.github.billing(_pat(stage), "octocat", NOW),
            kept={"usageItems": 1},
        )
    async with staged(billing_form="ai_credits") as stage:
        asked = await stage.part(
            "The bill in AI credits",
            "Asked after it: since June 2026 most plans are counted in credits. It is known from "
            "reports only, so it may be missing.",
            stage.github.billing(_pat(stage), "octocat", NOW),
            kept={"usageItems": 1},
        )
        credit = Part(asked.title, asked.about, asked.exchanges[1:], kept=asked.kept)
    async with staged(billing_form="no_permission") as stage:
        refused = await stage.part(
            "A token without the permission",
            "Needs the account permission Plan (read-only). A 401 is taken for `pat_refused` "
            "(expired or revoked), a 404 for `pat_user_unknown` (another person, or an "
            "organization pays); none of them concerns the login.",
            stage.github.billing(_pat(stage), "octocat", NOW),
        )
    return Section(
        "Quota",
        "What is left of the plan. Two more sources cost no request: the headers of answers to "
        "completions, and what the exchange says of a free plan.",
        [seat, billed, credit, refused],
    )


def _pat(stage: Stage) -> Pat:
    return Pat(stage.token("github_pat_").value)


async def revocation() -> Section:
    """11: the login ends at GitHub."""
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
