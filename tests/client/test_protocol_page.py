"""PROTOCOL.md says what the code does: every byte on the page is decoded and encoded again."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import msgpack
import pytest

from brokerd.broker import locking
from brokerd.core import completions
from brokerd.core.access import OPERATIONS, Rule, Scope, direct_mode, peer_gone
from brokerd.core.access.key_refusals import (
    key_budget,
    key_expired,
    key_missing,
    key_revoked,
    key_unknown,
)
from brokerd.core.access.refusals import (
    account_not_granted,
    budget,
    model_not_granted,
    request_rate,
    scope_too_low,
)
from brokerd.core.checks import Check, Verdict
from brokerd.core.keys import KEYS_MAX
from brokerd.core.ledger.asked import GROUPS, Asked, Report
from brokerd.core.ledger.counts import Counts
from brokerd.core.passing import MINTED_LIFE_MAX, MINTED_MAX, RUNS_MAX, Process
from brokerd.core.peer import Peer
from brokerd.core.quota import SOURCES
from brokerd.gate import Gate
from brokerd.host.peers.peercred import peer_of
from brokerd.rpc.account_maps import account_map, full_account_map
from brokerd.rpc.completion_stream import CHUNK_MAX
from brokerd.rpc.failures import error_of
from brokerd.rpc.methods import FEATURES
from brokerd.rpc.methods.locks import UNLOCK_PENDING
from brokerd.rpc.methods.quota import quota_map
from brokerd.rpc.shapes import lease_map, models_map, progress_map, token_map
from brokerd.rpc.whole_answer import BODY_MAX
from brokerd.views import ModelList, UserCodeIssued
from copilot_broker.wire import limits
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.connection import (
    Connection,
    NotificationReceived,
    RequestReceived,
    Role,
)
from copilot_broker.wire.messages import (
    ErrorInfo,
    Notification,
    Request,
    Response,
    decode,
    encode,
)
from copilot_broker.wire.mini import encode_get
from copilot_broker.wire.prescan import Prescan
from fakes.broker import a_lease, a_quota, a_view
from fakes.key_store import FakeKeyStore
from fakes.proxy import FakeProxy
from fakes.rpc_door import ABOUT_APP, Door


CLIENT = Path(__file__).parents[2] / "client"
PAGE = (CLIENT / "PROTOCOL.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```\n\n```hex\n(.*?)```", PAGE, re.DOTALL)
METHODS = set(OPERATIONS) - {"http.request"}
"""What the gate knows of is what the page describes."""


def bytes_of(block: str) -> bytes:
    return bytes.fromhex("".join(line.partition("#")[0] for line in block.splitlines()))


def value_of(text: str):
    def revive(found: dict):
        return found["bytes"].encode() if set(found) == {"bytes"} else found

    return json.loads(text, object_hook=revive)


MESSAGES = [(value_of(text), bytes_of(block)) for text, block in BLOCKS]


def test_no_block_of_hex_is_without_its_meaning():
    assert PAGE.count("```hex") == len(BLOCKS) > 2 * len(METHODS)


@pytest.mark.parametrize(("value", "data"), MESSAGES)
def test_hex_means_what_stands_above_it(value, data):
    assert msgpack.unpackb(data) == value
    assert Prescan(limits.Limits(), lambda _: False).find_end(bytearray(data)) == len(data)
    assert encode(decode(data)) == data


@pytest.mark.parametrize(("value", "data"), MESSAGES)
def test_the_other_side_takes_it(value, data):
    message = decode(data)
    if isinstance(message, Request):
        server = Connection(Role.SERVER)
        server.receive_data(data, 0.0)
        assert server.next_event() == RequestReceived(message.msgid, message.method, value[3][0])
        return
    client = Connection(Role.CLIENT)
    for _ in range(13):
        client.send_request("m", {})
    if isinstance(message, Response):
        client.receive_data(data, 0.0)
        event = client.next_event()
        assert (event.msgid, event.result) == (message.msgid, message.result)
        if isinstance(message.error, dict):
            assert event.error.to_map() == message.error
    elif message.method == "nvim_exec_lua":
        client.receive_data(encode(Notification("m", [{}])), 0.0)
        assert isinstance(client.next_event(), NotificationReceived)


def test_error_as_a_string_is_the_map_before_it():
    errors = [value[2] for value, _ in MESSAGES if value[0] == 1 and value[2] is not None]
    assert errors[1] == str(ErrorInfo.from_wire(errors[0]))


def test_every_method_is_described_and_asked_for_on_the_page():
    assert set(re.findall(r"^### `([a-z._]+)`", PAGE, re.MULTILINE)) == METHODS
    assert {value[2] for value, _ in MESSAGES if value[0] == 0} == METHODS
    notified = {value[1] for value, _ in MESSAGES if value[0] == 2}
    assert notified == {
        "stream.data",
        "stream.end",
        "stream.credit",
        "stream.cancel",
        "request.cancel",
        "nvim_exec_lua",
    }


def test_first_request_is_the_one_that_get_sends():
    assert MESSAGES[0][1] == encode_get(60.0)


def test_wrapped_notification_is_what_the_hello_leads_to():
    hello = next(
        value[3][0] for value, _ in MESSAGES if value[:1] == [0] and value[2] == "broker.hello"
    )
    server = Connection(Role.SERVER)
    server.receive_data(encode(Request(0, "token.watch", [{}])), 0.0)
    server.next_event()
    server.apply_hello(hello)
    stream = server.open_stream(0)
    server.data_to_send()
    server.end_stream(stream)
    assert server.data_to_send() == next(
        data for value, data in MESSAGES if value[1] == "nvim_exec_lua"
    )


def test_numbers_on_the_page_are_those_of_the_code():
    for number, words in (
        (limits.MAX_FRAME // 1024, "{} KiB; 32 MiB"),
        (limits.MAX_LARGE_FRAME // 1024 // 1024, "256 KiB; {} MiB for `completion.create`"),
        (limits.MAX_DEPTH, "| nesting | {} |"),
        (limits.MAX_ITEMS, "| values in one request | {} |"),
        (int(limits.FRAME_TIMEOUT), "| {} s | idle is free"),
        (limits.REQUESTS_IN_FLIGHT, "open streams of a connection | {} |"),
        (limits.TOTAL_BUFFERS // 1024 // 1024, "without an answer | {} MiB |"),
        (limits.CONNECTIONS, "| connections | {}, fewer"),
        (limits.STREAM_WINDOW, "credit of {} bytes"),
        (limits.MAX_CREDIT, "saturates at {},"),
        (BODY_MAX / 1024 / 1024, "awaited as a whole | {} MiB |"),
        (CHUNK_MAX, "at most {} bytes"),
    ):
        assert words.format(number) in PAGE
    rows = {int(number) for number in re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)}
    assert rows == set(ErrorClass)


def test_what_a_completion_may_have_is_what_the_broker_lets_pass():
    section = PAGE[PAGE.index("### `completion.create`") : PAGE.index("### `models.list`")]
    headers = re.search(
        r"Your own may be (.*?), in any case, each of 1 to (\d+)", section, re.DOTALL
    )
    assert set(re.findall(r"`([a-z-]+)`", headers[1])) == completions.ALLOWED_HEADERS
    assert int(headers[2]) == completions.MAX_HEADER_VALUE
    assert f"(`copilot-session-token` up to {completions.MAX_SESSION_TOKEN})" in section
    paths = next(row for row in section.splitlines() if row.startswith("| `path` |"))
    allowed = [*completions.ALLOWED_PATHS, completions.ENGINE_PATH]
    assert re.findall(r"`(/[a-zA-Z0-9/]+)`", paths)[:-1] == allowed
    assert f"`{completions.DEFAULT_PATH}` (the default)" in paths


def test_example_for_neovim_is_the_file_that_is_tested():
    example = (CLIENT / "examples" / "stream.lua").read_text(encoding="utf-8")
    assert re.findall(r"```lua\n(.*?)```", PAGE, re.DOTALL) == [example]
    assert len(example.splitlines()) <= 20


def test_features_on_the_page_are_the_brokers():
    [hello] = [value for value, _ in MESSAGES if value[0] == 1 and "features" in (value[3] or ())]
    assert hello[3]["features"] == list(FEATURES)


def result_of(method: str) -> dict:
    """What the page shows as the answer to that method, right below the (last) request."""
    values = [value for value, _ in MESSAGES]
    at = max(i for i, value in enumerate(values) if value[0] == 0 and value[2] == method)
    return next(value[3] for value in values[at:] if value[:3] == [1, values[at][1], None])


def rows_of(method: str) -> set[str]:
    """The keys that tables in the method's section describe."""
    section = PAGE.partition(f"### `{method}`")[2].partition("\n### ")[0]
    cells = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", section, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([a-z_]+)`", cell)}


