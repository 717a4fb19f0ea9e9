"""The record of a login: what is written is read back; garbage is refused without being quoted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.login_record import NewerRecordError, decode, encode
from brokerd.core.tokens import GitHubToken, Login, User


TEXT = st.text(st.characters(exclude_categories=("Cs",)))
LOGINS = st.builds(
    Login,
    host=TEXT,
    user=st.builds(User, id=st.integers(0, 2**63), login=TEXT),
    token=st.builds(
        GitHubToken,
        value=TEXT.filter(bool),
        refresh_token=st.none() | TEXT,
        expires_in=st.none() | st.floats(0, 1e9),
        expires_at=st.none() | st.floats(0, 1e11),
        scope=TEXT,
    ),
    client_id=TEXT,
    source=TEXT,
)
GOOD = json.loads(encode(Login("h", User(1, "u"), GitHubToken("canary"), "c")))


@given(LOGINS)
def test_what_is_encoded_is_decoded(login):
    assert decode(encode(login)) == login


@given(st.binary())
def test_any_bytes_give_a_login_or_a_value_error(data):
    with pytest.raises(ValueError):
        decode(data)


@pytest.mark.parametrize(
    "name", ["version", "kind", "host", "user_id", "user_login", "client_id", "token"]
)
@pytest.mark.parametrize("value", [..., None, True, [], {}])
def test_a_field_that_is_missing_or_wrong_is_refused(name, value):
    record = {key: item for key, item in GOOD.items() if key != name}
    if value is not ...:
        record[name] = value
    with pytest.raises(ValueError) as caught:
        decode(json.dumps(record).encode())
    assert "canary" not in str(caught.value)
    assert not isinstance(caught.value, NewerRecordError)


@pytest.mark.parametrize(
    "change",
    [
        {"token": ""},
        {"kind": "pat"},
        {"version": 0},
        {"expires_in": "1"},
        {"expires_in": True},
        {"expires_at": "2027-01-01"},
        {"expires_at": False},
        {"refresh_token": 1},
        {"scope": 1},
        {"source": 1},
    ],
)
def test_a_value_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError):
        decode(json.dumps({**GOOD, **change}).encode())


def test_a_newer_version_is_told_apart():
    with pytest.raises(NewerRecordError, match="version 2"):
        decode(b'{"version": 2}')


def test_unknown_keys_are_ignored():
    assert decode(json.dumps({**GOOD, "added": [1]}).encode()).token.value == "canary"


def test_a_record_of_an_earlier_version_has_no_expiry_date():
    record = {key: value for key, value in GOOD.items() if key != "expires_at"}
    token = decode(json.dumps({**record, "expires_in": 28800}).encode()).token
    assert (token.expires_in, token.expires_at) == (28800, None)


def test_what_was_learned_of_a_login_is_not_in_its_record():
    learned = Login("h", User(1, "u"), GitHubToken("canary"), "c", is_direct=True)
    assert encode(learned) == encode(replace(learned, is_direct=False))


def test_no_error_carries_the_text_that_was_read():
    with pytest.raises(ValueError) as caught:
        decode(b'{"token": "canary", ')
    error: BaseException | None = caught.value
    while error is not None:
        assert "canary" not in repr(vars(error)) + str(error)
        error = error.__context__
