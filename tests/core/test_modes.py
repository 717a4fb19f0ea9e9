"""Exchange or direct: by configuration, by the token's kind, by what was learned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.modes import falls_back, kind_of, mode_for, reason_for, refusal_of
from brokerd.errors import ErrorClass, Failure


NOT_FOUND = Failure(ErrorClass.DENIED, "exchange_not_found", "no exchange for this app")
OTHER = Failure(ErrorClass.DENIED, "no_copilot_access", "no plan")
PREFIXES = ["gho_", "ghu_", "github_pat_", "ghs_", "ghp_", "ghr_", ""]
MODES = ["auto", "exchange", "direct"]
TOKENS = st.builds("{}{}".format, st.sampled_from(PREFIXES), st.text())


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("gho_x", "oauth"),
        ("ghu_x", "app"),
        ("github_pat_x", "fine_grained"),
        ("ghs_x", "installation"),
        ("ghp_x", "classic"),
        ("ghr_x", "refresh"),
        ("0123456789abcdef", "unknown"),
        ("GHP_x", "unknown"),
        ("", "unknown"),
    ],
)
def test_kinds_are_told_by_their_prefix(token, kind):
    assert kind_of(token) == kind


@pytest.mark.parametrize(
    ("token", "configured", "is_direct", "mode"),
    [
        ("gho_x", "auto", False, "exchange"),
        ("gho_x", "auto", True, "direct"),
        ("gho_x", "direct", False, "direct"),
        ("gho_x", "exchange", True, "exchange"),
        ("ghu_x", "auto", False, "exchange"),
        ("github_pat_x", "auto", False, "direct"),
        ("ghs_x", "auto", False, "direct"),
        ("github_pat_x", "exchange", False, "exchange"),
        ("old-style", "auto", False, "exchange"),
    ],
)
def test_configuration_wins_then_the_kind_then_what_was_learned(
    token, configured, is_direct, mode
):
    assert mode_for(token, configured, is_direct=is_direct) == mode


@pytest.mark.parametrize("configured", MODES)
def test_only_auto_falls_back_and_only_on_the_404(configured):
    assert falls_back(configured, NOT_FOUND) is (configured == "auto")
    assert not falls_back(configured, OTHER)


@pytest.mark.parametrize("configured", MODES)
@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("ghp_x", "classic_token_refused"),
        ("ghr_x", "refresh_token_refused"),
        ("", "bad_token"),
        ("gho_ x", "bad_token"),
        ("gho_x\n", "bad_token"),
        ("gho_ü", "bad_token"),
    ],
)
def test_what_can_never_serve_is_refused_with_the_reason(token, code, configured):
    failure = refusal_of(token, configured)
    assert (failure.code, failure.error_class) == (code, ErrorClass.USAGE)
    assert "copilot-cred login" in failure.hint


@pytest.mark.parametrize("configured", MODES)
@pytest.mark.parametrize(
    "token",
    [
        "tid=abc;exp=1800000000;sku=x:1f",
        "exp=1800000000;tid=abc:1f",
        "tid=x",
        "1f:org:1800000000:2e",
    ],
)
def test_a_copilot_token_is_no_login_and_its_giver_is_told_so(token, configured):
    failure = refusal_of(token, configured)
    assert (failure.code, failure.error_class) == ("copilot_token_refused", ErrorClass.USAGE)
    assert "Copilot token" in failure.message
    assert token not in str(failure)


@pytest.mark.parametrize("token", ["github_pat_x", "ghs_x"])
def test_a_token_for_direct_use_only_is_refused_by_exchange_only(token):
    assert refusal_of(token, "exchange").code == "direct_token_refused"
    assert refusal_of(token, "auto") is None
    assert refusal_of(token, "direct") is None


@pytest.mark.parametrize("token", ["gho_x", "ghu_x", "0123456789abcdef"])
@pytest.mark.parametrize("configured", MODES)
def test_what_the_device_grant_brings_is_never_refused(token, configured):
    assert refusal_of(token, configured) is None


@given(TOKENS, st.sampled_from(MODES) | st.text(), st.booleans())
def test_any_token_gets_a_mode_and_classic_ones_are_always_refused(token, configured, is_direct):
    assert mode_for(token, configured, is_direct=is_direct) in ("exchange", "direct")
    failure = refusal_of(token, configured)
    if token.startswith("ghp_"):
        assert failure is not None
    if failure is not None and len(token) > 12:
        assert token not in str(failure)


@pytest.mark.parametrize(
    ("token", "configured", "is_direct", "reason"),
    [
        ("gho_x", "auto", False, "usual"),
        ("gho_x", "auto", True, "exchange_unknown"),
        ("github_pat_x", "auto", False, "token_kind"),
        ("github_pat_x", "auto", True, "token_kind"),
        ("gho_x", "direct", False, "configured"),
        ("gho_x", "exchange", True, "configured"),
    ],
)
def test_a_mode_has_a_reason(token, configured, is_direct, reason):
    assert reason_for(token, configured, is_direct=is_direct) == reason