def test_answers_and_tables_on_the_page_have_the_keys_of_the_broker():
    lease = token_map(a_lease(), {})
    assert set(result_of("token.get")) == set(lease) == rows_of("token.get")
    assert set(result_of("broker.refresh")) == set(lease_map(a_lease()))
    full = full_account_map(a_view(), FakeProxy())
    pacing = {*full["pacing"], "reason"}
    assert rows_of("account.list") == set(full) | pacing
    accounts = result_of("broker.status")["accounts"] + result_of("account.list")["accounts"]
    for account in accounts:
        assert set(account) == set(full)
        assert set(account["pacing"]) | {"reason"} == pacing
    done = next(value for value, _ in MESSAGES if "'done'" in str(value))
    assert set(done[2][0]["chunk"]["account"]) == set(account_map(a_view()))
    assert set(result_of("models.list")) == set(models_map(ModelList("a", [], 0.0)))


def test_login_on_the_page_is_what_the_broker_shows():
    step = UserCodeIssued("WDJB-MJHT", "https://github.com/login/device", 899.0, 5.0)
    shown = next(value for value, _ in MESSAGES if "'user_code'" in str(value))[2][0]["chunk"]
    assert set(shown) == set(progress_map(step, ABOUT_APP))


def test_scopes_on_the_page_are_those_of_the_gate():
    section = PAGE.partition("### Who may ask what")[2].partition("\n### ")[0]
    told = {}
    for scope in list(Scope)[:-1]:
        (row,) = re.findall(rf"^\| `{scope.label}` \| (.*) \|$", section, re.MULTILINE)
        told |= dict.fromkeys(re.findall(r"`([a-z]+\.[a-z_]+)`", row), scope)
    assert told == {
        name: scope
        for name, scope in OPERATIONS.items()
        if name in METHODS and scope not in (None, Scope.ADMIN)
    }
    refused = {
        scope_too_low("token.get", Scope.TOKEN, Scope.STATUS),
        account_not_granted("work", []),
        model_not_granted("m", []),
        request_rate(1, "", 1.0),
        budget(1, "", 1.0),
        peer_gone(),
    }
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]) \|", section, re.MULTILINE)
    assert {(failure.code, str(int(failure.error_class))) for failure in refused} == set(rows)


