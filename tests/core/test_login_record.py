"""The record of a login: what is written is read back; garbage is refused without being quoted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.login_record import (
    LOGIN,
    PAT,
    NewerRecordError,
    decode,
    decode_pat,
    encode,
    encode_pat,
)
from brokerd.core.tokens import AccountKey, GitHubToken, Login, Pat, User
from brokerd.errors import ErrorClass


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
KEYS = st.builds(AccountKey, host=TEXT, user_id=st.integers(0, 2**63))
PATS = st.builds(Pat, value=TEXT.filter(bool))
MINE = AccountKey("h", 1)
GOOD_PAT = json.loads(encode_pat(MINE, Pat("canary")))
GOOD = json.loads(encode(Login("h", User(1, "u"), GitHubToken("canary"), "c")))


@given(LOGINS)
def test_what_is_encoded_is_decoded(login):
    assert decode(encode(login)) == login


@given(KEYS, PATS)
def test_a_personal_access_token_is_read_back_with_its_owner(key, pat):
    assert decode_pat(encode_pat(key, pat)) == (key, pat)
    assert PAT.read_for(key, encode_pat(key, pat)) == pat


@given(st.binary())
@pytest.mark.parametrize("read", [decode, decode_pat])
def test_any_bytes_give_a_login_or_a_value_error(read, data):
    with pytest.raises(ValueError):
        read(data)


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


@pytest.mark.parametrize("name", ["version", "kind", "host", "user_id", "value"])
@pytest.mark.parametrize("value", [..., None, True, [], {}])
def test_a_personal_access_token_that_lacks_something_is_refused(name, value):
    record = {key: item for key, item in GOOD_PAT.items() if key != name}
    if value is not ...:
        record[name] = value
    with pytest.raises(ValueError) as caught:
        decode_pat(json.dumps(record).encode())
    assert "canary" not in str(caught.value)
    assert not isinstance(caught.value, NewerRecordError)


@pytest.mark.parametrize("change", [{"value": ""}, {"kind": "login"}, {"version": 0}])
def test_a_personal_access_token_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError):
        decode_pat(json.dumps({**GOOD_PAT, **change}).encode())


def test_neither_kind_is_read_as_the_other_nor_for_somebody_else():
    login, pat = json.dumps(GOOD).encode(), json.dumps(GOOD_PAT).encode()
    assert LOGIN.read_for(MINE, login).token.value == "canary"
    assert PAT.read_for(MINE, pat) == Pat("canary")
    for kind, data, key in [
        (LOGIN, pat, MINE),
        (PAT, login, MINE),
        (LOGIN, login, AccountKey("h", 2)),
        (PAT, pat, AccountKey("i", 1)),
    ]:
        with pytest.raises(ValueError) as caught:
            kind.read_for(key, data)
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "error", "error_class", "code", "hint"),
    [
        (LOGIN, ValueError("x"), "LOGIN_REQUIRED", "store_broken", "copilot-cred login"),
        (LOGIN, NewerRecordError("x"), "STORE_UNAVAILABLE", "store_newer", "copilot-cred login"),
        (PAT, ValueError("x"), "STORE_UNAVAILABLE", "pat_broken", "copilot-cred quota set-pat"),
        (PAT, NewerRecordError("x"), "STORE_UNAVAILABLE", "store_newer", "quota set-pat"),
    ],
)
def test_what_cannot_be_used_is_explained(kind, error, error_class, code, hint):
    failure = kind.unusable(error, "/state/x")
    assert (failure.error_class, failure.code) == (ErrorClass[error_class], code)
    assert kind.noun in failure.message
    assert "/state/x" in failure.message
    assert failure.hint.endswith(hint)


def test_no_personal_access_token_shows_itself():
    assert "canary" not in repr(Pat("canary")) + str(Pat("canary"))


@pytest.mark.parametrize("read", [decode, decode_pat])
def test_a_newer_version_is_told_apart(read):
    with pytest.raises(NewerRecordError, match="version 2"):
        read(b'{"version": 2}')


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
