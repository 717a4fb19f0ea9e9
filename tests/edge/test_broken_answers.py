"""Every answer damaged in every way, one at a time: a clear error or a good result, and no more.

Cut at every tenth byte, replaced, each field of other types: nothing of it may cost a traceback,
a secret or a kept login, and the next whole answer must do as if nothing had been.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections import Counter
from dataclasses import replace

import pytest

from brokerd.broker import LoginRequest
from brokerd.core.completions import CompletionRequest
from brokerd.errors import ErrorClass, Failure
from brokerd.proxy.catalogue import MIN_AGE
from brokerd.simulator.notifications import error_envelope
from brokerd.simulator.world import Fault
from brokerd.views import LeasedToken, LoginSucceeded, ModelList, UserCodeIssued
from copilot_broker.errors import CopilotBrokerError, UpstreamRefused
from fakes.whole import (
    EXCHANGE,
    PATIENCE,
    POLL,
    VSCODE,
    Whole,
    a_secret_in,
    is_clear,
    outcome,
    simulated_world,
    whole_broker,
)


HTML = "<!DOCTYPE html><html><body><h1>Sign in to our network</h1></body></html>"
REPLACED = [HTML, "", "null", "7", "[]", '"x"', "{}", "[" * 50_000, "9" * 5000, "\x00\ufeff\ud7ff"]
ODD = [None, True, -1, 1.5, 10**30, "\x1b[0m", [], [None], {}, {"a": []}]
FEW = [None, -1, "\x1b[0m", [], {}]
"""One of each type, where there are many fields or each try is long."""
DEVICE_CODE = "/login/device/code"
REVOKE = "/credentials/revoke"
CHAT_PATH = "/chat/completions"
CHAT = {"model": "sim-chat", "messages": [{"role": "user", "content": "count"}]}


@pytest.fixture(autouse=True)
def quiet(caplog):
    """No traceback and no secret in the log, whatever a test does."""
    caplog.set_level(logging.INFO)
    yield
    for record in caplog.records:
        assert record.exc_info is None, record.getMessage()
        assert "defect" not in str(record.__dict__.get("ERROR_CODE", ""))
        assert not a_secret_in(record.getMessage(), record.__dict__)


def fields_in(value, prefix=""):
    """Dotted names of all fields, however deep."""
    for key, each in value.items():
        yield prefix + key
        if isinstance(each, dict):
            yield from fields_in(each, f"{prefix}{key}.")


async def told(whole, path, ask):
    """Ask once with everything whole; how long the answer's body was, and its fields."""
    whole.world.settings.keep_bodies = True
    whole.world.queue_faults(path, [Fault()])
    await ask()
    whole.world.settings.keep_bodies = False
    found = whole.asked(path)[-1]
    try:
        body = json.loads(found.kept.response_body)
    except ValueError:
        body = {}
    return found.sent, body


def cuts(length):
    """Cut at every tenth byte."""
    return [Fault(truncate=count) for count in range(0, length, 10)]


def others():
    return [Fault(replace_body=body) for body in REPLACED]


def wrong_types(body, odd=ODD):
    return [Fault(json_patch={name: value}) for name in fields_in(body) for value in odd]


async def hold(whole, path, faults, ask, good):
    """Each fault makes a clear error or a good result, keeps what is kept, and passes.

    Returns how often it was which. The `default` login is not what `ask` is for.
    """
    kept, counts = whole.kept(), {"clear": 0, "good": 0}
    for fault in faults:
        whole.world.queue_faults(path, [fault])
        found = await outcome(ask())
        assert whole.world.take_fault(path) is None, "nobody asked"
        if isinstance(found, Failure):
            assert is_clear(found), (fault, found)
            counts["clear"] += 1
        else:
            assert isinstance(found, good), (fault, found)
            assert not a_secret_in(found)
            counts["good"] += 1
        assert {name: whole.kept()[name] for name in kept} == kept, fault
        if (fault.truncate or 0) % 50 == 0:  # the cuts are many, and much alike
            found = await outcome(ask())
            assert isinstance(found, good), (fault, found)
    found = await outcome(ask())
    assert isinstance(found, good), found
    return counts


