"""A dead login is tried once, however many clients ask: GitHub locks the person out of every tool.

100 clients at the door of a whole broker, and a GitHub that locks out after five. What they all
wait for is held back a moment, so that none of them finds the matter decided.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from brokerd.broker.refused_logins import REMEMBERED
from brokerd.errors import BrokerError
from brokerd.proxy.catalogue import MIN_AGE
from brokerd.simulator.world import Fault
from copilot_broker import CopilotBrokerError, LoginRequired, UpstreamRefused
from fakes.whole import DIRECT_APP, EXCHANGE, PATIENCE, POLL, Whole, simulated_world


CLIENTS = 100
HELD_BACK = 0.2
"""Seconds that an answer takes, in which all clients have come."""
SEAT = "/copilot_internal/user"
GITHUB = (EXCHANGE, SEAT, "/user", "/graphql")
"""Paths that count wrong credentials."""
CHAT_PATH = "/chat/completions"
CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "count"}]}
NO_PERMISSION = '{"error": {"message": "the token lacks the permission Copilot Requests"}}'
ANSWERED = "answered"


@contextlib.asynccontextmanager
async def signed_in(folder, *, client_id=None, life=None, **settings):
    """Two people's accounts, `default` and `work`, each with a token at hand."""
    async with simulated_world(lockout_after=5, **settings) as simulator:
        whole = Whole(folder, simulator)
        more = {} if client_id is None else {"client_id": client_id}
        whole.dead = await whole.keep("default", "octocat", life=life, **more)
        await whole.keep("work", "hubot", life=life, **more)
        async with whole.running():
            for name in ("default", "work"):
                await whole.broker.lease(name, timeout=PATIENCE)
            whole.before = len(whole.world.requests)
            yield whole


async def token(client, account):
    return await client.token(account=account)


async def completion(client, account):
    return (await client.complete(CHAT, account=account)).raise_for_status()


async def refresh(client, account):
    return await client.refresh(account)


async def models(client, account):
    return await client.model_list(account, fresh=True)


async def watch(client, account):
    """Follow it to the end of its story: a fresh token, or none for good."""
    async with contextlib.aclosing(client.watch(account)) as states:
        async for state in states:
            if state["event"] == "login_required":
                raise LoginRequired(state["error"]["code"], state["error"]["message"])
            if state.get("token") and state["expires_in"] > 1000:
                return state
    raise AssertionError("the story has no end")


WAYS = (token, completion, refresh, watch, models)


