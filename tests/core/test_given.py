"""Which variable or credential an account's token comes from, and what is no token."""

from __future__ import annotations

import pytest

from brokerd.core.given import (
    CREDENTIAL_MAX,
    VARIABLES,
    credential_name,
    from_credential,
    from_environment,
    missing_credential,
)
from brokerd.errors import ErrorClass


GOOD = "gho_" + "g" * 36
UNUSABLE = [
    ("ghp_" + "c" * 36, "classic"),
    ("ghr_" + "r" * 36, "refresh token"),
    ("", "empty"),
    (" \t\n", "empty"),
    ("gho_with blank", "without spaces"),
    ("gho_with\ttab", "visible"),
    ("gho_é", "ASCII"),
    ("tid=canary;exp=1;st=dotcom:mac", "Copilot token"),
    ("gho_" + "x" * 5000, "longer"),
]


@pytest.mark.parametrize("first", range(len(VARIABLES)))
def test_the_first_that_is_set_is_taken(first):
    environ = {name: f"{GOOD}{at}" for at, name in enumerate(VARIABLES) if at >= first}
    given = from_environment(environ | {"GH_HOST": "evil.example.org"})
    assert (given.place, given.failure) == (VARIABLES[first], None)
    assert given.token.value == f"{GOOD}{first}"


@pytest.mark.parametrize(("value", "why"), UNUSABLE)
@pytest.mark.parametrize("name", VARIABLES)
def test_an_unusable_one_is_reported_and_not_skipped(name, value, why):
    environ = dict.fromkeys(VARIABLES[VARIABLES.index(name) + 1 :], GOOD)
    given = from_environment({name: value} | environ)
    assert given.token is None
    failure = given.failure
    assert (failure.error_class, failure.code) == (
        ErrorClass.LOGIN_REQUIRED,
        "environment_unusable",
    )
    assert failure.message.startswith(f"{name} is set, but cannot be used: ")
    assert why in failure.message
    assert not value.strip() or value not in f"{failure.message} {failure.hint} {given!r}"
    assert failure.hint.endswith("systemctl --user restart copilot-broker")


def test_none_set_names_all_that_were_looked_at():
    failure = from_environment({"GH_HOST": "x"}).failure
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, "environment_unset")
    assert all(name in failure.message for name in VARIABLES)
    assert "systemctl --user edit copilot-broker" in failure.hint
    assert 'source = "credential"' in failure.hint


def test_blanks_around_a_token_are_no_part_of_it():
    assert from_environment({"GH_TOKEN": f" {GOOD}\n"}).token.value == GOOD


@pytest.mark.parametrize("kind", ["gho_", "ghu_", "github_pat_", "ghs_", "0123456789abcdef"])
def test_every_kind_that_may_serve_is_taken(kind):
    assert from_environment({"GH_TOKEN": f"{kind}aaaaaaaa"}).token is not None


def test_the_token_is_in_no_repr():
    assert GOOD not in repr(from_environment({"GH_TOKEN": GOOD}))


def test_each_account_has_a_credential_of_its_own():
    assert credential_name("default") == "github-token"
    assert credential_name("work") == "github-token-work"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_credential_is_one_line(end):
    given = from_credential("default", f"{GOOD}{end}".encode())
    assert (given.place, given.token.value) == ("github-token", GOOD)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f"{GOOD}\n{GOOD}\n".encode(), "more than one line"),
        (b"x" * (CREDENTIAL_MAX + 1), "larger than"),
        (b"\xff\xfe\x00", "ASCII"),
        (b"\0" * 40, "visible"),
        *((value.encode(), why) for value, why in UNUSABLE),
    ],
)
def test_an_unusable_credential_is_reported(content, why):
    failure = from_credential("work", content).failure
    assert failure.code == "credential_unusable"
    assert "github-token-work" in failure.message
    assert why in failure.message
    assert "LoadCredential=github-token-work:" in failure.hint


def test_a_missing_credential_says_how_to_give_it():
    failure = missing_credential("default").failure
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, "credential_missing")
    assert "LoadCredential=github-token:" in failure.hint
