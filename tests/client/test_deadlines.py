"""No call waits for a broker that has stopped answering; whichever method, whichever client."""

from __future__ import annotations

import inspect
import time

import pytest

from copilot_broker import AsyncClient, Client
from copilot_broker.errors import BrokerUnreachable, Temporary
from fakes.wire_server import SILENCE, WireServer


ARGUMENTS = {"call": ["broker.status"], "open_stream": ["token.watch"]}
"""Of the methods that do not take just any words."""
NO_QUESTION = {"close", "aclose"}
DEADLINE = 0.2
LATE = 10.0
"""Seconds after which a call has ignored its deadline: generous, as machines may be busy."""


def methods(client):
    return sorted(
        name
        for name, _ in inspect.getmembers(client, callable)
        if not name.startswith("_") and name not in NO_QUESTION
    )


def arguments_of(function):
    """What it cannot be called without."""
    _self, *parameters = inspect.signature(function).parameters.values()
    needed = [each for each in parameters if each.default is each.empty]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    words = ["words" for each in needed if each.kind in positional]
    return ARGUMENTS.get(function.__name__, words)


def keywords_of(function):
    """What it cannot be called without, and takes by name alone: times, all of them."""
    parameters = inspect.signature(function).parameters.values()
    return {
        each.name: 60.0
        for each in parameters
        if each.default is each.empty and each.kind is each.KEYWORD_ONLY
    }


class Mute(dict):
    """Says nothing, whatever it is asked."""

    def __contains__(self, method):
        return True

    def __missing__(self, method):
        return SILENCE

    def get(self, method, default=None):
        return SILENCE


@pytest.fixture
def mute():
    with WireServer({}) as server:
        server.answers = Mute()
        yield server


def test_there_is_something_to_ask():
    assert {"token", "login", "watch", "complete", "status"} <= set(methods(Client))
    assert methods(Client) == methods(AsyncClient)


@pytest.mark.parametrize("method", methods(Client))
def test_a_silent_broker_is_given_up(mute, method):
    began = time.monotonic()
    function = getattr(Client, method)
    with Client(mute.path, timeout=DEADLINE) as client:
        with pytest.raises((BrokerUnreachable, Temporary)):
            function(client, *arguments_of(function), **keywords_of(function))
        assert time.monotonic() - began < LATE


async def done(asked):
    """Wait for the answer, or for the end of the stream."""
    if inspect.isawaitable(asked):
        await asked
    else:
        [each async for each in asked]


@pytest.mark.parametrize("method", methods(AsyncClient))
async def test_a_silent_broker_is_given_up_without_threads_too(mute, method):
    began = time.monotonic()
    async with AsyncClient(mute.path, timeout=DEADLINE) as client:
        asks = getattr(AsyncClient, method)
        with pytest.raises((BrokerUnreachable, Temporary)):
            await done(asks(client, *arguments_of(asks), **keywords_of(asks)))
        assert time.monotonic() - began < LATE
