"""All clients have the same methods, and what is given to one reaches the broker the same way."""

from __future__ import annotations

import inspect

import pytest

from contracts.clients.by_design import LACKS, RENAMED
from contracts.clients.driving import Refused
from contracts.clients.installing import CLIENTS
from copilot_broker import Client
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import HANG_UP, WireServer


TWICE = {
    "accounts", "doctor", "explain_grant", "grants", "hello", "keys", "lease_key", "mint_key",
    "model_list", "models", "quota", "status", "token", "usage_report",
}  # fmt: skip
"""What changes nothing: asking it twice is asking it once."""
HOW = {"call", "open_stream", "close"}
"""Methods about how to ask; all others are about what."""
STREAMS = {"stream", "watch", "login"}
LOGIN = {"host": "github.com", "client_id": "vscode", "scope": "s", "store": "file", "token": "t"}
NUMBERS = {
    "min_valid",
    "requests_per_minute",
    "budget",
    "expires_in",
    "pid",
    "uid",
    "gid",
    "since",
    "until",
}
OTHERS = {
    "headers": {"x-initiator": "user"},
    "models": ["a*", "b"],
    "by": ["day", "model"],
    "timeout": 20,
}
FLAGS = {"fresh", "revoke"}


def methods() -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in vars(Client).items()
        if name[0] != "_" and inspect.isfunction(member)
    }


def given_to(name: str, *, everything: bool) -> tuple[list[object], dict[str, object]]:
    """Return arguments for a method: what it needs, and all of its options, or none."""
    needed: list[object] = []
    options: dict[str, object] = dict(LOGIN) if name == "login" and everything else {}
    for parameter in list(methods()[name].parameters.values())[1:]:
        value = a_value(parameter.name)
        is_needed = parameter.default is parameter.empty
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if is_needed and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            needed.append(value)
        elif is_needed or everything:
            options[parameter.name] = value
    return needed, options


def a_value(name: str) -> object:
    if name in FLAGS:
        return True
    return 7 if name in NUMBERS else OTHERS.get(name, f"some {name}")


def there_to_ask() -> list[str]:
    return sorted(methods().keys() - HOW)


class Refusing(dict):
    """Whatever is asked, the answer is the same; only what was asked counts."""

    def get(self, *_):
        return ErrorInfo(ErrorClass.DENIED, "not_now", "nothing for nobody")


class Leaving(dict):
    """Hangs up, whatever is asked."""

    def get(self, *_):
        return HANG_UP


def test_the_methods_are_the_same(driver):
    wanted = methods().keys() - LACKS[driver.name].keys()
    renamed = RENAMED.get(driver.name, {})
    assert set(driver.do("surface")) == {renamed.get(name, name) for name in wanted}


def test_what_is_lacked_on_purpose_is_known():
    assert set(LACKS) == set(CLIENTS)
    assert {word for lacked in LACKS.values() for word in lacked} <= {
        *methods(),
        "cancel",
        "peer_credentials",
        "strict_keys",
        "utf8",
    }


@pytest.mark.parametrize("everything", [False, True], ids=["needed", "everything"])
@pytest.mark.parametrize("name", there_to_ask())
def test_what_is_given_is_what_is_asked(client, lacks, name, everything):
    """The blocking client says what is right: the arguments reach the wire as with it."""
    if name in lacks:
        return
    needed, options = given_to(name, everything=everything)
    with WireServer({}) as server:
        server.answers = Refusing()
        client.open(server.path)
        do = "begin" if name in STREAMS else "call"
        with pytest.raises(Refused, match="not_now"):
            client.do(do, method=name, needed=needed, options=options)
        with Client(server.path) as reference, pytest.raises(Exception, match="not_now"):
            getattr(reference, name)(*needed, **options)
    half = len(server.requests) // 2
    assert server.requests[:half] == server.requests[half:]
    asked = server.requests[half - 1][1]
    if everything:
        assert len(asked) >= len(needed) + len(options) - ("timeout" in options)


@pytest.mark.parametrize("name", there_to_ask())
def test_what_changes_nothing_is_asked_again_and_nothing_else(client, name):
    """Of a broker that hangs up each time; the blocking client says how often is right."""
    needed, options = given_to(name, everything=False)
    with WireServer({}) as server:
        server.answers = Leaving()
        client.open(server.path)
        with pytest.raises(Refused, match="connection_lost"):
            client.do(
                "begin" if name in STREAMS else "call", method=name, needed=needed, options=options
            )
        asked = server.connections
        with Client(server.path) as reference, pytest.raises(Exception, match="connection_lost"):
            getattr(reference, name)(*needed, **options)
    assert asked == server.connections - asked
    assert asked == (3 if name in TWICE else 1)
