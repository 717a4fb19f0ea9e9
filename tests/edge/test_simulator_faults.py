"""The simulated Copilot refuses and breaks off as the real one is known to."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs

import httpx
import pytest

from brokerd.simulator import refusals
from fakes.simulated_chat import (
    CHAT,
    SECONDS,
    ask,
    connected,
    control,
    copilot,
    dechunked,
    raw,
    sent,
    until,
)


VERSION_GONE = (
    "bad request: the specified API version is no longer supported. "
    "You may need to update your client to a newer version."
)
EXPECTED = {
    "400_model_not_supported": (400, "The requested model is not supported."),
    "400_model_not_available_for_integrator": (400, "Available models: ["),
    "400_unsupported_api_for_model": (400, "unsupported_api_for_model"),
    "400_model_max_prompt_tokens_exceeded": (400, "prompt token count of 131073 exceeds the limit of"),
    "400_previous_response_not_found": (400, "previous_response_not_found"),
    "400_store_not_supported": (400, "store_not_supported"),
    "400_invalid_request_body": (400, "prompt token count of 131073 exceeds the limit of"),
    "400_inner_object": (400, '{"message"'),
    "400_off_topic": (400, "off_topic"),
    "401_token_expired": (401, "unauthorized: token expired"),
    "401_ide_token_expired": (401, "IDE token expired: unauthorized: token expired"),
    "401_authorize_url": (401, '{"authorize_url"'),
    "401_pat": (401, "unauthorized: Personal Access Token does not have Copilot Requests permission"),
    "402_date": (402, "quota_exceeded"),
    "402_seconds": (402, "quota_exceeded"),
    "402_quota_exceeded": (402, "quota_exceeded"),
    "402_free_quota_exceeded": (402, "free_quota_exceeded"),
    "402_overage_limit_reached": (402, "overage_limit_reached"),
    "402_billing_not_configured": (402, "billing_not_configured"),
    "403_feature": (403, "unauthorized: not authorized to use this Copilot feature\n"),
    "403_forbidden": (403, "forbidden: access denied"),
    "403_denied": (403, "access denied"),
    "404_json": (404, "Not Found"),
    "404_text": (404, "404 page not found"),
    "413_json": (413, "request_too_large"),
    "413_text": (413, "Request Entity Too Large"),
    "421": (421, "Misdirected Request"),
    "422": (422, "filtered"),
    "424": (424, "agent"),
    "429_rate_limited": (429, '"rate_limited"'),
    "429_user_model_rate_limited": (429, '"user_model_rate_limited"'),
    "429_user_global_rate_limited": (429, '"user_global_rate_limited"'),
    "429_user_weekly_rate_limited": (429, '"user_weekly_rate_limited"'),
    "429_integration_rate_limited": (429, '"integration_rate_limited"'),
    "429_model_overloaded": (429, '"model_overloaded"'),
    "429_agent_mode_limit_exceeded": (429, '"agent_mode_limit_exceeded"'),
    "429_quota_exceeded": (429, '"quota_exceeded"'),
    "429_rate_limited_suffix": (429, '"rate_limited:premium"'),
    "429_extension_blocked": (429, '"rate_limit_error"'),
    "429_long": (429, "weekly"),
    "429_no_retry_after": (429, '"rate_limited"'),
    "429_date": (429, '"rate_limited"'),
    "429_text": (429, "too many requests"),
    "466": (466, VERSION_GONE),
    "499": (499, ""),
    "500": (500, "error"),
    "502_html": (502, "<html>"),
    "503": (503, "provider limit"),
    "proxy_403": (403, "<html>"),
}  # fmt: skip
HTML = {"502_html", "proxy_403"}
REAL_JSON = {"401_authorize_url", "404_json", "429_extension_blocked"}
BREAKING = {
    "reset_before_head", "close_before_head", "reset_after_head", "close_after_head",
    "reset_in_body", "close_in_body", "reset_in_chunk", "close_in_chunk", "close_between_chunks",
    "dribble", "endless_head",
}  # fmt: skip


def test_each_named_fault_has_a_test():
    assert set(refusals.NAMES) == EXPECTED.keys() | BREAKING


async def test_named_refusals_have_the_known_statuses_texts_and_types():
    async with copilot() as (_, http):
        assert await control(http, "faults", named=list(EXPECTED)) == {"queued": len(EXPECTED)}
        for name, (status, text) in EXPECTED.items():
            answer = await ask(http, headers={"X-Request-Id": name})
            assert answer.status_code == status, name
            assert text in answer.text, name
            kind = answer.headers["content-type"].partition(";")[0]
            expected = "text/html" if name in HTML else "text/plain"
            assert kind == ("application/json" if name in REAL_JSON else expected), name
            assert ("x-github-request-id" in answer.headers) == (name != "proxy_403")
            assert answer.headers["x-request-id"] == name
            if status == 402:
                spent = parse_qs(answer.headers["x-quota-snapshot-premium_models"])
                assert spent["rem"] == ["0.0"]
        assert (await ask(http)).status_code == 200


async def test_retry_after_is_a_date_or_seconds_up_to_days():
    async with copilot(clock_offset=500_000) as (_, http):
        names = ["402_date", "402_seconds", "429_long", "429_user_weekly_rate_limited",
                 "429_rate_limited"]  # fmt: skip
        await control(http, "faults", path=CHAT, named=names)
        date, seconds, long, weekly, short = [(await ask(http)).headers for _ in names]
        then = parsedate_to_datetime(date["retry-after"]) - parsedate_to_datetime(date["date"])
        assert 3500 < then.total_seconds() <= 3600
        assert seconds["retry-after"] == "3600"
        assert long["retry-after"] == weekly["retry-after"] == "465000"
        assert long["x-ratelimit-quota-exceeded-retry-after"] == "465000"
        assert short["retry-after"] == short["x-ratelimit-user-retry-after"] == "60"
        assert "7-day" in weekly["x-ratelimit-exceeded"]
        assert "5-hour" in short["x-ratelimit-exceeded"]


@pytest.mark.parametrize(
    ("name", "reset", "head", "chunks"),
    [
        ("reset_before_head", True, False, 0),
        ("close_before_head", False, False, 0),
        ("reset_after_head", True, True, 0),
        ("close_after_head", False, True, 0),
        ("reset_in_body", True, True, 2),
        ("close_in_body", False, True, 2),
        ("reset_in_chunk", True, True, 1),
        ("close_in_chunk", False, True, 1),
        ("close_between_chunks", False, True, 2),
    ],
)
async def test_connection_breaks(name, reset, head, chunks):
    async with copilot() as (running, http):
        await control(http, "faults", named=[name])
        got, error = await raw(running, connection="keep-alive")
        assert isinstance(error, ConnectionResetError) == reset
        top, _, body = got.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 200 OK") == head
        pieces, ended = dechunked(body)
        assert (len(pieces), ended) == (chunks, False)
        request = running.world.requests[-1]
        assert (request.finished, request.sent) == (False, sum(map(len, pieces)))
        if name == "close_in_chunk":
            assert pieces == [b'data: {"id']
        if name == "close_between_chunks":
            assert all(each.endswith(b"\n\n") for each in pieces)
        elif chunks:
            assert not pieces[-1].endswith(b"\n\n")


async def test_length_framed_answer_is_cut_too():
    async with copilot() as (running, http):
        await control(http, "faults", path=CHAT, responses=[{"cut_after": 5}])
        got, _ = await raw(running, stream=False)
        assert got.partition(b"\r\n\r\n")[2] == b'{"id"'
        await control(http, "faults", path="/models", responses=[{"cut_after": 5}])
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/models")


async def test_dribble_and_endless_head():
    async with copilot() as (running, http):
        await control(http, "faults", named=["dribble", "endless_head"])
        assert (await ask(http)).json()["choices"] == []
        reader, writer = await sent(running)
        async with asyncio.timeout(SECONDS):
            got = await reader.readuntil(b"x-endless-4")
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\n\r\n" not in got
        writer.close()
        await writer.wait_closed()
        await until(lambda: running.world.requests[-1].cancelled)


async def test_faults_touch_the_true_answer_and_come_early():
    async with copilot() as (running, http):
        responses = [
            {"headers": {"x-extra": "1", "x-github-request-id": None}},
            {"status": 413, "early": True, "framing": "chunked", "body": "big"},
        ]
        await control(http, "faults", path=CHAT, responses=responses)
        answer = await ask(http)
        assert (answer.status_code, answer.headers["x-extra"]) == (200, "1")
        assert "x-github-request-id" not in answer.headers
        reader, writer = await connected(running)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf".encode())
        async with asyncio.timeout(SECONDS):
            got = await reader.readuntil(b"3\r\nbig\r\n0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 413 ")
        writer.close()
        await writer.wait_closed()
