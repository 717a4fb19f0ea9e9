"""Tools that share one login, each with habits of its own, for a day of `fakes.day`."""

import asyncio
import contextlib
import json

from brokerd.core.completions import CompletionRequest, UpstreamCall
from brokerd.errors import BrokerError, Failure
from copilot_broker import CopilotBrokerError
from fakes.day import ASK_MAX
from fakes.day_edges import CANARY
from fakes.simulated import EXCHANGE
from fakes.trouble import COMPLETION


__all__ = ["ask_completions", "reject_wrongly", "use_tokens", "watch"]

MODELS = ("sim-chat", "sim-claude")
OWN_MODEL = "sim-large"
"""Of those who use tokens themselves: they are told of limits of the account, not of a model's."""
ALIVE = 2.0
"""Seconds that a token must live on for who uses it at once; GitHub counts in whole ones."""
LONG_LIVED = 1800 - 120
"""Seconds left of a token that is too young to be rejected without a pause."""


class Taken:
    """ports.Receiver: waits for the end of a body."""

    def __init__(self):
        self.size = 0
        self.over = asyncio.get_running_loop().create_future()

    def data(self, chunk):
        self.size += len(chunk)

    def ended(self, failure):
        if not self.over.done():
            self.over.set_result(failure)


async def ask_completions(day, rng, who, account, *, mean, over_rpc=False):
    """Ask now and then, in every way there is; once in a while lose patience."""
    number = 0
    async with day.tool() as tool:
        while True:
            await day.clock.nap(rng.expovariate(1 / mean))
            number += 1
            name = f"{who} #{number}"
            stream = rng.random() < 0.35
            request = CompletionRequest(
                body=_body(rng.choice(MODELS), stream=stream),
                stream=stream,
                account=account,
                headers={"x-interaction-id": name},
                peer=int(who.split()[1]) % 40,
            )
            if over_rpc:
                question = _over_rpc(tool, request)
            elif rng.random() < 0.5:
                question = _begun(day, request)
            else:
                question = day.proxy.open(request)
            if rng.random() < 0.1:
                await _impatient(day, name, question)
            else:
                await _completion(day, name, question, leaves=rng.random() < 0.03)