async def crowd(whole, accounts, ways=WAYS):
    """Have everybody ask at once; how it went: (account, way) → outcomes."""

    async def ask(number):
        account, way = accounts[number % len(accounts)], ways[number // 2 % len(ways)]
        async with whole.client() as client:
            try:
                async with asyncio.timeout(PATIENCE):
                    await way(client, account)
            except (LoginRequired, UpstreamRefused) as error:
                return account, way.__name__, error.code
            return account, way.__name__, ANSWERED

    return Counter(await asyncio.gather(*map(ask, range(CLIENTS))))


def outcomes(found, account):
    return {code for (name, _, code) in found if name == account}


def refusals(whole, *paths):
    """How many requests with bad credentials each path got since the start, and whose."""
    return Counter(
        (each.path, each.headers.get("authorization", ""))
        for each in list(whole.world.requests)[whole.before :]
        if each.status in (401, 403) and each.path in paths
    )


def asked_since(whole, path):
    return sum(each.path == path for each in list(whole.world.requests)[whole.before :])


async def never_again(whole, account="default"):
    """Nobody who comes later, nor time, makes it ask again."""
    count = len(whole.world.requests)
    found = await crowd(whole, [account])
    assert ANSWERED not in outcomes(found, account)
    for _ in range(4):
        await whole.skip(6 * 3600)
    own = {each.headers.get("authorization") for each in list(whole.world.requests)[count:]}
    assert not own & whole.bad, "the dead login was sent again"


def remember_bad(whole):
    """What was refused, under either scheme."""
    found = {each.headers["authorization"] for each in whole.world.requests if each.status == 401}
    assert found
    whole.bad = {f"{scheme} {each.split()[1]}" for each in found for scheme in ("token", "Bearer")}


async def signed_in_anew(whole):
    """The person is not locked out: a new login works at once."""
    await whole.login("default")
    assert (await whole.broker.lease("default", timeout=PATIENCE)).account == "default"


@pytest.mark.parametrize(
    "ways", [WAYS, *((way,) for way in WAYS)], ids=lambda ways: "+".join(w.__name__ for w in ways)
)
async def test_a_revoked_login_is_tried_once_and_the_other_account_goes_on(tmp_path, ways):
    async with signed_in(tmp_path) as whole:
        kept = whole.kept()
        whole.world.revoke(whole.dead.token.value)
        whole.world.queue_faults(EXCHANGE, [Fault(delay=HELD_BACK), Fault(delay=HELD_BACK)])
        whole.clock.skip(1801)  # both Copilot tokens are dead
        found = await crowd(whole, ["default", "work"], ways)
        assert outcomes(found, "default") == {"bad_credentials"}
        assert outcomes(found, "work") == {ANSWERED}
        assert sum(found.values()) == CLIENTS
        assert list(refusals(whole, *GITHUB).values()) == [1]
        assert kept == whole.kept()
        remember_bad(whole)
        await never_again(whole)
        await signed_in_anew(whole)


async def test_two_revoked_logins_are_tried_once_each(tmp_path):
    async with signed_in(tmp_path) as whole:
        whole.world.revoke_all()  # the Copilot tokens too: completions learn it from Copilot
        whole.world.queue_faults(EXCHANGE, [Fault(delay=HELD_BACK), Fault(delay=HELD_BACK)])
        found = await crowd(whole, ["default", "work"], [completion, refresh])
        assert outcomes(found, "default") == outcomes(found, "work") == {"bad_credentials"}
        assert sorted(refusals(whole, EXCHANGE).values()) == [1, 1]
        assert asked_since(whole, EXCHANGE) == 2
        await signed_in_anew(whole)


async def test_a_revoked_direct_login_is_tried_once(tmp_path):
    async with signed_in(tmp_path, client_id=DIRECT_APP, refused_clients=[DIRECT_APP]) as whole:
        assert whole.view("default").mode == "direct"
        whole.world.revoke(whole.dead.token.value)
        whole.world.queue_faults(SEAT, [Fault(delay=HELD_BACK), Fault(delay=HELD_BACK)])
        whole.clock.skip(86_401)  # what was found out about both is too old
        found = await crowd(whole, ["default", "work"], [completion, refresh, models])
        assert outcomes(found, "default") == {"bad_credentials"}
        assert outcomes(found, "work") == {ANSWERED}
        # None was sent to Copilot to find out.
        assert list(refusals(whole, *GITHUB, CHAT_PATH, "/models").values()) == [1]
        remember_bad(whole)
        await never_again(whole)
        await signed_in_anew(whole)


async def test_a_direct_login_that_copilot_refuses_is_asked_about_once(tmp_path):
    """Requests already under way cannot be called back; nothing follows them."""
    async with signed_in(tmp_path, client_id=DIRECT_APP, refused_clients=[DIRECT_APP]) as whole:
        whole.world.revoke(whole.dead.token.value)
        whole.world.queue_faults(SEAT, [Fault(delay=HELD_BACK)])
        found = await crowd(whole, ["default", "work"], [completion])
        assert outcomes(found, "default") == {"upstream_401"}
        assert outcomes(found, "work") == {ANSWERED}
        await whole.until(lambda: not whole.is_busy)
        assert list(refusals(whole, *GITHUB).values()) == [1]
        assert asked_since(whole, SEAT) == 1
        remember_bad(whole)
        await never_again(whole)


async def test_a_direct_login_that_only_copilot_refuses_stays_and_hears_why(tmp_path):
    """A personal token without the permission: GitHub takes it, and Copilot never will."""
    async with signed_in(tmp_path, client_id=DIRECT_APP, refused_clients=[DIRECT_APP]) as whole:
        whole.world.queue_faults(CHAT_PATH, [Fault(status=401, body=NO_PERMISSION)] * CLIENTS)
        found = await crowd(whole, ["default"], [completion])
        assert outcomes(found, "default") == {"upstream_401"}
        await whole.until(lambda: not whole.is_busy)
        assert asked_since(whole, CHAT_PATH) == CLIENTS, "one request per ask"
        assert asked_since(whole, SEAT) == 1
        assert whole.view("default").error is None
        async with whole.client() as client:
            whole.world.queue_faults("/models", [Fault(status=401, body=NO_PERMISSION)] * 5)
            for count in range(1, 6):
                with pytest.raises(CopilotBrokerError, match="Copilot Requests"):
                    await client.model_list("default", fresh=True)
                assert asked_since(whole, "/models") == count
                whole.clock.skip(MIN_AGE)
            assert asked_since(whole, SEAT) == 1
            await completion(client, "default")  # the permission was added


@pytest.mark.parametrize("is_due", [False, True], ids=["revoked", "expired"])
async def test_a_dead_pair_is_one_exchange_and_one_renewal(tmp_path, is_due):
    async with signed_in(tmp_path, life=28_800, github_token_expires_in=28_800) as whole:
        kept = whole.kept()
        whole.world.revoke(whole.dead.token.value)
        whole.world.revoke(whole.dead.token.refresh_token)
        whole.world.queue_faults(EXCHANGE, [Fault(delay=HELD_BACK), Fault(delay=HELD_BACK)])
        whole.clock.skip(28_801 if is_due else 1801)
        found = await crowd(whole, ["default", "work"])
        assert outcomes(found, "default") == {"bad_refresh_token"}
        assert outcomes(found, "work") == {ANSWERED}
        # A token that has expired is renewed before it is used: it is not even shown.
        assert sum(refusals(whole, *GITHUB).values()) == (0 if is_due else 1)
        renewals = [
            each for each in list(whole.world.requests)[whole.before :] if each.path == POLL
        ]
        assert len(renewals) == (2 if is_due else 1)  # the other account's is renewed in time
        name = f"{whole.dead.user.id}@github.com.json"
        assert whole.kept()[name] == kept[name]
        count = len(renewals)
        await crowd(whole, ["default"])
        assert asked_since(whole, POLL) == count
        await signed_in_anew(whole)


@pytest.mark.parametrize("life", [None, 28_000.0], ids=["forever", "expiring"])
async def test_a_restart_does_not_try_a_dead_login_again(tmp_path, life):
    async with simulated_world(lockout_after=5) as simulator:
        first = Whole(tmp_path, simulator)
        dead = await first.keep(life=life)
        first.index.put("twin", first.index.entries()["default"])
        simulator.world.revoke(dead.token.value)
        if life is not None:
            simulator.world.revoke(dead.token.refresh_token)
        for _ in range(3):
            whole = Whole(tmp_path, simulator)
            async with whole.running():
                found = await crowd(whole, ["default", "twin"])
                assert {code for (_, _, code) in found} <= {"bad_credentials", "bad_refresh_token"}
            # Two names, one login, three starts. Whether a pair is dead the renewal tells, so both
            # names have shown its first half by then.
            assert len(whole.asked(EXCHANGE)) == (1 if life is None else 2)
            assert len(whole.asked(POLL)) == (0 if life is None else 1)
            assert whole.view("twin").state == "signed_out"
        whole = Whole(tmp_path, simulator)
        async with whole.running():
            await signed_in_anew(whole)


async def test_a_dead_login_brought_along_is_tried_once(tmp_path):
    async with signed_in(tmp_path) as whole:
        given = whole.world.mint("gho_", "monalisa")
        whole.world.revoke(given)
        whole.world.queue_faults("/user", [Fault(delay=HELD_BACK)])
        for wave in range(3):  # as every new shell with it in its profile does
            tries = (whole.login(f"third{wave}", token=given) for _ in range(CLIENTS // 10))
            found = await asyncio.gather(*tries, return_exceptions=True)
            assert {each.failure.code for each in found} == {"bad_credentials"}
            assert all(each.failure.hint.endswith(f"--account third{wave}") for each in found)
        assert asked_since(whole, "/user") == 1
        # Another token is another matter, and so is this one after a while.
        await whole.login("third", token=whole.world.mint("gho_", "monalisa"))
        await whole.skip(REMEMBERED)
        with pytest.raises(BrokerError, match="bad_credentials"):
            await whole.login("fourth", token=given)
        assert asked_since(whole, "/user") == 3


async def test_a_login_that_failed_otherwise_is_tried_again(tmp_path):
    async with signed_in(tmp_path) as whole:
        given = whole.world.mint("gho_", "monalisa")
        whole.world.queue_faults("/user", [Fault(status=403, body={"message": "x"})])
        with pytest.raises(BrokerError, match="forbidden"):
            await whole.login("third", token=given)
        whole.world.queue_faults("/user", [Fault(delay=HELD_BACK)])
        waiting = asyncio.create_task(whole.login("third", token=given))
        await whole.until(lambda: asked_since(whole, "/user") == 2)
        await whole.broker.logout("third")
        with pytest.raises(BrokerError, match="login_pending"):
            await waiting
        await whole.login("third", token=given)