async def test_grants_and_checks_on_the_page_are_what_the_broker_shows(tmp_path):
    listed, explained = result_of("grant.list"), result_of("grant.explain")
    (rule,) = listed["rules"]
    what = {**rule["what"], "models": tuple(rule["what"]["models"])}
    peer = Peer(**explained["peer"])
    (shown,) = result_of("broker.doctor")["checks"][1:]
    check = Check(**{**shown, "verdict": Verdict(shown["verdict"])})

    async def checks():
        return [check]

    async with Door(
        tmp_path / "s",
        gate=Gate([Rule(where=rule["where"], **rule["who"], **what)]),
        peers=lambda sock: replace(peer_of(sock), unit="", label="", sandbox=""),
        peer_by_pid=lambda _pid: replace(peer, uid=os.getuid()),
        other_listeners=lambda: ["http"],
        checks=checks,
    ) as door:
        client = await door.knock()
        # Nothing is known of us, so the rule could be about us and leaves us less than admin.
        assert (await client.call("broker.hello")).result["scope"] == "complete"
        assert (await client.call("broker.doctor")).result == {"checks": [shown]}
    async with Door(
        tmp_path / "t",
        gate=Gate([Rule(where=rule["where"], **rule["who"], **what)]),
        peers=lambda sock: replace(peer_of(sock), unit="mine.service"),
        peer_by_pid=lambda _pid: replace(peer, uid=os.getuid()),
        other_listeners=lambda: ["http"],
    ) as door:
        client = await door.knock()
        assert (await client.call("grant.list")).result == {**listed, "connections": 1}
        answer = (await client.call("grant.explain", pid=4711)).result
        assert answer == {**explained, "peer": {**explained["peer"], "uid": os.getuid()}}


