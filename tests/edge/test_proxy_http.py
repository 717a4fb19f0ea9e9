"""The proxy over HTTP: every refusal the simulated Copilot knows, and its models."""

import asyncio
import json
import time

import pytest

from brokerd.core.completions import CompletionRequest
from brokerd.core.fim import WholeCompletion
from brokerd.errors import BrokerError, ErrorClass, PermanentError, TransientError
from brokerd.pacer import Pacer
from brokerd.proxy import Proxy
from brokerd.proxy.catalogue import MIN_AGE
from brokerd.simulator import refusals
from brokerd.upstream import Copilot, UpstreamSettings
from fakes.broker import a_lease
from fakes.clock import FakeClock
from fakes.proxied import WAY, FakeLender, Taker, Ticker
from fakes.simulated import simulated


CHAT = "/chat/completions"
TABLE = {name: refusals.named(name, time.time()) for name in refusals.NAMES}
REFUSALS = [name for name, fault in TABLE.items() if (fault.status or 0) >= 400]
PATIENCE = 10

CODES = {
    "400_inner_object": "model_not_supported",
    "402_date": "quota_exceeded",
    "402_seconds": "quota_exceeded",
    "404_json": "not_found",
    "413_json": "request_too_large",
    "429_rate_limited_suffix": "rate_limited",
    "429_no_retry_after": "rate_limited",
    "429_date": "rate_limited",
    "429_long": "user_weekly_rate_limited",
    "401_token_expired": "upstream_401",
    "401_ide_token_expired": "upstream_401",
    "401_authorize_url": "upstream_401",
    "401_pat": "upstream_401",
    "403_feature": "upstream_403",
    "403_forbidden": "upstream_403",
    "403_denied": "upstream_403",
    "404_text": "upstream_404",
    "413_text": "upstream_413",
    "429_text": "upstream_429",
    "502_html": "upstream_502",
    "proxy_403": "intercepted",
}
CLASSES = {
    400: ErrorClass.USAGE,
    401: ErrorClass.DENIED,
    402: ErrorClass.DENIED,
    403: ErrorClass.DENIED,
    404: ErrorClass.USAGE,
    413: ErrorClass.USAGE,
    422: ErrorClass.DENIED,
    466: ErrorClass.DENIED,
}


def class_of(name):
    if name == "400_off_topic":
        return ErrorClass.DENIED
    if name == "proxy_403":  # whoever blocks it may let it through
        return ErrorClass.TEMPORARY
    return CLASSES.get(TABLE[name].status, ErrorClass.TEMPORARY)


WAITS = {"429_long": 465_000.0, "429_user_weekly_rate_limited": 465_000.0, "503": 10.0}


@pytest.fixture
async def it():
    async with simulated() as edge:
        yield edge


@pytest.fixture(autouse=True)
def _at_once():
    WAY.now = "at once"
    yield
    WAY.now = "open"


async def proxy_for(it, ticker=None, **lease):
    token = await it.github.exchange(it.token())
    lease = a_lease(token=token.value, api_base=it.simulator.url, **lease)
    lender = FakeLender(lease)
    time = {} if ticker is None else {"monotonic": ticker}
    return Proxy(lender, lambda: it.copilot, Pacer(FakeClock()), **time), lender


def question(model="sim-chat", path=CHAT, **more):
    asked = {"model": model, "messages": [{"role": "user", "content": "why"}], **more}
    return CompletionRequest(body=json.dumps(asked).encode(), path=path)


