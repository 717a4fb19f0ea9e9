"""Whatever breaks while a token is fetched, and wherever: no secret in what is logged or told."""

from __future__ import annotations

import base64
import io
import logging
from urllib.parse import quote

import pytest

from brokerd.core.tokens import GitHubToken, Login, User
from brokerd.errors import BrokerError
from brokerd.host.logs.journal import LineSink
from brokerd.host.logs.learning import LearningGitHub
from fakes.broker_world import World


LOGIN = "ghu_" + "Kept4Canary" * 3
REFRESH = "ghr_" + "Kept4Canary" * 6

BEFORE_IT_WAS_SEEN = {"load asked"}
"""There only the store knows the login: its shape is known, its other spellings are not."""

PLACES = [
    "load asked",
    "exchange asked",
    "token exchanged",
    "save again asked",
    "login written again",
    "renew asked",
    "login renewed",
    "save asked",
    "login written",
]
"""Where the way to a new token waits for somebody else, a renewal of the login included."""


class Sabotage:
    """Fails with all secrets in its words, once, at one place."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.reached: list[str] = []
        self.secrets: set[str] = {LOGIN, REFRESH}

    async def __call__(self, name: str) -> None:
        is_first = name not in self.reached
        self.reached.append(name)
        if name == self.place and is_first:
            words = " ".join(sorted(self.forms(name)))
            try:
                raise ValueError(f"the cause: {words}")
            except ValueError as cause:
                raise RuntimeError(f"defect with {words}", {"headers": words}) from cause

    def forms(self, place: str) -> set[str]:
        plain = {form for each in self.secrets for form in (each, quote(each, safe=""))}
        if place in BEFORE_IT_WAS_SEEN:
            return plain
        raw = [each.encode() for each in self.secrets]
        return (
            plain
            | {each.hex() for each in raw}
            | {base64.b64encode(each).decode().rstrip("=") for each in raw}
        )


@pytest.fixture
def shown():
    """What a person reads of the log at its most talkative."""
    stream = io.StringIO()
    sink, root = LineSink(stream), logging.getLogger()
    before = root.level
    root.addHandler(sink)
    root.setLevel(logging.DEBUG)
    yield stream
    root.setLevel(before)
    root.removeHandler(sink)


async def a_day(sabotage: Sabotage) -> list[str]:
    """Run into the trouble and past it; what callers and `status` were told meanwhile."""
    world = World(sabotage)
    github = world.github
    world.github = LearningGitHub(github)
    token = GitHubToken(LOGIN, REFRESH, 28_800.0, world.clock.wall() + 3400.0)
    world.keep_login()
    [key] = world.store.items
    world.store.items[key] = Login("github.com", User(42, "user42"), token, "app")
    broker = await world.start()
    told = []
    for _ in range(12):
        try:
            lease = await broker.lease(None, timeout=0.0)
        except BrokerError as error:
            told.append(f"{error!r} {error} {error.failure!r}")
        else:
            sabotage.secrets.add(lease.token)
            told.append(repr(lease))
        told.append(repr(broker.accounts()))
        await world.clock.advance(600.0, rounds=12)
    if sabotage.place != "login renewed":  # an answer that is lost there takes both pairs along
        assert (await broker.lease(None)).token, "one defect is not the end"
    await world.stop()
    return told


async def test_the_places_are_all_there_are():
    sabotage = Sabotage("nowhere")
    await a_day(sabotage)
    assert set(sabotage.reached) == set(PLACES)


@pytest.mark.parametrize("place", PLACES)
async def test_a_defect_shows_no_secret(place, shown):
    sabotage = Sabotage(place)
    told = await a_day(sabotage)
    text = shown.getvalue()
    assert "Traceback" in text
    assert "the cause: " in text, "the record that is looked through has the words"
    for form in sabotage.forms("in the end"):
        assert form not in text
        assert all(form not in each for each in told)


async def test_the_words_are_secret_without_the_sink(caplog):
    """The control: the record itself has them."""
    caplog.set_level(logging.DEBUG)
    await a_day(Sabotage("exchange asked"))
    assert LOGIN in caplog.text