async def start_login(whole):
    request = LoginRequest(client_id=VSCODE, account="other")
    async with contextlib.aclosing(whole.broker.login(request)) as progress:
        return await anext(progress)


async def test_device_code(tmp_path):
    async with whole_broker(tmp_path) as whole:
        length, body = await told(whole, DEVICE_CODE, lambda: start_login(whole))
        faults = cuts(length) + others() + wrong_types(body)
        found = await hold(whole, DEVICE_CODE, faults, lambda: start_login(whole), UserCodeIssued)
        assert found["clear"] >= length / 10 + len(REPLACED) + 20
        assert found["good"] >= 10  # expires_in and interval are as good as absent


async def login_through(whole, path, faults, **request):
    """Sign in as `other` until all faults have been met; the errors shown meanwhile."""
    shown = []

    def look():
        for view in whole.broker.accounts():
            if view.name == "other" and view.error not in (None, *shown[-1:]):
                shown.append(view.error)

    whole.broker.on_change(look)
    kept = whole.kept()
    whole.world.queue_faults(path, faults)
    for _ in faults:
        found = await outcome(whole.login("other", **request))
        if isinstance(found, Failure):
            shown.append(found)
        else:
            assert isinstance(found[-1], LoginSucceeded)
            await whole.broker.logout("other")
        assert whole.kept() == kept
        if not whole.world._faults[path]:
            break
    assert not whole.world._faults[path]
    assert isinstance((await whole.login("other", **request))[-1], LoginSucceeded)
    assert whole.kept().items() > kept.items()
    for failure in shown:
        assert is_clear(failure), failure
    return shown


async def test_polls_before_the_decision(tmp_path, caplog):
    async with whole_broker(tmp_path, enforce_pacing=False, device_expires_in=10**6) as whole:
        world = whole.world
        world.settings.change({"auto_approve": False, "login": "hubot", "user_id": 7})
        pending = {"error": "authorization_pending", "error_description": "x", "error_uri": "y"}
        faults = cuts(len(json.dumps(pending))) + others() + wrong_types(pending)
        world.queue_faults(POLL, faults)

        async def approve():
            await whole.until(lambda: not world._faults[POLL])
            assert world.decide(None, approve=True)

        kept = whole.kept()
        approving = asyncio.create_task(approve())
        assert isinstance((await whole.login("other"))[-1], LoginSucceeded)
        await approving
        assert whole.kept().items() > kept.items()
        codes = [each.__dict__.get("ERROR_CODE") for each in caplog.records]
        # The fields that explain the error are nobody's business; all else is asked again.
        assert codes.count("bad_answer") == len(faults) - 2 * len(ODD)
        assert set(codes) == {None, "bad_answer"}


async def test_the_poll_that_grants(tmp_path):
    async with whole_broker(tmp_path, github_token_expires_in=28_800) as whole:
        whole.world.settings.change({"login": "hubot", "user_id": 7})
        length, body = await told(whole, POLL, lambda: whole.login("other"))
        await whole.broker.logout("other")
        faults = cuts(length) + others() + wrong_types(body)
        shown = await login_through(whole, POLL, faults)
        # The code is spent with the answer that was lost: so the login says, and starts anew.
        assert {failure.code for failure in shown} == {"bad_answer", "incorrect_device_code"}


async def test_who_somebody_is(tmp_path):
    async with whole_broker(tmp_path) as whole:
        whole.world.settings.change({"login": "hubot", "user_id": 7})
        length, body = await told(whole, "/user", lambda: whole.login("other"))
        await whole.broker.logout("other")
        faults = cuts(length) + others() + wrong_types(body)
        token = whole.world.mint("gho_", client_id=VSCODE)
        shown = await login_through(whole, "/user", faults, token=token)
        assert {failure.code for failure in shown} == {"bad_answer"}