async def asked(proxy, request):
    """Ask as the doors do: without waiting."""
    told = asyncio.get_running_loop().create_future()
    proxy.begin(request, told.set_result)
    async with asyncio.timeout(PATIENCE):
        outcome = await told
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def sent(it, path=CHAT):
    return it.paths().count(path)


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "new"])
async def test_every_refusal_is_passed_on_as_it_is_and_explained(it, name, is_kept):
    proxy, _ = await proxy_for(it)
    if is_kept:  # a connection is at hand then
        first = await asked(proxy, question())
        assert await first.read(100_000)
        first.close()
    fault = refusals.named(name, time.time())  # dates in it are of now
    it.simulator.world.queue_faults(CHAT, [fault])
    answer = await asked(proxy, question())
    body = await answer.read(100_000)
    answer.close()
    expected = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
    assert (answer.status, body.decode().strip()) == (fault.status, expected.strip())
    refusal = answer.refusal
    default = name.partition("_")[2] or f"upstream_{name}"
    assert refusal.code == CODES.get(name, default)
    assert refusal.error_class is class_of(name)
    assert refusal.hint.rpartition(": ")[2].startswith(("copilot-cred", "systemctl"))
    assert ("firewall" in str(refusal)) == (name == "proxy_403")
    assert proxy.last_refusal("default")[0] == refusal
    assert bool(proxy.quota("default")) == (is_kept or fault.status == 402)
    pacing = proxy.pacing("default")
    assert pacing.in_flight == 0
    if fault.status in (429, 503):
        wait = WAITS.get(name, 60.0)
        assert (refusal.retry_after, "<" in refusal.message) == (
            pytest.approx(wait if name != "429_date" else 3600.0, abs=30.0),
            False,
        )
        before = sent(it)
        with pytest.raises(TransientError, match="cooling_down"):
            await asked(proxy, question())
        assert sent(it) == before
    else:
        assert pacing.cooldown_in is None
        (await asked(proxy, question())).close()


async def test_an_agents_sign_in_comes_with_its_address(it):
    proxy, lender = await proxy_for(it)
    it.simulator.world.queue_faults(CHAT, [TABLE["401_authorize_url"]])
    answer = await asked(proxy, question())
    assert answer.refusal.url == "https://github.com/login/oauth/authorize?client_id=sim"
    assert (len(lender.calls), lender.rejected) == (1, [])
    answer.close()


async def test_every_tenth_byte_of_a_refusal_can_be_its_last(it):
    proxy, _ = await proxy_for(it)
    whole = refusals.error_text("model_not_supported", "The requested model is not supported.")
    for size in range(0, len(whole), 10):
        it.fault(CHAT, 400, whole[:size])
        answer = await asked(proxy, question())
        assert answer.refusal.code in ("upstream_400", "model_not_supported")
        assert answer.refusal.error_class is ErrorClass.USAGE
        taker = Taker()
        answer.stream_to(taker)
        assert (b"".join(taker.chunks).decode(), taker.ends) == (whole[:size], [None])
        answer.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", {"model": "sim-responses", "input": "why"}),
        ("/v1/messages", {"model": "sim-claude", "max_tokens": 9, "messages": [
            {"role": "user", "content": "why"}]}),
        ("/embeddings", {"model": "sim-embedding", "input": ["a"]}),
        ("/models/session", {"auto_mode": {"model_hints": ["auto"]}}),
    ],
)  # fmt: skip
async def test_copilots_other_paths_answer_too(it, path, body):
    proxy, _ = await proxy_for(it)
    answer = await asked(proxy, CompletionRequest(body=json.dumps(body).encode(), path=path))
    said = await answer.read(1_000_000)
    assert (answer.status, answer.refusal) == (200, None), said
    assert json.loads(said)
    answer.close()
    assert sent(it, path) == 1


FIM = "/v1/engines/sim-completion/completions"


@pytest.mark.parametrize("is_direct", [False, True])
async def test_the_middle_is_filled_by_the_host_for_it(is_direct):
    async with simulated() as chat, simulated() as it:
        token = await it.github.exchange(it.token())
        lease = a_lease(
            token=token.value,
            api_base=chat.simulator.url,
            completions_base=it.simulator.url,
            is_direct=is_direct,
        )
        way = UpstreamSettings(copilot=chat.simulator.url, completions=it.simulator.url)
        copilot = Copilot(way)
        proxy = Proxy(FakeLender(lease), lambda: copilot, Pacer(FakeClock()))
        body = json.dumps({"prompt": "def f():\n    ret", "suffix": "\n", "stream": True}).encode()
        whole = WholeCompletion()
        for headers in ({}, {"openai-intent": "copilot-panel"}):
            answer = await asked(proxy, CompletionRequest(body, FIM, headers=headers))
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
            whole = WholeCompletion()
            whole.feed(await answer.read(100_000))
            answer.close()
            assert json.loads(whole.end())["choices"][0]["text"].endswith("after: ret")
        assert not chat.paths()
        first, second = (seen for seen in it.simulator.world.requests if seen.path == FIM)
        said = {
            "openai-intent": "copilot-ghost",
            "openai-organization": "github-copilot",
            "x-github-api-version": "2025-04-01",
        }
        assert {name: first.headers.get(name) for name in said} == said
        assert ("copilot-integration-id" in first.headers) == (not is_direct)
        assert "x-initiator" not in first.headers
        assert second.headers["openai-intent"] == "copilot-panel"
        refused = await asked(proxy, CompletionRequest(b'{"prompt": "x"}', FIM))
        assert (refused.status, refused.refusal.code) == (400, "invalid_request_body")
        refused.close()
        await copilot.aclose()