def test_quota_on_the_page_has_the_keys_of_the_broker():
    shown, quota = result_of("quota.get"), quota_map(a_quota())
    assert set(shown) == set(quota)
    assert [each["source"] for each in shown["tried"]] == list(SOURCES)
    (kind,) = shown["kinds"].values()
    assert set(kind) == set(next(iter(quota["kinds"].values()))) == rows_of("quota.get")


async def test_usage_on_the_page_is_what_the_broker_shows(tmp_path):
    shown = result_of("usage.report")
    asked = next(v[3][0] for v, _ in MESSAGES if v[0] == 0 and v[2] == "usage.report")
    (row,) = shown["rows"]
    line = (row["kind"], row["client"], row["label"])
    counts = Counts(3, 1, 2, 0, 1, 4711, 815, 4096, 250, 0)
    questions = []

    async def usage(question):
        questions.append(question)
        return Report(question.columns, [(line, counts)])

    async with Door(tmp_path / "s", usage=usage) as door:
        client = await door.knock()
        assert (await client.call("usage.report", **asked)).result == shown
    assert questions == [Asked(20_454, 20_454, ("client",))]
    columns = {column for group in GROUPS.values() for column in group}
    assert rows_of("usage.report") >= set(row) | columns


async def test_keys_on_the_page_are_what_the_broker_shows(tmp_path):
    created, wall = result_of("key.create"), 1_790_000_000.0
    gate = Gate(keys=FakeKeyStore(), wall=lambda: wall, random=lambda count: bytes(range(count)))
    asked = next(v[3][0] for v, _ in MESSAGES if v[0] == 0 and v[2] == "key.create")
    async with Door(tmp_path / "s", gate=gate) as door:
        client = await door.knock()
        assert (await client.call("key.create", **asked)).result == created
        caller = gate.admit(Peer(pid=1, uid=os.getuid(), gid=1), "http-tcp")
        gate.with_key(caller, created["key"]).spend(4711)
        assert (await client.call("key.list")).result == result_of("key.list")
        assert (await client.call("key.revoke", name="ci")).result == result_of("key.revoke")
        caller.close()
    assert rows_of("key.create") >= set(asked)
    section = PAGE.partition("### `key.create`")[2].partition("\n### ")[0]
    told = set(re.findall(r"^\| `([a-z_]+)` \| ([0-9]) \|", section, re.MULTILINE))
    refusals = {key_missing(), key_unknown(), key_expired("a"), key_revoked("a")}
    refusals |= {key_budget("a", 1, 1.0)}
    assert {(each.code, str(int(each.error_class))) for each in refusals} <= told
    assert f"there are {KEYS_MAX} already" in section


