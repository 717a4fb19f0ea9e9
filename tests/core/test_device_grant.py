"""Poll pacing and every answer of the device authorization grant."""

import math

import pytest

from brokerd.core.machine.device_grant import (
    DEFAULT_EXPIRES_IN,
    NotGranted,
    Pacing,
    is_pending,
    refusal,
    sane_expires_in,
)
from brokerd.errors import ErrorClass


def test_first_wait_is_longer_than_the_interval():
    assert Pacing.told(5.0).delay == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("told", "interval"), [(None, 10.0), (7.0, 10.0), (30.0, 30.0), (0.0, 10.0), (math.nan, 10.0)]
)
def test_slow_down_takes_the_larger_interval(told, interval):
    slowed = Pacing.told(5.0).after(NotGranted("slow_down", told))
    assert slowed.interval == interval
    assert slowed.delay == pytest.approx(interval * 1.4)


def test_pending_does_not_change_the_pace():
    assert Pacing.told(5.0).after(NotGranted("authorization_pending")) == Pacing.told(5.0)


def test_advice_comes_with_the_second_slow_down_and_stays():
    first = Pacing.told(5.0).after(NotGranted("slow_down"))
    assert Pacing.told(5.0).advice is None
    assert first.advice is None
    second = first.after(NotGranted("authorization_pending")).after(NotGranted("slow_down"))
    for word in ("slow down", "clock", "WSL", "timedatectl", "restart"):
        assert word in second.advice
    assert second.after(NotGranted("authorization_pending")).advice == second.advice


def test_a_code_that_expires_under_a_fast_clock_is_told_with_the_advice():
    slowed = Pacing(20.0, slow_downs=2)
    for error in ("expired_token", "token_expired"):
        hint = refusal(error, slowed).hint
        assert slowed.advice in hint
        assert hint.endswith("run copilot-cred login")
    assert refusal("expired_token", Pacing(20.0, slow_downs=1)) == refusal("expired_token")
    assert refusal("access_denied", slowed) == refusal("access_denied")


def test_slow_down_for_ever_stays_bounded():
    pacing = Pacing.told(5.0)
    for _ in range(200):
        pacing = pacing.after(NotGranted("slow_down"))
    assert pacing.interval == 300.0


@pytest.mark.parametrize("told", [0.0, -1.0, math.nan, math.inf])
def test_nonsense_is_replaced_by_the_standards_figures(told):
    assert Pacing.told(told).interval == 5.0
    assert sane_expires_in(told) == DEFAULT_EXPIRES_IN


@pytest.mark.parametrize(
    ("error", "code", "error_class"),
    [
        ("expired_token", "expired_token", ErrorClass.LOGIN_REQUIRED),
        ("token_expired", "expired_token", ErrorClass.LOGIN_REQUIRED),
        ("access_denied", "access_denied", ErrorClass.DENIED),
        ("incorrect_device_code", "incorrect_device_code", ErrorClass.LOGIN_REQUIRED),
        ("incorrect_client_credentials", "incorrect_client_credentials", ErrorClass.USAGE),
        ("unsupported_grant_type", "unsupported_grant_type", ErrorClass.INTERNAL),
        ("device_flow_disabled", "device_flow_disabled", ErrorClass.USAGE),
        ("something_new", "device_grant_refused", ErrorClass.LOGIN_REQUIRED),
        ("\x1b[2Jnot a word", "device_grant_refused", ErrorClass.LOGIN_REQUIRED),
    ],
)
def test_every_other_answer_ends_the_grant_with_a_mending_command(error, code, error_class):
    assert not is_pending(NotGranted(error))
    failure = refusal(error)
    assert (failure.code, failure.error_class) == (code, error_class)
    assert "copilot-cred" in failure.hint
    assert "\x1b" not in str(failure)


@pytest.mark.parametrize("error", ["incorrect_client_credentials", "device_flow_disabled"])
def test_a_wrong_client_id_is_sought_where_it_may_have_come_from(error):
    hint = refusal(error).hint
    assert "--client-id" in hint
    assert "client_id in config.toml" in hint