async def test_used_up_completions_are_explained_and_the_quota_read_again(it):
    token = await it.github.exchange(it.token())
    lease = a_lease(
        token=token.value, api_base=it.simulator.url, completions_base=it.simulator.url
    )
    used_up = []
    proxy = Proxy(
        FakeLender(lease), lambda: it.copilot, Pacer(FakeClock()), on_used_up=used_up.append
    )
    it.simulator.world.queue_faults(FIM, [TABLE["402_free_quota_exceeded"]])
    answer = await asked(proxy, CompletionRequest(b'{"prompt": "x", "stream": true}', FIM))
    assert (answer.status, answer.refusal.code) == (402, "free_quota_exceeded")
    assert used_up == ["default"]
    answer.close()


async def test_a_model_that_cools_down_is_known_by_the_path(it):
    token = await it.github.exchange(it.token())
    lease = a_lease(
        token=token.value, api_base=it.simulator.url, completions_base=it.simulator.url
    )
    proxy = Proxy(FakeLender(lease), lambda: it.copilot, Pacer(FakeClock()))
    it.simulator.world.queue_faults(FIM, [TABLE["429_user_model_rate_limited"]])
    body = b'{"prompt": "x", "stream": true}'
    (await asked(proxy, CompletionRequest(body, FIM))).close()
    with pytest.raises(TransientError, match="sim-completion"):
        await asked(proxy, CompletionRequest(body, FIM))
    assert list(proxy.pacing("default").models) == ["sim-completion"]
    (await asked(proxy, question())).close()


async def test_a_host_for_completions_that_is_not_permitted_gets_nothing(it):
    lease = a_lease(api_base=it.simulator.url, completions_base="https://proxy.example.test")
    proxy = Proxy(FakeLender(lease), lambda: it.copilot, Pacer(FakeClock()))
    with pytest.raises(PermanentError) as caught:
        await asked(proxy, CompletionRequest(b"{}", FIM))
    assert (caught.value.failure.error_class, caught.value.failure.code) == (
        ErrorClass.DENIED,
        "api_base_refused",
    )


# Models.


async def test_terms_are_accepted_when_asked_and_the_list_shows_it(it):
    proxy, _ = await proxy_for(it)

    async def state():
        models = (await proxy.models(None)).models
        return next(each["policy"]["state"] for each in models if each["id"] == "sim-premium")

    assert await state() == "unconfigured"
    refused = await asked(proxy, question("sim-premium"))
    assert refused.refusal.hint.endswith(": copilot-cred models enable sim-premium")
    refused.close()
    assert await proxy.enable_model(None, "sim-premium") == ("default", "enabled")
    sent_headers = it.simulator.world.requests[-1].headers
    assert (sent_headers["openai-intent"], sent_headers["x-interaction-type"]) == (
        "chat-policy",
        "chat-policy",
    )
    assert await state() == "enabled"
    answer = await asked(proxy, question("sim-premium"))
    assert answer.status == 200
    answer.close()


async def test_the_organizations_word_stands(it):
    proxy, _ = await proxy_for(it)
    with pytest.raises(PermanentError) as caught:
        await proxy.enable_model(None, "sim-disabled")
    assert caught.value.failure.code == "upstream_403"
    assert "policy of your organization" in caught.value.failure.message