async def test_passing_keys_on_the_page_are_what_the_broker_shows(tmp_path):
    def random(count):
        return bytes(range(count))

    gate = Gate(keys=FakeKeyStore(), wall=lambda: 1_790_000_000.0, random=random)

    async def lease_run(by, wanted):
        process = Process(4711, 1, "0" * 36)
        at = "127.0.0.1:40123"
        return gate.passing.lease(by, wanted, at=at, process=process, on_revoked=lambda: None)

    async with Door(tmp_path / "s", gate=gate, lease_run=lease_run) as door:
        client = await door.knock()
        for method in ("key.lease", "key.mint"):
            asked = next(v[3][0] for v, _ in MESSAGES if v[0] == 0 and v[2] == method)
            assert (await client.call(method, **asked)).result == result_of(method)
            assert rows_of(method) >= set(asked)
            (key,) = (await client.call("key.list")).result["keys"]
            assert {**key, "key": ANY} == {**result_of(method), "key": ANY}
            await client.call("key.revoke", name=key["name"])
    for method, most in (("key.lease", RUNS_MAX), ("key.mint", MINTED_MAX)):
        section = PAGE.partition(f"### `{method}`")[2].partition("\n### ")[0]
        assert f" {most} " in section or f" {most}." in section
    assert f"{MINTED_LIFE_MAX} at most" in PAGE


def test_direct_mode_on_the_page_is_the_brokers_refusal():
    refused = next(value[2] for value, _ in MESSAGES if "'direct_mode'" in str(value))
    assert refused == error_of(direct_mode()).to_map()


async def test_locks_on_the_page_are_the_brokers(tmp_path):
    async with Door(tmp_path / "s") as door:
        client = await door.knock()
        for method in ("broker.lock", "broker.unlock"):
            assert (await client.call(method)).result == result_of(method)
        assert (await client.call("broker.status")).result["locked"] is False
    section = PAGE.partition("### `broker.unlock`")[2].partition("\n### ")[0]
    failures = {locking.NEEDED, locking.WRONG, locking.BUSY, UNLOCK_PENDING}
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]) \|", section, re.MULTILINE)
    assert {(each.code, str(int(each.error_class))) for each in failures} == set(rows)
    shown = [value[2] for value, _ in MESSAGES if value[0] == 1 and value[2]]
    for failure in (locking.BROKER_LOCKED, locking.WRONG):
        assert error_of(failure).to_map() in shown
    assert f"(1 to {locking.PASSPHRASE_MAX} bytes)" in PAGE


def test_end_with_a_refusal_is_what_the_broker_sends():
    value, expected = next(
        pair for pair in MESSAGES if pair[0][1] == "stream.end" and "refusal" in pair[0][2][0]
    )
    server = Connection(Role.SERVER)
    for msgid in (0, 1):
        server.receive_data(encode(Request(msgid, "token.watch", [{}])), 0.0)
        server.open_stream(msgid)
    server.data_to_send()
    refusal = ErrorInfo.from_wire(value[2][0]["refusal"])
    server.end_stream(value[2][0]["stream"], None, refusal)
    assert server.data_to_send() == expected


def test_whole_refusal_is_what_the_broker_sends():
    value, expected = next(
        pair for pair in MESSAGES if pair[0][0] == 1 and "refusal" in (pair[0][3] or ())
    )
    result = dict(value[3])
    refusal = ErrorInfo.from_wire(result.pop("refusal"))
    server = Connection(Role.SERVER)
    server.receive_data(encode(Request(value[1], "completion.create", [{}])), 0.0)
    server.send_result(value[1], result, refusal)
    assert server.data_to_send() == expected


def test_beginning_and_chunk_of_a_stream_are_what_the_broker_sends():
    request = next(value for value, _ in MESSAGES if value[:2] == [0, 10])
    response, expected = next(pair for pair in MESSAGES if pair[0][:2] == [1, 10])
    server = Connection(Role.SERVER)
    server.receive_data(encode(Request(9, "token.watch", [{}])), 0.0)
    server.open_stream(9)
    server.receive_data(encode(Request(10, *request[2:])), 0.0)
    server.data_to_send()
    result = dict(response[3])
    stream = result.pop("stream")
    assert server.open_stream(10, **result) == stream
    assert server.data_to_send() == expected
    chunk, expected = next(
        (value, data)
        for value, data in MESSAGES
        if value[1] == "stream.data" and b"choices" in str(value).encode()
    )
    server.send_stream_data(stream, chunk[2][0]["chunk"])
    assert server.data_to_send() == expected
