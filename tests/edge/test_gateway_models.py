"""Lists of models in the shapes of both families of libraries, and what they leave out."""

import json
from types import SimpleNamespace

import pytest

from brokerd.core.access import Rule
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, PermanentError
from brokerd.gate import Gate
from brokerd.gateway.messages import Head, Request
from brokerd.gateway.models import one_model, usable, whole_list
from brokerd.simulator.catalogue import MODELS
from brokerd.views import ModelList


PEER = Peer(pid=1, uid=1000, gid=1000, comm="tool")
ANTHROPIC = {"anthropic-version": "2023-06-01"}


def entry(model_id, **more):
    return {"id": model_id, "object": "model", "capabilities": {"type": "chat"}, **more}


ENTRIES = [
    entry("gpt-4o", version="gpt-4o-2024-11-20", vendor="Azure OpenAI", odd={"kept": [1]}),
    entry("claude-opus-4.8", name="Claude Opus 4.8", vendor="Anthropic"),
    entry("vendor/a model", name=7, version="20261399"),
    entry("locked", policy={"state": "unconfigured", "terms": "x"}),
    entry("off", policy={"state": "disabled"}),
    entry("accepted", policy={"state": "enabled"}, model_picker_enabled=False),
]


def asked(path="/v1/models", **headers):
    return Request(Head("GET", path, "", headers), b"")


def caller_of(*rules):
    return Gate(list(rules), own_uid=1000).admit(PEER, "http")


class Proxy:
    def __init__(self, entries=ENTRIES, refusal=None):
        self.entries, self.refusal, self.accounts = entries, refusal, []

    async def models(self, account):
        self.accounts.append(account)
        if self.refusal is not None:
            raise self.refusal
        return ModelList(account or "default", self.entries, 1.0)


async def listed(request=None, caller=None, proxy=None):
    caller = caller or caller_of()
    try:
        reply = await whole_list(request or asked(), caller, proxy or Proxy())
    finally:
        caller.close()
    return reply, json.loads(reply.body)


async def test_openais_libraries_get_githubs_entries_whole():
    reply, page = await listed()
    assert (reply.status, page["object"]) == (200, "list")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-copilot-broker-account"] == "default"
    first, second, third, last = page["data"]
    assert first == {**ENTRIES[0], "created": 1732060800, "owned_by": "Azure OpenAI"}
    assert (second["created"], second["owned_by"]) == (0, "Anthropic")
    assert (third["created"], third["owned_by"]) == (0, "github-copilot")
    assert last["id"] == "accepted"


async def test_anthropics_get_the_few_fields_of_theirs():
    _, page = await listed(asked(**ANTHROPIC))
    assert page["data"][:2] == [
        {"type": "model", "id": "gpt-4o", "display_name": "gpt-4o", "created_at": "2024-11-20T00:00:00Z"},
        {"type": "model", "id": "claude-opus-4.8", "display_name": "Claude Opus 4.8", "created_at": "1970-01-01T00:00:00Z"},
    ]  # fmt: skip
    ends = page["first_id"], page["last_id"], page["has_more"]
    assert ends == ("gpt-4o", "accepted", False)


async def test_codex_reads_it_as_a_list_of_its_own_that_is_empty():
    request = Request(Head("GET", "/v1/models", "client_version=0.169.0", {}), b"")
    _, page = await listed(request)
    assert (len(page["data"]), page["models"]) == (4, [])
    assert "models" not in (await listed())[1]


async def test_nothing_to_list_is_a_list():
    assert (await listed(proxy=Proxy([])))[1] == {"object": "list", "data": []}
    page = (await listed(asked(**ANTHROPIC), proxy=Proxy([])))[1]
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


async def test_what_a_caller_may_not_use_is_not_there():
    rule = Rule(where="test", listener="http", models=("claude-*", "acc*"))
    _, page = await listed(caller=caller_of(rule))
    assert [each["id"] for each in page["data"]] == ["claude-opus-4.8", "accepted"]
    caller = caller_of(rule)
    with pytest.raises(PermanentError) as caught:
        await one_model(asked(), caller, Proxy(), "gpt-4o", {})
    assert caught.value.failure.code == "model_not_found"
    caller.close()


async def test_the_account_that_is_named_is_asked_for():
    proxy = Proxy()
    reply, _ = await listed(asked(**{"x-copilot-broker-account": "work"}), proxy=proxy)
    assert proxy.accounts == ["work"]
    assert reply.headers["x-copilot-broker-account"] == "work"


async def test_who_may_not_have_the_account_asks_nobody():
    proxy = Proxy()
    caller = caller_of(Rule(where="test", listener="http", accounts=("default",)))
    with pytest.raises(PermanentError) as caught:
        await listed(asked(**{"x-copilot-broker-account": "work"}), caller, proxy)
    assert caught.value.failure.error_class is ErrorClass.DENIED
    assert not proxy.accounts


@pytest.mark.parametrize(
    ("asked_for", "found"),
    [
        ("gpt-4o", "gpt-4o"),
        ("vendor%2Fa%20model", "vendor/a model"),
        ("vendor/a%20model", "vendor/a model"),
        ("claude-opus-4-8", "claude-opus-4.8"),
        ("claude-opus-4-8-20261001", "claude-opus-4.8"),
        ("fast", "gpt-4o"),
        ("my-anything", "accepted"),
    ],
)
async def test_a_model_is_found_by_each_of_its_names(asked_for, found):
    aliases = {"fast": "gpt-4o", "my-*": "accepted"}
    caller = caller_of()
    for headers in ({}, ANTHROPIC):
        reply = await one_model(asked(**headers), caller, Proxy(), asked_for, aliases)
        page = json.loads(reply.body)
        assert page["id"] == found
        assert ("display_name" in page, "owned_by" in page) == (bool(headers), not headers)
    caller.close()


@pytest.mark.parametrize("name", ["gpt-5", "locked", "off", "%00", "x" * 300])
async def test_a_model_that_is_not_there_is_not_found(name):
    caller = caller_of()
    with pytest.raises(PermanentError) as caught:
        await one_model(asked(), caller, Proxy(), name, {})
    failure = caught.value.failure
    assert (failure.code, len(failure.message) < 200) == ("model_not_found", True)
    caller.close()


async def test_a_refusal_goes_through():
    refusal = PermanentError(SimpleNamespace(code="login_required"))
    with pytest.raises(PermanentError):
        await listed(proxy=Proxy(refusal=refusal))


def test_the_blemishes_of_the_real_list_are_left_out():
    names = [each["id"] for each in usable(MODELS["data"])]
    assert "sim-embedding" in names
    assert not {"sim-premium", "sim-disabled", "sim-unfinished"} & set(names)
