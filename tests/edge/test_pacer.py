"""The pacing gate in an event loop: who goes, who waits, who is refused, and when."""

import asyncio
import logging
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerd.core.pacing.fair_queue import MAX_WAIT, MAX_WAITING
from brokerd.core.pacing.limit import PATIENCE
from brokerd.core.refusals import Refusal
from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.pacer import Pacer
from fakes.clock import FakeClock, settle


BODY = b'{"model": "m"}'


def limits(retry_after=None, what="account"):
    return Refusal(
        Failure(ErrorClass.TEMPORARY, "rate_limited", "slow down", retry_after=retry_after), what
    )


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def pacer(clock):
    pacer = Pacer(clock)
    yield pacer
    pacer.close()


def enter(pacer, count=1, peer=1, account="a"):
    return [pacer.enter(account, peer, BODY) for _ in range(count)]


def refusal(pacer, body=BODY, account="a"):
    with pytest.raises(TransientError) as caught:
        pacer.enter(account, 1, body)
    return caught.value.failure


async def limited(pacer, clock, in_flight=2):
    """Have upstream limit the account to half of that; return what is under way."""
    tickets = enter(pacer, in_flight)
    tickets[0].answered(429, limits(1))
    tickets.pop(0).close()
    await clock.advance(1)
    return tickets


async def limited_again(pacer, clock):
    """Under way, sent under the limit in force."""
    task = await waiting(pacer)
    await clock.advance(PATIENCE)
    return [await task]


async def waiting(pacer, peer=1, body=BODY, account="a"):
    task = asyncio.create_task(pacer.turn(account, peer, body))
    await settle(3)
    return task


class TestQuiet:
    async def test_as_many_as_there_are(self, pacer):
        tickets = enter(pacer, 1_000)
        assert all(tickets)
        assert pacer.view("a").in_flight == 1_000
        for ticket in tickets:
            ticket.answered(200, None)
            ticket.close()
            ticket.close()
        assert pacer.view("a").in_flight == 0
        assert pacer.cooldown("a") is None

    async def test_an_account_nobody_used_is_shown_so(self, pacer):
        view = pacer.view("other")
        assert (view.cooldown_in, view.circuit, view.limit, view.reason) == (
            None,
            "closed",
            None,
            None,
        )

    async def test_costs_next_to_nothing(self, pacer):
        def once():
            ticket = pacer.enter("a", 1, BODY)
            ticket.answered(200, None)
            ticket.close()

        best = min(timeit.repeat(once, number=2_000, repeat=5)) / 2_000
        assert best < 15e-6  # ten times the promise: other work may share the machine

    async def test_a_refused_body_is_let_go_once_it_is_answered(self, pacer):
        (ticket,) = enter(pacer)
        ticket.answered(200, None)
        assert ticket._body == b""