async def _impatient(day, name, question):
    """Ask, and leave when there is nothing after ten seconds."""
    asking = asyncio.ensure_future(_completion(day, name, question, leaves=False))
    nap = asyncio.ensure_future(day.clock.nap(10.0))
    try:
        await asyncio.wait({asking, nap}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
        else:
            day.counts["gave up"] += 1
    finally:
        for each in (asking, nap):
            each.cancel()
        await asyncio.gather(asking, nap, return_exceptions=True)


async def _completion(day, name, question, *, leaves):
    answer = await day.asked(name, question, ASK_MAX, EXCHANGE, COMPLETION, name="completions")
    if answer is None:
        return
    try:
        if not leaves:
            await _read(day, name, answer)
    finally:
        if isinstance(answer, (OverRpc, WholeOverRpc)):
            await answer.aclose()
        else:
            answer.close()


async def _read(day, name, answer):
    began = day.clock.boottime()
    taken = Taken()
    day.under_way += 1
    try:
        answer.stream_to(taken)
        failure = await taken.over
    finally:
        day.under_way -= 1
    if failure is not None:
        day.counts["bodies cut"] += 1
        if day.trouble.was_well(began, began, COMPLETION):
            day.fail(f"{name}: its answer is cut although all is well: {failure}")


class OverRpc:
    """A stream of the client library's, as an Answer; `read` is its whole body."""

    def __init__(self, stream):
        self.stream = stream
        self.status, self.refusal = stream.status, stream.refusal
        self._task = None

    def stream_to(self, receiver):
        self._task = asyncio.ensure_future(self._carry(receiver))

    async def _carry(self, receiver):
        try:
            async for chunk in self.stream:
                receiver.data(chunk)
        except CopilotBrokerError as error:
            receiver.ended(_failure_of(error))
        else:
            receiver.ended(None)

    async def aclose(self):
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.stream.aclose()


class WholeOverRpc:
    """A whole answer of the client library's."""

    def __init__(self, completion):
        self.status, self.refusal = completion.status, completion.refusal

    def stream_to(self, receiver):
        receiver.ended(None)

    async def aclose(self):
        pass


async def _over_rpc(tool, request):
    """Ask as any tool does: over the socket, with the client library."""
    said = {"account": request.account, "headers": request.headers}
    with _as_broker_error():
        if request.stream:
            return OverRpc(await tool.stream(request.body, **said).begin())
        return WholeOverRpc(await tool.complete(request.body, **said))


@contextlib.contextmanager
def _as_broker_error():
    try:
        yield
    except CopilotBrokerError as error:
        raise BrokerError(_failure_of(error)) from None


def _failure_of(error):
    return Failure(error.error_class, error.code, error.message, error.hint)


async def _begun(day, request):
    """Ask as the RPC door does."""
    told = asyncio.get_running_loop().create_future()

    def listener(outcome):
        if not told.done():
            told.set_result(outcome)
        elif not isinstance(outcome, BaseException):
            outcome.close()

    begun = day.proxy.begin(request, listener)
    try:
        outcome = await told
    except asyncio.CancelledError:
        begun.close()
        raise
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def use_tokens(day, rng, who, account, *, mean, over_rpc=False):
    """Take a token and use it, now and a minute later, as long as one may."""
    async with day.tool() as tool:
        lend = tool_lease(tool) if over_rpc else None
        while True:
            await day.clock.nap(rng.expovariate(1 / mean))
            lease = newest = await day.lease(who, account, lend)
            dies_at = day.clock.boottime() + (lease.expires_in if lease else 0.0) - ALIVE
            if lease and _may_use(day, newest, dies_at):
                await _use(day, who, lease)
                await day.clock.nap(60.0)
                newest = await day.lease(who, account, lend)
                if newest and _may_use(day, newest, dies_at):
                    await _use(day, who, lease)


def tool_lease(tool):
    """Have the client library lend tokens, with the broker's errors."""

    async def lend(**asked):
        with _as_broker_error():
            return await tool.token(**asked)

    return lend


def _may_use(day, newest, dies_at):
    """Whether the token lives, and upstream wants requests, as was told a moment ago."""
    wait = newest.cooldown_until
    if day.clock.boottime() < dies_at and not (wait and wait > day.clock.wall()):
        return True
    day.counts["tokens left alone"] += 1
    return False


async def _use(day, who, lease):
    """Ask the Copilot API past the broker."""
    began = day.clock.boottime()
    day.counts["direct uses"] += 1
    headers = {"x-interaction-id": who}
    body = _body(OWN_MODEL)
    call = UpstreamCall("github.com", lease.api_base, lease.token, COMPLETION, body, headers)
    status = code = 0
    day.under_way += 1
    try:
        reply = await day.own_copilot.open(call)
        status = reply.status
        try:
            await reply.read(1 << 20)
        finally:
            reply.close()
    except BrokerError as error:
        code = error.failure.code
    finally:
        day.under_way -= 1
    if status == 401:
        day.fail(f"{who} gets a 401 for a token that it was lent")
    if (status != 200 or code) and day.trouble.was_well(began, began, COMPLETION):
        day.fail(f"{who} cannot use its token although all is well: {status} {code}")


async def reject_wrongly(day, rng, who, account, *, mean):
    """Say of good tokens that they are refused; each has to be replaced, once."""
    while True:
        await day.clock.nap(rng.expovariate(1 / mean))
        lease = await day.lease(who, account)
        if lease is None or lease.expires_in > LONG_LIVED:
            continue
        fresh = await day.lease(who, account, reject=lease.token_id)
        if fresh is not None and fresh.token_id == lease.token_id:
            day.fail(f"{who} gets the token back that it has rejected")
        if rng.random() < 0.5:  # a second time changes nothing
            again = await day.lease(who, account, reject=lease.token_id)
            if fresh and again and again.token_id != fresh.token_id:
                day.fail(f"{who} has a token replaced by rejecting another")


async def watch(day, account, seen):
    """Look on all day; `seen` is what was told last."""
    last = None
    async for state in day.broker.watch(account):
        day.counts["watched"] += 1
        seen[account] = state
        if state.kind not in ("token", "cooldown"):
            day.fail(f"a watcher of {account} is told of {state.kind}: {state.failure}")
        now = day.clock.boottime() if state.kind == "cooldown" else None  # the next is another
        told = (state.kind, state.lease and state.lease.token_id, state.failure, now)
        if told == last:
            day.fail(f"a watcher of {account} is told the same twice")
        last = told


def _body(model, *, stream=False):
    text = f"{CANARY}: why is the sky blue"
    asked = {"model": model, "messages": [{"role": "user", "content": text}]}
    return json.dumps(asked | ({"stream": True} if stream else {})).encode()