@pytest.mark.parametrize("path", [DEVICE_CODE, POLL, "/user"])
async def test_a_new_login_that_comes_to_nothing_leaves_the_old_one(tmp_path, path):
    """Under the same name: what is kept is replaced by a whole new login, or not at all."""
    async with whole_broker(tmp_path, enforce_pacing=False, device_interval=0.01) as whole:
        whole.world.settings.change({"login": "hubot", "user_id": 7})
        kept, name = whole.kept(), "default"

        async def new_login():
            request = LoginRequest(client_id=VSCODE, account=name)
            async for _ in whole.broker.login(request):
                pass

        for fault in [*cuts(60), *others()]:
            whole.world._faults[path].clear()
            whole.world.queue_faults(path, [fault] * 3)
            trying = asyncio.create_task(outcome(new_login()))
            await whole.until(lambda: len(whole.world._faults[path]) < 3 and not whole.is_busy)
            trying.cancel()  # the person gives it up, if it has not ended
            await asyncio.gather(trying, return_exceptions=True)
            assert whole.kept() == kept, fault
            assert whole.view().login == "octocat"
            assert isinstance(await outcome(whole.refresh()), LeasedToken)
        whole.world._faults[path].clear()
        await new_login()
        assert whole.view().login == "hubot"
        assert len(whole.kept()) == 1


async def test_exchange(tmp_path):
    async with whole_broker(tmp_path) as whole:
        length, body = await told(whole, EXCHANGE, whole.refresh)
        faults = cuts(length) + others() + wrong_types(body)
        found = await hold(whole, EXCHANGE, faults, whole.refresh, LeasedToken)
        assert found["clear"] >= length / 10 + len(REPLACED) + 20
        assert found["good"] >= 100


async def test_refused_exchange(tmp_path):
    envelope = error_envelope("no_copilot_access", "octocat")
    limited = {"message": "API rate limit exceeded for user ID 7.", "status": "403"}
    nobodys = {"x-github-request-id": None}
    faults = [
        replace(fault, status=status, body=body, headers=headers)
        for status, body, headers in (
            (403, envelope, {}),
            (403, limited, nobodys),
            (404, limited, nobodys),  # GitHub's own would be an answer
            (401, limited, nobodys),
            (502, limited, {}),
        )
        for fault in cuts(len(json.dumps(body))) + others() + wrong_types(body, ODD[:5])
        # In GitHub's own words a 401 is believed: the login is refused, and kept.
        if status != 401 or not fault.json_patch
    ]
    async with whole_broker(tmp_path) as whole:
        kept = whole.kept()
        for fault in faults:
            whole.world.queue_faults(EXCHANGE, [fault])
            found = await outcome(whole.refresh())
            assert isinstance(found, Failure), fault
            assert is_clear(found), (fault, found)
            assert whole.kept() == kept
            await whole.skip(found.retry_after or 0)
            assert isinstance(await outcome(whole.refresh()), LeasedToken), (fault, found)


@pytest.mark.parametrize(
    ("path", "before"),
    [("/copilot_internal/user", []), ("/graphql", [Fault(status=404, body={"message": "x"})])],
)
async def test_direct(tmp_path, path, before):
    async with simulated_world() as simulator:
        whole = Whole(tmp_path, simulator)
        await whole.keep(kind="github_pat_")
        async with whole.running():

            async def ask():
                if before:
                    whole.world._faults["/copilot_internal/user"].clear()
                    whole.world.queue_faults("/copilot_internal/user", before)
                return await whole.refresh()

            length, body = await told(whole, path, ask)
            found = await hold(
                whole, path, cuts(length) + others() + wrong_types(body, FEW), ask, LeasedToken
            )
            assert found["clear"] >= length / 10 + len(REPLACED) - 1
            assert not whole.asked(EXCHANGE)


