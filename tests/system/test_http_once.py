"""What upstream gets of a request that it refuses or fails: once, but for what is replayed.

DESIGN's table through the HTTP door, in all three dialects, as they are and translated, streamed
and not: 401 and 421 are sent once more with a fresh token, all else never. One daemon, a person
for each refusal: so no limit of one is in the way of the next.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from system.conftest import start_anew
from system.github import EXCHANGE
from system.http_door import WAYS, Asked, ask, ask_all, code_of, completions
from system.scripted import good, named


if TYPE_CHECKING:
    from collections.abc import Iterator

    from system.github import GitHub
    from system.http_door import Answer, Way
    from system.session import Session


TOGETHER = 0.5
"""Seconds until upstream answers: by then all have been sent."""

ASKED = [(way, stream) for way in WAYS.values() for stream in (False, True)]

REFUSED = {
    "400_model_not_supported": 400,
    "400_off_topic": 400,
    "401_authorize_url": 401,
    "402_date": 402,
    "402_quota_exceeded": 402,
    "403_feature": 403,
    "403_forbidden": 403,
    "proxy_403": 403,
    "404_text": 404,
    "413_text": 413,
    "422": 422,
    "424": 424,
    "429_rate_limited": 429,
    "429_model_overloaded": 429,
    "429_no_retry_after": 429,
    "466": 466,
    "500": 500,
    "502_html": 502,
    "503": 503,
}
"""Passed on, and sent this once."""

REPLAYED = ("401_token_expired", "401_ide_token_expired", "421")

LOST = ("reset_before_head", "close_before_head")
CUT = ("reset_after_head", "close_after_head", "reset_in_body", "close_in_body", "reset_in_chunk")
CUT += ("close_between_chunks",)


@pytest.fixture(scope="module")
def door(plain_session: Session, simulator: GitHub) -> Iterator[Session]:
    """One daemon for all of them."""
    simulator.forget()
    start_anew(plain_session, simulator, "file")
    plain_session.systemctl("start", "copilot-broker.socket")
    yield plain_session
    simulator.forget()


class Told:
    """What became of one request of each kind, all sent at once."""

    def __init__(self, door: Session, github: GitHub, name: str) -> None:
        account = name.replace("_", "-")
        token = github.world.mint("gho_", account)
        good(door, "login", "--account", account, "--with-token", stdin=token)
        headers = {"x-copilot-broker-account": account}
        # The list of models is at hand, so that translated requests are translated.
        assert ask(door, Asked("/v1/models", headers=headers)).status == 200
        github.world.requests.clear()
        fault = replace(named(name, time.time(), "/chat/completions"), delay=TOGETHER)
        for way, _ in ASKED:
            github.world.queue_faults(way.upstream, [fault])
        asked = [way.asked(stream=stream, **headers) for way, stream in ASKED]
        answers = ask_all(door, asked)
        self.answers: list[tuple[Way, bool, Answer]] = [
            (way, stream, answer) for (way, stream), answer in zip(ASKED, answers, strict=True)
        ]
        self.exchanges = github.asked(EXCHANGE)
        self.ids = Counter(each.headers["x-request-id"] for each in completions(github))
        self.sent = Counter(each.path for each in completions(github))
        self.statuses = Counter(each.status for each in completions(github))
        assert {each.headers["x-copilot-broker-account"] for each in answers} == {account}

    def sent_each(self, times: int) -> None:
        """Check how often upstream got each."""
        assert len(self.ids) == len(ASKED)
        assert set(self.ids.values()) == {times}, self.ids
        expected = Counter(way.upstream for way, _ in ASKED)
        assert self.sent == Counter({path: times * n for path, n in expected.items()})


@pytest.mark.parametrize(("name", "status"), REFUSED.items())
def test_a_refusal_is_passed_on_and_never_sent_twice(
    door: Session, simulator: GitHub, name: str, status: int
) -> None:
    told = Told(door, simulator, name)
    told.sent_each(1)
    for way, _, answer in told.answers:
        assert answer.status == status, (way, answer)
        assert code_of(answer, way.dialect)
    # A 403 may cost the token that it was sent with, nothing else does.
    assert told.exchanges <= (status == 403)


@pytest.mark.parametrize("name", REPLAYED)
def test_a_token_that_upstream_does_not_take_is_replaced_and_nobody_notices(
    door: Session, simulator: GitHub, name: str
) -> None:
    told = Told(door, simulator, name)
    told.sent_each(2)
    assert told.exchanges == 1, "one for all of them"
    for way, stream, answer in told.answers:
        assert answer.status == 200, (way, answer)
        assert (way.end in answer.body) is stream


@pytest.mark.parametrize("name", LOST)
def test_who_gets_no_answer_is_not_asked_again(
    door: Session, simulator: GitHub, name: str
) -> None:
    told = Told(door, simulator, name)
    told.sent_each(1)
    assert told.exchanges == 0
    for way, _, answer in told.answers:
        assert answer.status == 503, (way, answer)
        assert code_of(answer, way.dialect) in ("upstream_cut", "upstream_unreachable")


@pytest.mark.parametrize("name", CUT)
def test_an_answer_that_breaks_off_is_an_error_and_no_end(
    door: Session, simulator: GitHub, name: str
) -> None:
    told = Told(door, simulator, name)
    told.sent_each(1)
    assert told.exchanges == 0
    for way, stream, answer in told.answers:
        if not stream:
            if answer.status == 200:  # JSON is one write: all of it was there
                assert name == "close_between_chunks", (way, answer)
                continue
            assert answer.status == 503, (way, answer)
            assert code_of(answer, way.dialect) == "upstream_cut"
            continue
        assert answer.status == 200, (way, answer)
        assert answer.is_whole, "as HTTP has it, the stream ends well"
        assert way.end not in answer.body
        if name == "close_between_chunks":
            assert len(answer.events) > 1, "what had come was passed on"
        told_last = answer.events[-1]
        error = told_last["error"]
        assert error["code"] == "upstream_cut", (way, told_last)
        assert error["message"]
        if way.dialect != "chat/completions":
            assert told_last["type"] == "error"
            assert "\nevent: error\n" in f"\n{answer.body}"
