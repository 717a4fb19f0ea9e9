"""What a Copilot answer makes us do: every row, every status."""

import json

import pytest

from brokerd.core.answers import REFUSED_FROM, Action, action_for, wants_own_login


AUTHORIZE = b'{"authorize_url": "https://example.com/authorize"}'

FIRST = {
    401: Action.REPLAY,
    402: Action.REREAD_QUOTA,
    403: Action.DROP_TOKEN,
    421: Action.REPLAY_ELSEWHERE,
}
REPLAYED = {402: Action.REREAD_QUOTA, 403: Action.DROP_TOKEN}


@pytest.mark.parametrize("body", [b"", b"unauthorized: token expired\n", b"{}", AUTHORIZE])
def test_the_table_for_every_status_there_can_be(body):
    for status in range(100, 1000):
        is_kept = status == 401 and body == AUTHORIZE
        expected = Action.PASS_ON if is_kept else FIRST.get(status, Action.PASS_ON)
        assert action_for(status, body, is_replay=False) is expected, status
        assert action_for(status, body, is_replay=True) is REPLAYED.get(status, Action.PASS_ON)
        if status == 401 and not is_kept:
            expected = Action.DROP_TOKEN
        assert action_for(status, body, is_replay=False, is_direct=True) is expected, status
        assert expected is Action.PASS_ON or status >= REFUSED_FROM, "the hot path would miss it"


@pytest.mark.parametrize(
    "body",
    [
        AUTHORIZE,
        b'{"error": {"message": "x", "authorize_url": "https://example.com"}}',
        b'  {"authorize_url":"x","slug":"agent"}\n',
    ],
)
def test_an_agent_wants_a_login_of_its_own(body):
    assert wants_own_login(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"unauthorized: token expired",
        b'{"error": {"message": "unauthorized: token expired"}}',
        b"see authorize_url",
        b'{"message": "no authorize_url here"}',
        b'{"authorize_url": ""}',
        b'{"authorize_url": null}',
        b'{"authorize_url": 1}',
        b'{"error": "authorize_url"}',
        b'{"a": {"authorize_url": "https://example.com"}}',
        b'["authorize_url"]',
        b'"authorize_url"',
        b'{"authorize_url": "https://example',
        b'\xff{"authorize_url": "x"}',
        b'{"authorize_url": ' + b"[" * 100_000,
    ],
)
def test_other_401s_are_about_our_token(body):
    assert not wants_own_login(body)


def test_only_a_401_can_ask_for_a_login():
    body = json.dumps({"authorize_url": "https://example.com"}).encode()
    assert action_for(403, body, is_replay=False) is Action.DROP_TOKEN
    assert action_for(421, body, is_replay=False) is Action.REPLAY_ELSEWHERE