async def test_renewal(tmp_path):
    async with whole_broker(tmp_path, github_token_expires_in=28_800) as whole:

        async def sign_in():
            assert isinstance((await whole.login("other"))[-1], LoginSucceeded)

        async def renewed():
            """Just before the GitHub token expires, and long after Copilot's has."""
            whole.clock.skip(28_800 - 300)
            return await outcome(whole.hurried(whole.broker.lease("other", timeout=PATIENCE)))

        whole.world.settings.change({"login": "hubot", "user_id": 7})
        await sign_in()
        length, body = await told(whole, POLL, renewed)
        await sign_in()
        codes = Counter()
        for fault in cuts(length) + others() + wrong_types(body, FEW):
            before = whole.kept()
            whole.world.queue_faults(POLL, [fault])
            found = await renewed()
            assert whole.world.take_fault(POLL) is None
            if isinstance(found, Failure):
                # GitHub has spent the pair, and what came instead is lost.
                assert is_clear(found), (fault, found)
                assert found.error_class is ErrorClass.LOGIN_REQUIRED, (fault, found)
                assert whole.kept() == before
                codes[found.code] += 1
            else:
                assert isinstance(found, LeasedToken)
                assert whole.kept().keys() == before.keys()
                assert whole.kept() != before  # saved before it was used
                codes["good"] += 1
            await sign_in()
        assert codes.keys() == {"bad_refresh_token", "good"}
        assert codes["bad_refresh_token"] >= length / 10 + len(REPLACED)


async def test_revocation(tmp_path):
    async with whole_broker(tmp_path) as whole:
        whole.world.settings.change({"login": "hubot", "user_id": 7})
        refusal = {"message": "Validation Failed", "documentation_url": "x", "status": "422"}
        token = whole.world.mint("gho_", client_id=VSCODE)
        await whole.login("other", token=token)
        kept = whole.kept()
        for status, headers in (
            (422, {}),
            (403, {}),
            (403, {"x-github-request-id": None}),
            (500, {}),
            (200, {}),
        ):
            for fault in cuts(len(json.dumps(refusal))) + others() + wrong_types(refusal, ODD[:4]):
                bent = replace(fault, status=status, body=refusal, headers=headers)
                whole.world.queue_faults(REVOKE, [bent])
                found = await outcome(whole.broker.logout("other", revoke=True))
                assert isinstance(found, Failure), bent
                assert is_clear(found), (bent, found)
                assert whole.kept() == kept
        assert isinstance(await whole.refresh("other"), LeasedToken)
        # That it is done is said by the status alone.
        for body in REPLACED:
            whole.world.queue_faults(REVOKE, [Fault(replace_body=body)])
            assert await whole.broker.logout("other", revoke=True) is True
            assert (await outcome(whole.login("other", token=token))).code == "bad_credentials"
            token = whole.world.mint("gho_", client_id=VSCODE)
            await whole.login("other", token=token)


# Copilot's answers.


