"""What a Copilot token says of itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.token_string import MAX_LENGTH, TokenString, parse


REAL = (
    "tid=abc;exp=1790000000;sku=monthly_subscriber;proxy-ep=proxy.individual.githubcopilot.com;"
    "st=dotcom;chat=1;8kp=1;ip=192.0.2.1;asn=AS64496:0123abcd"
)
KEYS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters=";:", exclude_categories=["Cs"]), max_size=40)


def test_a_token_as_copilot_makes_them():
    found = parse(REAL)
    assert found.expires_at == 1_790_000_000
    assert found.sku == "monthly_subscriber"
    assert found.proxy_host == "proxy.individual.githubcopilot.com"
    assert found.api_host == "api.individual.githubcopilot.com"
    assert found.fields["ip"] == "192.0.2.1"
    assert list(found.fields) == [
        "tid",
        "exp",
        "sku",
        "proxy-ep",
        "st",
        "chat",
        "8kp",
        "ip",
        "asn",
    ]


def test_its_repr_shows_neither_secret_nor_address():
    shown = repr(parse(REAL))
    assert "monthly_subscriber" in shown
    assert not [part for part in ("abc", "192.0.2.1", "AS64496", "0123") if part in shown]


def test_fields_cannot_be_changed():
    with pytest.raises(TypeError):
        parse(REAL).fields["sku"] = "x"


def test_the_older_form_tells_its_end_only():
    found = parse("00ff:acme:1790000000:0123abcd")
    assert found == TokenString(expires_at=1_790_000_000)


@pytest.mark.parametrize(
    "token",
    ["", ":", ";;;:", "=", "=x;:mac", "hello", "gho_abc", "a:b:c:d", "0:1:2", "zz:o:1:m",
     "00:o:1:", "\0", "é=1:m", "a b=1:m"],
)  # fmt: skip
def test_what_is_no_token_has_no_fields(token):
    assert parse(token) == TokenString()


@pytest.mark.parametrize(
    ("field", "expires_at", "sku", "proxy_host", "api_host"),
    [
        ("exp=soon", None, "", "", ""),
        ("exp=-5", None, "", "", ""),
        ("exp=1e9", None, "", "", ""),
        ("exp=" + "9" * 13, None, "", "", ""),
        ("exp=1;exp=2", 2, "", "", ""),
        ("sku=\x1b[0m", None, "", "", ""),
        ("sku=" + "x" * 65, None, "", "", ""),
        ("proxy-ep=PROXY.Example.com", None, "", "proxy.example.com", "api.example.com"),
        ("proxy-ep=copilot-proxy.acme.ghe.com", None, "", "copilot-proxy.acme.ghe.com", ""),
        ("proxy-ep=https", None, "", "", ""),
        ("proxy-ep=user@example.com", None, "", "", ""),
        ("proxy-ep=example.com/path", None, "", "", ""),
    ],
)
def test_odd_values_count_as_absent(field, expires_at, sku, proxy_host, api_host):
    found = parse(f"tid=1;{field}:mac")
    assert found.fields["tid"] == "1"
    assert (found.expires_at, found.sku) == (expires_at, sku)
    assert (found.proxy_host, found.api_host) == (proxy_host, api_host)


@given(st.dictionaries(KEYS, VALUES, max_size=20), st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
def test_fields_come_back_as_they_were_written(fields, mac):
    text = ";".join(f"{key}={value}" for key, value in fields.items())
    assert parse(f"{text}:{mac}").fields == fields


@given(st.text())
def test_garbage_never_raises(token):
    found = parse(token)
    assert found.proxy_host == found.proxy_host.lower()
    assert found.expires_at is None or found.expires_at >= 0


@given(st.text(alphabet="abtid=;:0123.-", max_size=200))
def test_near_misses_never_raise(token):
    assert all(value.find(";") < 0 for value in parse(token).fields.values())


@pytest.mark.parametrize("unit", ["a=1;", "0:", ";", "=", "x"])
def test_huge_strings_are_no_tokens(unit):
    assert parse(unit * 3_000_000) == TokenString()
    just_fits = unit * (MAX_LENGTH // len(unit))
    assert len(parse(just_fits).fields) <= 1