class TestCooldown:
    async def test_nothing_is_let_pass_before_retry_after(self, pacer, clock):
        first, second = enter(pacer, 2)
        first.answered(429, limits(60))
        first.close()
        assert refusal(pacer).retry_after == 60.0
        second.answered(200, None)
        second.close()
        await clock.advance(59.5)
        assert refusal(pacer).code == "cooling_down"
        assert pacer.cooldown("a") == pytest.approx(0.5)
        assert pacer.view("a").reason.code == "rate_limited"
        await clock.advance(0.5)
        assert pacer.cooldown("a") is None
        assert all(enter(pacer))

    async def test_what_is_sent_again_waits_too(self, pacer, clock):
        first, second = enter(pacer, 2)
        second.again()
        first.answered(429, limits(60))
        with pytest.raises(TransientError) as caught:
            second.again()
        assert caught.value.failure.code == "cooling_down"
        await clock.advance(60)
        second.again()
        second.close()
        second.again()

    async def test_a_suspend_counts(self, pacer, clock):
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(600))
        clock.suspend(600)
        assert all(enter(pacer))

    async def test_it_is_the_accounts_own(self, pacer):
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(60))
        assert all(enter(pacer, account="b"))

    async def test_a_model_cools_down_alone(self, pacer):
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(60, "model"))
        assert "'m'" in refusal(pacer).message
        assert pacer.enter("a", 1, b'{"model": "other"}') is not None
        assert pacer.cooldown("a") is None
        assert pacer.view("a").models == {"m": 60.0}

    async def test_begin_and_end_are_told(self, pacer, clock):
        told = []
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(100))
        await settle()
        assert told == [100.0]
        await clock.advance(99)
        assert len(told) == 1
        await clock.advance(1)
        assert told == [100.0, None]

    async def test_a_resume_tells_of_the_end_at_once(self, pacer, clock):
        told = []
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(3_600))
        await settle()
        clock.suspend(4_000)
        await settle()
        assert told == [3_600.0, None]

    async def test_a_suspend_nobody_noticed_is_found_within_half_a_minute(self, pacer, clock):
        told = []
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(3_600))
        await settle()
        clock._suspended += 3_600  # and no nap ends of it
        await clock.advance(30)
        assert told == [3_600.0, None]

    async def test_who_listens_badly_breaks_nothing(self, pacer, clock):
        def broken():
            raise ValueError

        seen = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: seen.append(context)
        )
        pacer.on_change(broken)
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(10))
        ticket.close()
        await clock.advance(10)
        assert len(seen) == 2
        assert all(enter(pacer))

    async def test_a_longer_one_is_told_and_a_shorter_one_is_not(self, pacer, clock):
        told = []
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        tickets = enter(pacer, 3)
        for ticket, pause in zip(tickets, (60, 5, 90), strict=True):
            ticket.answered(429, limits(pause))
            await settle()
        assert told == [60.0, 90.0]
        await clock.advance(90)
        assert told == [60.0, 90.0, None]

    async def test_is_written_down_without_the_callers_words(self, pacer, caplog):
        caplog.set_level(logging.INFO)
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(60))
        record = caplog.records[-1]
        assert (record.ACCOUNT, record.REASON, record.SECONDS) == ("a", "rate_limited", 60)


class TestLimitBeingRead:
    """Of a limit the head is there; whose limit it is stands in the body."""

    async def test_nothing_is_sent_until_it_is_known_whose_it_is(self, pacer):
        (ticket,) = enter(pacer)
        ticket.limited()
        ticket.limited()
        assert enter(pacer) == [None]
        mine, other = await waiting(pacer), await waiting(pacer, body=b'{"model": "o"}')
        ticket.answered(429, limits(60, "model"))
        with pytest.raises(TransientError, match="cooling_down"):
            await mine
        (await other).close()
        ticket.close()
        assert pacer.view("a").in_flight == 0

    async def test_all_are_refused_when_it_is_everybodys(self, pacer):
        (ticket,) = enter(pacer)
        ticket.limited()
        task = await waiting(pacer)
        ticket.answered(429, limits(60))
        with pytest.raises(TransientError, match="cooling_down"):
            await task

    @pytest.mark.parametrize("end", ["close", "no_limit"])
    async def test_all_may_go_when_it_is_none(self, pacer, end):
        (ticket,) = enter(pacer)
        ticket.limited()
        task = await waiting(pacer)
        if end == "no_limit":
            ticket.answered(403, None)
        ticket.close()
        (await task).close()
        (last,) = enter(pacer)
        last.answered(200, None)
        last.close()
        assert pacer.view("a").in_flight == 0
        assert pacer._lanes["a"].gate.is_quiet


