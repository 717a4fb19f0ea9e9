"""Long cool-downs outlive a restart: the pacing gate and the index, together."""

import logging

import pytest

from brokerd.broker.kept_cooldowns import KeptCooldowns
from brokerd.core.refusals import Refusal
from brokerd.core.retry_after import MAX_SECONDS
from brokerd.core.tokens import IndexEntry, KeptCooldown
from brokerd.errors import ErrorClass, Failure, TransientError
from brokerd.pacer import Pacer
from fakes.clock import FakeClock, settle
from fakes.github import transient
from fakes.store import FakeIndex


DAYS = 5 * 86_400.0


class CountedIndex(FakeIndex):
    """How often it was written."""

    writes = 0

    def put(self, name, entry):
        self.writes += 1
        super().put(name, entry)


class Life:
    """One process after the other, of which the index is all that stays."""

    def __init__(self):
        self.clock, self.index = FakeClock(), CountedIndex()
        for name, user in (("default", 42), ("twin", 42), ("other", 7)):
            self.index.put(name, IndexEntry("github.com", user, "login", "memory", "app"))
        self.index.writes = 0
        self.pacer = None

    async def start(self):
        """End the process, start the next one."""
        if self.pacer is not None:
            self.pacer.close()
        self.pacer = Pacer(self.clock, lambda name: self.index.entries()[name].key)
        kept = KeptCooldowns(self.index, self.clock, self.pacer.cooling, self.pacer.restore)
        self.pacer.on_change(kept.keep)
        kept.restore()
        await settle()

    async def limited(self, seconds, what="account", name="default"):
        ticket = self.pacer.enter(name, 1, b'{"model": "m"}')
        reason = Failure(
            ErrorClass.TEMPORARY, "rate_limited", "slow down", "later", "https://gh.io/x", seconds
        )
        ticket.answered(429, Refusal(reason, what))
        ticket.close()
        await settle()

    def kept(self, name="default"):
        return self.index.entries()[name].cooldown


@pytest.fixture
async def life():
    life = Life()
    await life.start()
    yield life
    life.pacer.close()


async def test_five_days_are_five_days_also_after_a_restart(life):
    await life.limited(DAYS)
    assert life.kept() == KeptCooldown(
        int(life.clock.wall() + DAYS), "rate_limited", "slow down", "https://gh.io/x"
    )
    await life.clock.advance(3_600)
    await life.start()
    assert life.pacer.cooldown("default") == pytest.approx(DAYS - 3_600)
    with pytest.raises(TransientError, match="rate_limited: slow down"):
        life.pacer.enter("default", 1, b"{}")
    assert life.pacer.view("default").reason.url == "https://gh.io/x"
    assert life.pacer.cooldown("other") is None


async def test_it_is_the_persons_whatever_the_name(life):
    await life.limited(DAYS, name="twin")
    assert life.kept() == life.kept("twin") is not None
    life.index.remove("twin")
    await life.start()
    assert life.pacer.cooldown("default") == pytest.approx(DAYS)


async def test_it_is_written_when_it_changes_and_only_then(life):
    await life.limited(DAYS, name="other")
    assert life.index.writes == 1
    await life.clock.advance(0.4)
    await life.limited(600)
    await life.clock.advance(590.7)
    await life.start()
    assert life.index.writes == 1 + 2
    assert life.kept() is not None  # though it is short by now
    await life.clock.advance(10)  # an end in whole seconds, rounded up
    assert life.kept() is None
    assert life.kept("other") is not None
    assert life.index.writes == 1 + 2 + 2


async def test_a_longer_one_takes_its_place(life):
    tickets = [life.pacer.enter("default", 1, b"{}") for _ in range(2)]
    for ticket, seconds in zip(tickets, (100, DAYS), strict=True):
        reason = Failure(ErrorClass.TEMPORARY, "rate_limited", "slow", retry_after=seconds)
        ticket.answered(429, Refusal(reason, "account"))
        ticket.close()
        await settle()
    assert life.kept().until == int(life.clock.wall() + DAYS)


@pytest.mark.parametrize(("seconds", "what"), [(60, "account"), (DAYS, "model")])
async def test_a_short_one_and_a_models_are_not_worth_it(life, seconds, what):
    await life.limited(seconds, what)
    assert life.index.writes == 0


async def test_one_that_ended_meanwhile_is_dropped(life):
    await life.limited(100)
    life.pacer.close()
    await life.clock.advance(101)
    await life.start()
    assert life.kept() is None
    assert life.pacer.enter("default", 1, b"{}") is not None


async def test_a_month_is_the_longest(life):
    await life.limited(DAYS)
    life.clock.jump_wall(-10 * 365 * 86_400)
    await life.start()
    assert life.pacer.cooldown("default") == MAX_SECONDS


async def test_a_disk_that_is_full_is_written_down_and_no_more(life, caplog):
    put = life.index.put

    def full(name, entry):
        raise transient("disk_full")

    life.index.put = full
    with caplog.at_level(logging.WARNING):
        await life.limited(DAYS)
    assert life.pacer.cooldown("default") == DAYS
    (record,) = [each for each in caplog.records if each.message == "cool-down not recorded"][:1]
    assert (record.ACCOUNT, record.ERROR_CODE) == ("default", "disk_full")
    life.index.put = put
    await life.limited(100, name="other")  # the next change mends it
    assert life.kept() is not None