async def test_models(tmp_path):
    async with whole_broker(tmp_path) as whole:

        async def ask():
            whole.clock.skip(MIN_AGE)
            return await whole.proxy.models(None, fresh=True)

        length, _ = await told(whole, "/models", ask)
        true = await ask()
        names = {each["id"] for each in true.models}
        for number, fault in enumerate(cuts(length) + others()):
            if is_forgetting := number % 20 == 0:
                whole.proxy.forget("default")
            whole.world.queue_faults("/models", [fault])
            found = await outcome(ask())
            if is_forgetting:
                assert is_clear(found), (fault, found)
                assert isinstance(await ask(), ModelList)
            else:
                assert is_clear(found.failure), (fault, found)
                assert found.models == true.models  # the old ones, and it is said
            failure = found if is_forgetting else found.failure
            assert failure.code == "bad_answer"
            assert failure.hint.endswith("copilot-cred models")  # no login is in question
        found = await ask()
        assert (found.models, found.failure) == (true.models, None)
        for odd in ODD:
            mutants = [
                _with(entry, field, odd) | {"id": f"{entry['id']}-{field}"}
                for entry in true.models
                for field in fields_in(entry)
                if field != "id"
            ]
            ids = [{**true.models[0], "id": odd}, odd]
            whole.world.queue_faults(
                "/models", [Fault(replace_body={"data": [*mutants, *ids, *true.models]})]
            )
            found = await ask()
            assert found.failure is None
            assert names <= {each["id"] for each in found.models}
            # What is known of models explains a refusal, and must not stumble over it.
            for model in ("sim-premium-policy", "sim-premium-policy.state", "sim-none"):
                async with contextlib.AsyncExitStack() as stack:
                    answer = await whole.proxy.open(
                        CompletionRequest(json.dumps(CHAT | {"model": model}).encode())
                    )
                    stack.callback(answer.close)
                    assert answer.refusal.code == "model_not_supported"
                    assert is_clear(answer.refusal), answer.refusal
        whole.world.queue_faults("/models", [Fault(json_patch={"data": odd}) for odd in ODD])
        for odd in ODD:
            found = await ask()
            is_list = isinstance(odd, list)
            assert (found.failure is None) if is_list else is_clear(found.failure), odd


def _with(entry, field, odd):
    """A copy with that one field, however deep, replaced."""
    name, _, rest = field.partition(".")
    return entry | {name: _with(entry[name], rest, odd) if rest else odd}


async def test_policy(tmp_path):
    path = "/models/sim-premium/policy"
    async with whole_broker(tmp_path) as whole:

        async def ask():
            return await whole.proxy.enable_model(None, "sim-premium")

        length, body = await told(whole, path, ask)
        faults = cuts(length) + others() + wrong_types(body)
        found = await hold(whole, path, faults, ask, tuple)
        assert found["clear"] == 0  # that it is done is said by the status alone
        refusal = {"error": {"message": "x", "code": "policy_denied"}}
        refusals = [
            replace(fault, status=status, body=refusal)
            for status in (400, 403, 404, 500)
            for fault in cuts(len(json.dumps(refusal))) + others() + wrong_types(refusal, ODD[:5])
        ]
        found = await hold(whole, path, refusals, ask, tuple)
        assert found["good"] == 0


async def test_whole_completions(tmp_path):
    async with whole_broker(tmp_path) as whole, whole.client() as client:
        length, body = await told(whole, CHAT_PATH, lambda: client.complete(CHAT))
        for fault in cuts(length) + others() + wrong_types(body) + wrong_choices():
            whole.world.queue_faults(CHAT_PATH, [fault])
            found = await client.complete(CHAT)
            assert (found.status, found.account) == (200, "default")
            record = whole.asked(CHAT_PATH)[-1]
            assert hashlib.sha256(found.body).hexdigest() == record.sent_sha256  # untouched
            assert is_text_or_clear(read_of(lambda found=found: found.text)), fault
        assert "simulated" in (await client.complete(CHAT)).text


async def test_streamed_completions(tmp_path):
    async with whole_broker(tmp_path) as whole, whole.client() as client:
        asked = CHAT | {"stream": True}

        async def read():
            async with client.stream(asked) as stream:
                return await stream.read()

        length, _ = await told(whole, CHAT_PATH, read)
        for fault in cuts(length) + others() + wrong_events():
            whole.world.queue_faults(CHAT_PATH, [fault, fault])
            found = await read()
            record = whole.asked(CHAT_PATH)[-1]
            assert hashlib.sha256(found).hexdigest() == record.sent_sha256
            async with client.stream(asked) as stream:
                assert is_text_or_clear(await text_of(stream)), fault
        assert (await read()).rstrip().endswith(b"[DONE]")