class TestQueue:
    async def test_under_a_limit_one_waits_for_another_to_end(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        assert pacer.view("a").limit == 1
        assert enter(pacer) == [None]
        task = await waiting(pacer)
        assert pacer.view("a").queued == 1
        out.close()
        ticket = await asyncio.wait_for(task, 5)
        assert pacer.view("a").in_flight == 1
        ticket.close()

    async def test_nobody_overtakes_who_waits(self, pacer, clock):
        out = await limited(pacer, clock, 5)
        assert pacer.view("a").limit == 2
        task = await waiting(pacer)
        for ticket in out[:3]:
            ticket.close()
        assert enter(pacer) == [None]  # the room is the waiter's, though it has not run yet
        (await asyncio.wait_for(task, 5)).close()
        assert all(enter(pacer))

    async def test_processes_take_turns(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        served = []

        async def ask(peer):
            ticket = await pacer.turn("a", peer, BODY)
            served.append(peer)
            ticket.close()

        tasks = [asyncio.create_task(ask(1)) for _ in range(100)]
        await settle(3)
        tasks.append(asyncio.create_task(ask(2)))
        await settle(3)
        out.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)
        assert 2 in served[:2]
        assert len(served) == 101

    async def test_what_is_under_way_is_never_cut(self, pacer, clock):
        out = await limited(pacer, clock, 9)
        assert pacer.view("a").limit == 4
        assert pacer.view("a").in_flight == 8
        task = await waiting(pacer)
        for ticket in out[:4]:
            ticket.close()
        await settle()
        assert not task.done()
        out[4].close()
        (await asyncio.wait_for(task, 5)).close()

    async def test_a_wait_ends_after_thirty_seconds(self, pacer, clock):
        await limited(pacer, clock)
        *first, task = [await waiting(pacer) for _ in range(6)]
        await clock.advance(MAX_WAIT - 0.1)
        assert all(each.done() for each in first)
        assert not task.done()
        await clock.advance(0.1)
        with pytest.raises(TransientError) as caught:
            await asyncio.wait_for(task, 5)
        assert caught.value.failure.code == "queued_too_long"
        assert "rate_limited: slow down" in caught.value.failure.message
        assert pacer.view("a").queued == 0

    async def test_only_so_many_wait(self, pacer, clock):
        await limited(pacer, clock)
        tasks = [asyncio.create_task(pacer.turn("a", 1, BODY)) for _ in range(MAX_WAITING)]
        await settle(3)
        with pytest.raises(TransientError) as caught:
            await pacer.turn("a", 2, BODY)
        assert caught.value.failure.code == "queue_full"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert pacer.view("a").queued == 0

    async def test_who_gives_up_waiting_takes_no_room(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        first, second = await waiting(pacer), await waiting(pacer)
        first.cancel()
        await settle(3)
        out.close()
        (await asyncio.wait_for(second, 5)).close()
        assert pacer.view("a").in_flight == 0

    async def test_who_gives_up_as_its_turn_comes_takes_no_room(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        first, second = await waiting(pacer), await waiting(pacer)
        out.close()  # its turn, of which it does not know yet
        first.cancel()
        (await asyncio.wait_for(second, 5)).close()
        assert first.cancelled()
        assert pacer.view("a").in_flight == 0

    async def test_who_gives_up_before_its_turn_comes_is_passed_over(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        first, second = await waiting(pacer), await waiting(pacer)
        first.cancel()
        out.close()
        (await asyncio.wait_for(second, 5)).close()
        assert pacer.view("a").in_flight == 0

    async def test_a_short_cooldown_is_waited_out(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        task = await waiting(pacer)
        out.answered(429, limits(10))
        out.close()
        await clock.advance(9.9)
        assert not task.done()
        await clock.advance(0.1)
        (await asyncio.wait_for(task, 5)).close()

    async def test_a_long_one_ends_the_wait_at_once(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        task = await waiting(pacer)
        out.answered(429, limits(31))
        with pytest.raises(TransientError) as caught:
            await asyncio.wait_for(task, 5)
        assert caught.value.failure.code == "cooling_down"
        assert caught.value.failure.retry_after == 31.0

    async def test_a_models_cooldown_ends_the_wait_of_its_requests_only(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        ours, others = await waiting(pacer), await waiting(pacer, body=b'{"model": "x"}')
        out.answered(429, limits(5, "model"))
        with pytest.raises(TransientError):
            await asyncio.wait_for(ours, 5)
        out.close()
        (await asyncio.wait_for(others, 5)).close()

    async def test_a_model_may_cool_down_for_longer_than_the_account(self, pacer, clock):
        first, *out = await limited(pacer, clock, 4)
        task = await waiting(pacer)
        first.answered(429, limits(10))
        out[0].answered(429, limits(20, "model"))
        clock.suspend(10)  # and before anybody has looked at the clock:
        for ticket in (first, *out):
            ticket.close()
        with pytest.raises(TransientError) as caught:
            await asyncio.wait_for(task, 5)
        assert "'m'" in caught.value.failure.message
        assert caught.value.failure.retry_after == 10.0

    async def test_successes_make_room(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        out.close()
        (first,) = enter(pacer)
        task = await waiting(pacer)
        first.answered(200, None)
        (await asyncio.wait_for(task, 5)).close()
        assert pacer.view("a").limit == 2
        first.close()

    async def test_no_limit_after_ten_quiet_minutes(self, pacer, clock):
        await limited(pacer, clock)
        await clock.advance(590)
        task = await waiting(pacer)
        await clock.advance(9)
        (await asyncio.wait_for(task, 5)).close()
        assert pacer.view("a").limit is None
        assert all(enter(pacer, 50))


class TestPatience:
    """A stalled stream, or one of minutes, holds nobody up for good."""

    async def test_who_has_waited_goes_beside_it(self, pacer, clock):
        await limited(pacer, clock)
        assert pacer.view("a").limit == 1
        await clock.advance(60)  # it streams, or does not
        task = await waiting(pacer)
        await clock.advance(PATIENCE - 0.1)
        assert not task.done()
        await clock.advance(0.1)
        (await asyncio.wait_for(task, 5)).close()
        assert pacer.view("a").limit == 2
        assert all(enter(pacer))

    async def test_one_at_a_time_and_processes_take_turns(self, pacer, clock):
        await limited(pacer, clock)
        tasks = [await waiting(pacer, peer=1) for _ in range(5)]
        tasks.append(await waiting(pacer, peer=2))
        gone = []
        for _ in range(5):
            await clock.advance(PATIENCE)
            gone.append([number for number, task in enumerate(tasks) if task.done()])
        assert [len(each) for each in gone] == [1, 2, 3, 4, 5]
        assert 5 in gone[1]  # the other process's only one
        assert pacer.view("a").in_flight == 1 + 5

    async def test_what_is_under_way_beyond_the_limit_holds_nobody_up_either(self, pacer, clock):
        await limited(pacer, clock, 20)
        assert (pacer.view("a").limit, pacer.view("a").in_flight) == (10, 19)
        task = await waiting(pacer)
        await clock.advance(PATIENCE)
        (await asyncio.wait_for(task, 5)).close()
        assert pacer.view("a").limit == 11

    async def test_nobody_goes_before_upstream_has_been_calm_for_as_long(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        (other,) = await limited_again(pacer, clock)
        task = await waiting(pacer)
        await clock.advance(4)
        other.answered(429, limits(10))
        await clock.advance(10 + PATIENCE - 0.1)
        assert not task.done()
        await clock.advance(0.1)
        (await asyncio.wait_for(task, 5)).close()
        out.close()

    async def test_a_new_refusal_cuts_as_before(self, pacer, clock):
        await limited(pacer, clock, 9)
        tasks = [await waiting(pacer) for _ in range(3)]
        await clock.advance(3 * PATIENCE)
        assert pacer.view("a").limit == 7
        ticket = await tasks[2]
        ticket.answered(429, limits(1))
        assert pacer.view("a").limit == 3

    async def test_who_left_as_its_turn_came_is_passed_over(self, pacer, clock):
        await limited(pacer, clock)
        first, second = await waiting(pacer), await waiting(pacer)
        await clock.advance(PATIENCE - 0.1)
        first.cancel()
        clock._suspended += 0.1  # and no nap ends of it
        assert enter(pacer) == [None]
        await settle(3)
        assert second.done()
        (await second).close()
        assert (pacer.view("a").in_flight, pacer.view("a").limit) == (1, 2)

    async def test_who_has_left_widens_nothing(self, pacer, clock):
        await limited(pacer, clock)
        task = await waiting(pacer)
        await clock.advance(PATIENCE - 0.1)
        task.cancel()
        clock._suspended += 0.1
        assert enter(pacer) == [None]
        assert pacer.view("a").limit == 1

    async def test_waiting_naps_and_does_not_poll(self, pacer, clock, monkeypatch):
        naps, sleep = [], clock.sleep

        async def counted(seconds):
            naps.append(seconds)
            await sleep(seconds)

        monkeypatch.setattr(clock, "sleep", counted)
        (out,) = await limited(pacer, clock)
        out.limited()  # a limit that is being read all the while
        task = await waiting(pacer)
        await clock.advance(MAX_WAIT)
        with pytest.raises(TransientError, match="queued_too_long"):
            await asyncio.wait_for(task, 5)
        assert len(naps) <= 1 + MAX_WAIT / PATIENCE


class TestCircuit:
    async def failing(self, pacer):
        for ticket in enter(pacer, 10):
            ticket.lost()
            ticket.close()

    async def test_a_failing_upstream_is_left_alone_then_tried_once(self, pacer, clock):
        await self.failing(pacer)
        told = refusal(pacer)
        assert (told.code, told.retry_after) == ("upstream_down", 5.0)
        assert pacer.view("a").circuit == "open"
        await clock.advance(5)
        (probe,) = enter(pacer)
        assert refusal(pacer).code == "upstream_down"
        assert pacer.view("a").circuit == "half_open"
        probe.answered(200, None)
        assert all(enter(pacer, 5))
        assert pacer.view("a").circuit == "closed"

    async def test_a_probe_whose_caller_leaves_says_nothing(self, pacer, clock):
        await self.failing(pacer)
        await clock.advance(5)
        (probe,) = enter(pacer)
        assert refusal(pacer).retry_after <= 5.0  # while it is out
        probe.close()
        (probe,) = enter(pacer)
        assert pacer.view("a").circuit == "half_open"
        probe.lost()
        assert refusal(pacer).retry_after == 10.0  # and not 20
        probe.close()
        assert pacer.view("a").in_flight == 0

    @pytest.mark.parametrize("end", ["lost", "500"])
    async def test_a_probe_without_an_answer_failed(self, pacer, clock, end):
        await self.failing(pacer)
        await clock.advance(5)
        (probe,) = enter(pacer)
        if end == "lost":
            probe.lost()
        elif end == "500":
            probe.answered(500, None)
        probe.close()
        assert refusal(pacer).retry_after == 10.0
        assert pacer.view("a").in_flight == 0

    async def test_a_probe_may_be_sent_again(self, pacer, clock):
        await self.failing(pacer)
        await clock.advance(5)
        (probe,) = enter(pacer)
        probe.again()
        probe.answered(200, None)
        assert all(enter(pacer, 2))

    async def test_an_answered_probe_may_end_as_it_likes(self, pacer, clock):
        await self.failing(pacer)
        await clock.advance(5)
        (probe,) = enter(pacer)
        probe.answered(401, None)
        probe.close()
        assert all(enter(pacer))

    async def test_of_those_who_wait_for_room_one_tries(self, pacer, clock):
        out = await limited(pacer, clock, 22)
        for ticket in out[:10]:
            ticket.lost()
        await clock.advance(5)
        first, second = await waiting(pacer), await waiting(pacer)
        assert pacer.view("a").queued == 2
        for ticket in out[:11]:
            ticket.close()
        probe = await asyncio.wait_for(first, 5)
        with pytest.raises(TransientError) as caught:
            await asyncio.wait_for(second, 5)
        assert caught.value.failure.code == "upstream_down"
        assert pacer.view("a").circuit == "half_open"
        probe.answered(200, None)
        probe.close()

    async def test_an_outage_ends_all_waits(self, pacer, clock):
        out = await limited(pacer, clock, 22)
        tasks = [await waiting(pacer) for _ in range(3)]
        for ticket in out[:10]:
            ticket.answered(502, None)
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert [error.failure.code for error in results] == ["upstream_down"] * 3


class TestForget:
    async def test_somebody_else_starts_anew(self, pacer, clock):
        told = []
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        (out,) = await limited(pacer, clock)
        task = await waiting(pacer)
        pacer.forget("a")
        ticket = await asyncio.wait_for(task, 5)
        assert pacer.view("a").in_flight == 1
        out.answered(429, limits(60))  # of the one who was signed in before
        out.close()
        assert all(enter(pacer, 3))
        assert pacer.view("a").in_flight == 4
        ticket.close()

    async def test_its_cooldown_is_lifted_and_told(self, pacer):
        told = []
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(60))
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        pacer.forget("a")
        await settle()
        assert told == [None]
        assert all(enter(pacer))

    async def test_an_unknown_one_is_no_error(self, pacer):
        pacer.forget("nobody")


class TestOnePersonWithSeveralNames:
    @pytest.fixture
    def persons(self):
        return {"a": 1, "twin": 1, "b": 2}

    @pytest.fixture
    async def pacer(self, clock, persons):
        pacer = Pacer(clock, persons.__getitem__)
        yield pacer
        pacer.close()

    async def test_a_cooldown_is_the_persons(self, pacer):
        (ticket,) = enter(pacer)
        assert pacer.cooldown("twin") is None
        ticket.answered(429, limits(60))
        assert pacer.cooldown("twin") == 60.0
        assert pacer.view("twin") == pacer.view("a")
        assert pacer.view("twin").reason.code == "rate_limited"
        assert refusal(pacer, account="twin").retry_after == 60.0
        assert pacer.cooldown("b") is None
        assert all(enter(pacer, account="b"))

    async def test_a_models_is_too(self, pacer):
        (ticket,) = enter(pacer, account="twin")
        ticket.answered(429, limits(60, "model"))
        assert "'m'" in refusal(pacer).message
        assert pacer.view("a").models == {"m": 60.0}

    async def test_the_limit_is_the_persons_and_processes_take_turns(self, pacer, clock):
        (out,) = await limited(pacer, clock)
        first, second = await waiting(pacer, peer=1), await waiting(pacer, peer=1)
        other = await waiting(pacer, peer=2, account="twin")
        out.close()
        (await asyncio.wait_for(first, 5)).close()
        await settle()
        assert other.done()
        (await other).close()
        (await asyncio.wait_for(second, 5)).close()
        assert pacer.view("twin").in_flight == 0

    async def test_a_name_is_asked_about_once(self, clock):
        asked = []
        pacer = Pacer(clock, lambda name: asked.append(name) or name)
        enter(pacer, 5)
        assert asked == ["a"]

    async def test_who_only_asks_leaves_nothing_behind(self, pacer, persons):
        assert pacer.cooldown("twin") is None
        assert pacer.view("twin").in_flight == 0
        persons["twin"] = 2  # a first login has ended
        (ticket,) = enter(pacer)
        ticket.answered(429, limits(60))
        assert all(enter(pacer, account="twin"))

    async def test_a_name_that_changes_hands_leaves_the_others_theirs(self, pacer, persons):
        told = []
        tickets = [*enter(pacer), *enter(pacer, account="twin")]
        tickets[0].answered(429, limits(60))
        pacer.on_change(lambda: told.append(pacer.cooldown("twin")))
        persons["twin"] = 2
        pacer.forget("twin")
        await settle()
        assert told == [None]
        assert all(enter(pacer, account="twin"))
        assert refusal(pacer).retry_after == 60.0
        pacer.forget("a")
        assert pacer.cooldown("a") is None  # it was the last name

    async def test_who_waits_under_it_waits_for_the_next_person(self, pacer, clock, persons):
        (out,) = await limited(pacer, clock)
        mine, free = await waiting(pacer), await waiting(pacer, account="twin")
        persons["twin"] = 2
        pacer.forget("twin")
        (await asyncio.wait_for(free, 5)).close()
        assert not mine.done()
        out.close()
        (await asyncio.wait_for(mine, 5)).close()

    async def test_and_is_held_back_with_that_one(self, pacer, clock, persons):
        await limited(pacer, clock)
        tickets = enter(pacer, 2, account="b")
        tickets[0].answered(429, limits(1))
        await clock.advance(1)
        tickets.pop(0).close()
        waits, leaves = [await waiting(pacer, account="twin") for _ in range(2)]
        persons["twin"] = 2
        pacer.forget("twin")
        assert (pacer.view("b").queued, pacer.view("a").queued) == (2, 0)
        leaves.cancel()
        await settle()
        assert pacer.view("b").queued == 1
        tickets[0].close()
        (await asyncio.wait_for(waits, 5)).close()
        assert pacer.view("b").in_flight == 0

    async def test_or_refused_with_that_one(self, pacer, clock, persons):
        await limited(pacer, clock)
        task = await waiting(pacer, account="twin")
        (ticket,) = enter(pacer, account="b")
        ticket.answered(429, limits(60))
        persons["twin"] = 2
        pacer.forget("twin")
        with pytest.raises(TransientError, match="cooling_down"):
            await asyncio.wait_for(task, 5)

    async def test_a_late_refusal_of_nobodys_starts_nothing(self, pacer, clock, caplog):
        (ticket,) = enter(pacer, account="b")
        pacer.forget("b")
        caplog.clear()
        ticket.answered(429, limits(60))
        ticket.close()
        await settle()
        assert not caplog.records
        assert not clock._sleepers


class TestRestored:
    async def test_it_is_as_if_it_had_begun_here(self, pacer, clock):
        told = []
        pacer.on_change(lambda: told.append(pacer.cooldown("a")))
        pacer.restore("a", 400.0, Failure(ErrorClass.TEMPORARY, "rate_limited", "slow down"))
        assert refusal(pacer).retry_after == 400.0
        assert pacer.cooling("a")[1].code == "rate_limited"
        await clock.advance(399)
        assert refusal(pacer).retry_after == 1.0
        await clock.advance(1)
        assert all(enter(pacer))
        assert told == [400.0, None]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.tuples(st.integers(1, 3), st.sampled_from("mx"))),
        st.tuples(st.just("close"), st.integers(0, 9)),
        st.tuples(st.just("ok"), st.integers(0, 9)),
        st.tuples(
            st.just("limit"),
            st.tuples(st.sampled_from([None, 1, 7, 40]), st.sampled_from(["account", "model"])),
        ),
        st.tuples(st.just("fail"), st.integers(1, 10)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 3, 12, 65, 700])),
    ),
    max_size=40,
)


class Story:
    """One interleaving, with what must hold after each step."""

    def __init__(self):
        self.clock = FakeClock()
        self.pacer = Pacer(self.clock)
        self.out, self.waiting = [], []
        self.cooling_until = {}
        """Model, or None for the account → when its requests may come again."""

    def admitted(self, ticket, model):
        for what in (None, model):
            assert self.clock.boottime() >= self.cooling_until.get(what, 0.0)
        self.out.append([ticket, model])

    def ask(self, who):
        peer, model = who
        body = b'{"model": "%s"}' % model.encode()
        before = self.pacer.view("a")
        try:
            ticket = self.pacer.enter("a", peer, body)
        except TransientError as error:
            assert error.failure.retry_after > 0  # noqa: PT017 - it may or may not be raised
            return
        if ticket is None:
            task = asyncio.create_task(self.pacer.turn("a", peer, body), name=model)
            self.waiting.append(task)
        else:
            assert before.limit is None or before.in_flight < before.limit
            self.admitted(ticket, model)

    def close(self, which):
        if self.out:
            self.out.pop(which % len(self.out))[0].close()

    def ok(self, which):
        if self.out:
            self.out[which % len(self.out)][0].answered(200, None)
            self.out[which % len(self.out)][1] = None  # that was its answer

    def limit(self, how):
        unanswered = [each for each in self.out if each[1] is not None]
        if unanswered:
            retry_after, what = how
            ticket, model = unanswered[-1]
            ticket.answered(429, limits(retry_after, what))
            until = self.clock.boottime() + (10 if retry_after is None else retry_after)
            key = None if what == "account" else model
            self.cooling_until[key] = max(until, self.cooling_until.get(key, until))

    def fail(self, count):
        for ticket, _ in self.out[:count]:
            ticket.lost()

    def cancel(self, which):
        if self.waiting:
            self.waiting[which % len(self.waiting)].cancel()

    async def collect(self):
        await settle(6)
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                self.admitted(task.result(), task.get_name())
            else:
                assert isinstance(error, TransientError)

    def check(self):
        view = self.pacer.view("a")
        assert view.in_flight == len(self.out)
        assert view.queued == len(self.waiting)
        if view.queued and view.cooldown_in is None and view.circuit == "closed":
            assert view.in_flight >= view.limit  # nobody waits for nothing

    async def run(self, steps):
        try:
            for what, value in steps:
                if what == "pass":
                    await self.clock.advance(value, rounds=4)
                else:
                    getattr(self, what)(value)
                await self.collect()
                self.check()
            while self.out:
                self.close(0)
                await self.collect()
            await self.clock.advance(MAX_WAIT, rounds=6)
            await self.collect()
            assert not self.waiting or self.out
            while self.out:
                self.close(0)
            assert self.pacer.view("a").in_flight == 0
        finally:
            self.pacer.close()
            for task in self.waiting:
                task.cancel()
            await asyncio.gather(*self.waiting, return_exceptions=True)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_whatever_happens_in_whatever_order(steps):
    asyncio.run(Story().run(steps))


class LimitedUpstream:
    """Takes so many at a time and a minute, and notes who comes too early."""

    def __init__(self, clock, at_a_time, a_minute):
        self.clock, self.at_a_time, self.a_minute = clock, at_a_time, a_minute
        self.in_flight = self.refused = self.early = 0
        self.served, self.wanted_at, self.told_at = [], 0.0, 0.0

    async def ask(self):
        now = self.clock.boottime()
        self.early += self.told_at < now < self.wanted_at  # else it was under way already
        recent = [at for at in self.served if at > now - 60]
        if self.in_flight >= self.at_a_time or len(recent) >= self.a_minute:
            self.refused += 1
            self.told_at = now
            rest = recent[0] + 60 - now if len(recent) >= self.a_minute else 1
            self.wanted_at = max(self.wanted_at, now + rest)
            return 429, limits(rest)
        self.served.append(now)
        self.in_flight += 1
        await self.clock.sleep(2)
        self.in_flight -= 1
        return 200, None


async def test_many_tools_share_what_a_stingy_upstream_gives(pacer, clock):
    """Ten minutes of eight processes that always want more: nobody early, nobody left out."""
    upstream = LimitedUpstream(clock, at_a_time=3, a_minute=60)
    served = dict.fromkeys(range(8), 0)

    async def tool(peer):
        while True:
            try:
                ticket = await pacer.turn("a", peer, BODY)
            except TransientError as error:
                await clock.sleep(error.failure.retry_after)
                continue
            try:
                status, refused = await upstream.ask()
                ticket.answered(status, refused)
                served[peer] += status == 200
            finally:
                ticket.close()

    tasks = [asyncio.create_task(tool(peer)) for peer in served]
    try:
        await clock.advance(600, rounds=6)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert upstream.early == 0
    assert len(upstream.served) > 500  # of 600 or so at the most
    assert upstream.refused < len(upstream.served) / 4
    assert min(served.values()) > max(served.values()) / 2
    assert pacer.view("a").in_flight == 0
