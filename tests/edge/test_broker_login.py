"""Signing in, also when it is cut short."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from brokerd.broker import LoginRequest, LoginSucceeded, LoginWaiting, UserCodeIssued
from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.tokens import KeptCooldown
from brokerd.errors import BrokerError, ErrorClass, Failure, TransientError
from fakes.broker_world import REQUEST, Killer, World, ask, cancel, collect, failure_of
from fakes.github import no_checkpoint, permanent, transient


async def test_login_shows_the_code_waits_and_succeeds_after_the_save(world):
    world.github.polls = [NotGranted("authorization_pending"), NotGranted("slow_down", 10.0)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    assert world.view().state == "awaiting_user"
    assert (await failure_of(broker.lease(None))).code == "login_pending"
    await world.clock.advance(60.0)
    first, *waits, last = await call
    assert first == UserCodeIssued("WDJB-MJHT", "https://github.com/login/device", 900.0, 5.0)
    assert waits
    assert all(isinstance(w, LoginWaiting) and w.expires_in < 900 for w in waits)
    assert isinstance(last, LoginSucceeded)
    assert (last.account.login, last.account.state, last.account.default) == (
        "octocat",
        "ready",
        True,
    )
    assert world.github.times("poll_device_grant") == pytest.approx([1006.0, 1012.0, 1026.0])
    assert world.index.entries()["default"].login == "octocat"
    assert (await broker.lease(None)).token


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "token_expired", "what"])
async def test_a_refused_login_says_why_and_leaves_nothing(world, error):
    world.github.polls = [NotGranted(error)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert "copilot-cred login" in (await failure_of(call)).hint
    assert broker.accounts() == []
    assert not world.store.items


async def test_no_store_is_said_before_the_person_is_sent_to_the_browser(world):
    world.stores.absent = True
    broker = await world.start()
    failure = await failure_of(collect(broker.login(REQUEST)))
    assert failure.error_class is ErrorClass.STORE_UNAVAILABLE
    assert world.github.calls == []


async def test_no_network_at_the_first_step_is_said_at_once(world):
    world.github.faults["request_device_code"] = [transient()]
    broker = await world.start()
    assert (await failure_of(collect(broker.login(REQUEST)))).code == "network_down"


@pytest.mark.parametrize("step", ["poll", "identify", "save", "exchange"])
async def test_network_failure_in_any_later_step_is_retried(world, step):
    if step == "poll":
        world.github.polls = [transient(), transient()]
    elif step == "save":
        world.store.faults["save"] = [transient(), transient()]
    else:
        world.github.faults[step] = [transient(), transient()]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(40.0)
    assert isinstance((await call)[-1], LoginSucceeded)
    assert (await broker.lease(None)).token


def trouble(message, hint):
    return TransientError(Failure(ErrorClass.TEMPORARY, "trouble", message, hint))


def advices(progress):
    return [each.advice for each in progress if isinstance(each, LoginWaiting) and each.advice]


RETRIED = "A kept login is tried again by itself, a new one by: copilot-cred login"


@pytest.mark.parametrize("step", ["identify", "save"])
async def test_what_holds_up_an_approved_login_is_said_once(world, step):
    errors = [trouble("it answers 502", RETRIED)] * 3 + [trouble("it is locked", "Unlock it")] * 2
    if step == "save":
        world.store.faults["save"] = errors
    else:
        world.github.faults[step] = errors
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(200.0)
    assert advices(await call) == [
        "the login is approved, but it answers 502; it is tried again by itself",
        "the login is approved, but it is locked; it is tried again by itself. Unlock it",
    ]


async def test_what_keeps_the_polls_from_github_is_said_while_it_does(world):
    firewall = trouble("a firewall answered", "Sign in to it, then: copilot-cred refresh")
    pending = NotGranted("authorization_pending")
    world.github.polls = [firewall, firewall, pending]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(60.0)
    progress = await call
    told = "a firewall answered; it is tried again by itself. Sign in to it"
    assert [w.advice for w in progress if isinstance(w, LoginWaiting)] == [told, told, ""]


async def test_unsaved_is_shown_and_success_is_not_reported(world):
    world.store.faults["save"] = [transient("keyring_died") for _ in range(4)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert world.view().unsaved
    assert world.view().error.code == "keyring_died"
    assert not call.done()
    assert world.github.count("exchange") == 0
    assert "not saved" in broker.summary()
    await world.clock.advance(60.0)
    assert not (await call)[-1].account.unsaved


async def test_an_account_without_copilot_is_signed_in_and_says_so(world):
    world.github.faults["exchange"] = [permanent()]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    assert (await call)[-1].account.error.code == "no_copilot_access"


async def test_two_callers_share_one_prompt_and_leaving_cancels_with_the_last(world):
    world.github.polls = [NotGranted("authorization_pending")] * 100
    broker = await world.start()
    callers = [await ask(collect(broker.login(REQUEST))) for _ in range(2)]
    assert world.github.count("request_device_code") == 1
    await cancel(callers[0])
    await world.clock.advance(20.0)
    assert world.view().state == "awaiting_user"
    await cancel(callers[1])
    polls = world.github.count("poll_device_grant")
    await world.clock.advance(60.0)
    assert world.github.count("poll_device_grant") == polls
    assert broker.accounts() == []


async def test_50_callers_see_one_code_and_all_succeed(world):
    broker = await world.start()
    calls = [await ask(collect(broker.login(REQUEST))) for _ in range(50)]
    await world.clock.advance(10.0)
    results = await asyncio.gather(*calls)
    assert world.github.count("request_device_code") == world.github.count("exchange") == 1
    assert all(isinstance(r[-1], LoginSucceeded) for r in results)


async def test_a_different_login_for_the_same_account_is_refused(world):
    broker = await world.start()
    first = await ask(collect(broker.login(REQUEST)))
    failure = await failure_of(collect(broker.login(LoginRequest(client_id="other"))))
    assert failure.code == "login_in_progress"
    await cancel(first)


async def test_a_login_being_saved_is_seen_through_when_its_caller_leaves(world):
    world.store.faults["save"] = [transient()]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(6.1)
    await cancel(call)
    await world.clock.advance(5.0)
    assert (await broker.lease(None)).token


async def test_the_old_login_stays_leasable_until_the_new_one_succeeds(ready):
    old = await ready.broker.lease(None)
    ready.github.polls = [NotGranted("authorization_pending")] * 2
    call = await ask(collect(ready.broker.login(REQUEST)))
    await ready.clock.advance(13.0)
    assert (await ready.broker.lease(None)).token == old.token
    await ready.clock.advance(20.0)
    assert (await call)[-1].account.login == "octocat"
    assert (await ready.broker.lease(None)).token != old.token
    assert "gho_kept" not in {login.token.value for login in ready.store.items.values()}


async def test_a_cancelled_login_leaves_the_old_one(ready):
    old = await ready.broker.lease(None)
    ready.github.polls = [NotGranted("access_denied")]
    call = await ask(collect(ready.broker.login(REQUEST)))
    await ready.clock.advance(7.0)
    assert (await failure_of(call)).code == "access_denied"
    assert (await ready.broker.lease(None)).token == old.token


async def test_another_persons_login_under_the_same_name_replaces_the_item(world):
    world.keep_login(user=7)
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(7.0)
    await call
    assert [key.user_id for key in world.store.items] == [42]
    assert [view.login for view in broker.accounts()] == ["octocat"]


@pytest.mark.parametrize(("user", "is_kept"), [(42, True), (7, False)])
@pytest.mark.parametrize("name", ["default", "twin"])
async def test_a_login_lifts_no_cooldown_of_the_same_person(world, user, is_kept, name):
    world.keep_login(user=user)
    kept = KeptCooldown(1_900_000_000, "rate_limited", "slow down")
    world.index.put("default", replace(world.index.entries()["default"], cooldown=kept))
    broker = await world.start()
    call = await ask(collect(broker.login(LoginRequest(client_id="app", account=name))))
    await world.clock.advance(7.0)
    await call
    entry = world.index.entries()[name]
    assert entry.user_id == 42
    assert entry.cooldown == (kept if is_kept else None)


async def test_login_with_a_token_needs_no_person(world):
    broker = await world.start()
    [done] = await collect(broker.login(LoginRequest(client_id="app", token="gho_canary")))
    assert done.account.source == "token"
    assert world.github.count("request_device_code") == 0


async def test_a_given_token_is_not_asked_about_for_ever(world):
    world.github.faults["identify"] = [transient(retry_after=3600.0)]
    broker = await world.start()
    request = LoginRequest(account="work", client_id="app", token="gho_canary")
    failure = await failure_of(collect(broker.login(request)))
    assert (failure.code, failure.retry_after) == ("network_down", 3600.0)
    await world.clock.advance(7200.0)
    assert world.github.count("identify") == 1
    await collect(broker.login(request))
    assert [view.name for view in broker.accounts()] == ["work"]


@pytest.mark.parametrize("token", ["", "ghp_classic", "gho_\n", "gh\u00f6"])
async def test_a_token_copilot_cannot_accept_is_refused_unasked(world, token):
    broker = await world.start()
    request = LoginRequest(client_id="app", token=token)
    assert (await failure_of(collect(broker.login(request)))).error_class is ErrorClass.USAGE
    assert world.github.calls == []


async def test_a_person_whose_clock_runs_fast_is_told_so(world):
    world.github.polls = [NotGranted("slow_down", 5.0) for _ in range(3)]
    broker = await world.start()
    call = await ask(collect(broker.login(REQUEST)))
    await world.clock.advance(120.0)
    waits = [step for step in await call if isinstance(step, LoginWaiting)]
    assert waits[0].advice == ""
    assert "timedatectl" in waits[-1].advice


# Killed.


async def test_killed_at_any_await_the_login_is_there_or_was_never_reported():
    places = set()
    for nth in range(1, 40):
        killer = Killer(nth)
        world = World(killer)
        broker = await world.start()
        events = []

        async def person(broker=broker, events=events):
            async for event in broker.login(REQUEST):
                events.append(event)

        call = await ask(person())
        await world.clock.advance(10.0)
        reported = any(isinstance(event, LoginSucceeded) for event in events)
        await cancel(world.task)
        with contextlib.suppress(BrokerError):
            await call
        assert reported == any(isinstance(event, LoginSucceeded) for event in events)
        if killer.at is None:
            assert reported
            break
        places.add(killer.at)
        world.github.checkpoint = world.store.checkpoint = no_checkpoint
        reborn = await world.start()
        if reported or killer.at.startswith("exchange"):
            assert (await reborn.lease(None)).token
        else:
            with contextlib.suppress(BrokerError):
                await reborn.lease(None)
        await world.stop()
    assert places == {"request_device_code asked", "device code issued", "poll_device_grant asked", "poll answered",
                      "identify asked", "user identified", "save asked", "login written", "exchange asked",
                      "token exchanged"}  # fmt: skip