@pytest.mark.parametrize("status", [400, 401, 402, 403, 421, 422, 429, 466, 503])
async def test_refused_completions(tmp_path, status):
    refusal = {
        "error": {"message": "no", "code": "quota_exceeded", "type": "some_error", "param": None}
    }
    async with whole_broker(tmp_path) as whole, whole.client() as client:
        kept = whole.kept()
        for fault in cuts(len(json.dumps(refusal))) + others() + wrong_types(refusal, FEW):
            bent = replace(fault, status=status, body=refusal)
            whole.world._faults[CHAT_PATH].clear()
            whole.world.queue_faults(CHAT_PATH, [bent, bent])  # the second one for a replay
            found = await client.complete(CHAT)
            assert found.status == status
            assert is_clear_to_callers(found.refusal), (bent, found.refusal)
            assert is_told(whole, found.refusal)
            assert whole.kept() == kept
            # Whoever is held back waits; and refused tokens are not replaced in a row.
            pacing = whole.proxy.pacing("default")
            await whole.skip(max(70, pacing.cooldown_in or 0, *pacing.models.values()) + 1)
        whole.world._faults[CHAT_PATH].clear()
        assert (await client.complete(CHAT)).ok


async def test_refused_streams(tmp_path):
    refusal = {"error": {"message": "no", "code": "model_not_supported"}}
    async with whole_broker(tmp_path) as whole, whole.client() as client:
        for fault in cuts(len(json.dumps(refusal))) + others() + wrong_types(refusal):
            whole.world.queue_faults(CHAT_PATH, [replace(fault, status=400, body=refusal)])
            async with client.stream(CHAT | {"stream": True}) as stream:
                assert stream.status == 400
                found = await text_of(stream)
            assert isinstance(found, UpstreamRefused), fault
            assert is_clear_to_callers(found), (fault, found)
            assert is_told(whole, found)
        async with client.stream(CHAT | {"stream": True}) as stream:
            assert "simulated" in await text_of(stream)


def read_of(read):
    try:
        return read()
    except CopilotBrokerError as error:
        return error


async def text_of(stream):
    try:
        return "".join([piece async for piece in stream.text()])
    except CopilotBrokerError as error:
        return error


def is_text_or_clear(found):
    return isinstance(found, str) or is_clear_to_callers(found)


def is_clear_to_callers(error):
    """Also of the two errors that the client itself finds: they are no defect of the broker's."""
    if error.code in ("not_json", "bad_event"):
        return error.hint.endswith("copilot-cred api") and not a_secret_in(error)
    return is_clear(error) and not a_secret_in(error)


def is_told(whole, error):
    """Whether the client and `status` show one and the same thing: what the broker made of it."""
    noted, _ = whole.proxy.last_refusal("default")
    return (error.code, error.message, error.error_class) == (
        noted.code,
        noted.message,
        noted.error_class,
    )


def wrong_choices():
    """Answers whose one choice has another shape."""
    return [
        Fault(json_patch={"choices": [choice]})
        for odd in ODD
        for choice in (
            odd,
            {"index": odd, "message": {"content": "x"}},
            {"message": odd},
            {"message": {"content": odd}},
            {"message": {"content": [{"text": odd}]}},
        )
    ]


def wrong_events():
    """Streams of events, each with a field of another type."""
    events = [
        event
        for odd in ODD
        for event in (
            odd,
            {"choices": odd},
            {"choices": [odd]},
            {"choices": [{"delta": odd}]},
            {"choices": [{"delta": {"content": odd}}]},
            {"error": odd},
            {"error": {"code": odd, "message": odd}},
        )
    ]
    error = json.dumps({"error": {"code": "rate_limited", "message": "no"}})
    said = [
        *map(json.dumps, events),
        *(error[:length] for length in range(0, len(error), 10)),
        '{"error": ' + "[" * 50_000,
        '{"error": ' + "9" * 5000 + "}",
        '{"error": \x00\ufeff}',
    ]
    return [Fault(replace_body=f"data: {each}\n\ndata: [DONE]\n\n") for each in said]