@pytest.mark.parametrize(
    "model",
    [
        "no-such-model",
        "vendor/none",
        "",
        ".",
        "..",
        "a\nb",
        "a b",
        "caf\u00e9",
        "x" * 201,
        "../token",
        "../../user",
        "a/../b",
        "a/..",
        "a//b",
        "/a",
        "a/",
    ],
)
async def test_a_model_that_is_not_there_is_said_to_be_not(it, model):
    proxy, _ = await proxy_for(it)
    with pytest.raises(PermanentError) as caught:
        await proxy.enable_model(None, model)
    failure = caught.value.failure
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "unknown_model")
    assert failure.message.isprintable()
    assert failure.hint.endswith("copilot-cred models")
    asked_for = [path for path in it.paths() if path.startswith("/models")]
    assert all(path.endswith("/policy") for path in asked_for)
    assert len(asked_for) == (model in ("no-such-model", "vendor/none"))


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refused_list_is_explained_as_a_completion_is(it, name):
    proxy, lender = await proxy_for(it)
    fault = refusals.named(name, time.time())  # dates in it are of now
    it.simulator.world.queue_faults("/models", [fault])
    with pytest.raises(BrokerError) as caught:
        await proxy.models(None)
    failure = caught.value.failure
    expected = {401: "copilot_token_rejected", 421: "misdirected"}.get(
        fault.status, CODES.get(name, name.partition("_")[2] or f"upstream_{name}")
    )
    assert failure.code == expected
    assert failure.error_class is class_of(name)
    assert isinstance(caught.value, TransientError) == (
        failure.error_class is ErrorClass.TEMPORARY
    )
    assert f"answered {fault.status}" in failure.message
    is_rejected = fault.status in (401, 421)
    assert [call[2] for call in lender.calls] == [None, *[a_lease().token_id] * is_rejected]


async def test_a_list_survives_whatever_body_comes_after_it(it):
    ticker = Ticker()
    proxy, _ = await proxy_for(it, ticker)
    good = (await proxy.models(None)).models
    whole = json.dumps({"data": good, "object": "list"})
    bodies = [whole[: len(whole) * tenth // 10] for tenth in range(10)]
    for body in [*bodies, "<html>", "[]", "null", '{"data": 7}', '"x"']:
        it.fault("/models", 200, body)
        ticker.now += MIN_AGE
        found = await proxy.models(None, fresh=True)
        assert (found.models, found.failure.code) == (good, "bad_answer"), body[:50]
    it.fault("/models", 200, json.dumps({"data": [7, {}, {"id": 3}, *good, good[0]]}))
    ticker.now += MIN_AGE
    found = await proxy.models(None, fresh=True)
    assert (found.models, found.failure) == (good, None)


async def test_a_long_list_is_taken_where_other_answers_have_to_be_short(it):
    ticker = Ticker()
    proxy, _ = await proxy_for(it, ticker)
    entries = [{"id": f"m{number}", "note": "x" * 10_000} for number in range(300)]
    it.fault("/models", 200, json.dumps({"data": entries}))
    assert (await proxy.models(None)).models == entries
    it.fault("/models", 200, "x" * (9 * 1024 * 1024))
    ticker.now += MIN_AGE
    assert "too long" in (await proxy.models(None, fresh=True)).failure.message


async def test_without_a_network_the_next_step_is_no_new_login(it):
    proxy, _ = await proxy_for(it)
    it.fault("/models", reset=True)
    it.fault("/models/m/policy", reset=True)
    for asked_for in (proxy.models(None), proxy.enable_model(None, "m")):
        with pytest.raises(TransientError) as caught:
            await asked_for
        assert caught.value.failure.code == "network_broken"
        assert (
            caught.value.failure.hint == "Check the network, then ask again: copilot-cred models"
        )


async def test_terms_are_not_sent_into_a_pause(it):
    proxy, _ = await proxy_for(it)
    policy = "/models/sim-terms/policy"
    it.fault(policy, 429, "slow down", headers={"retry-after": "100"})
    codes = []
    for _ in range(3):
        with pytest.raises(TransientError) as caught:
            await proxy.enable_model(None, "sim-terms")
        codes.append((caught.value.failure.code, caught.value.failure.retry_after))
    assert codes == [("upstream_429", 100.0), ("cooling_down", 100.0), ("cooling_down", 100.0)]
    assert sent(it, policy) == 1


async def test_no_integration_is_named_with_a_github_token(it):
    proxy, _ = await proxy_for(it, is_direct=True)
    (await asked(proxy, question())).close()
    for fault_at in (CHAT, "/models"):
        it.fault(fault_at, 200, {"data": []})
    (await asked(proxy, question())).close()
    await proxy.models(None)
    for seen in it.simulator.world.requests:
        if seen.path in (CHAT, "/models"):
            assert "copilot-integration-id" not in seen.headers
            assert seen.headers["user-agent"]
