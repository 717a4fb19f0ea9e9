"""Hints for an account that is not the default one."""

import pytest

from brokerd.core.hints import addressed, anew, meanwhile
from brokerd.errors import ErrorClass, Failure
from brokerd.upstream.network_errors import NETWORK_HINT
from brokerd.upstream.refusals import RETRY_HINT


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("Run: copilot-cred login", "Run: copilot-cred login --account work"),
        (
            "When that is settled, run: copilot-cred refresh",
            "When that is settled, run: copilot-cred refresh --account work",
        ),
        (
            "Give it, then: copilot-cred login --with-token",
            "Give it, then: copilot-cred login --account work --with-token",
        ),
        (
            "To accept them: copilot-cred models enable gpt-5.1; see copilot-cred models",
            (
                "To accept them: copilot-cred models enable gpt-5.1 --account work; see "
                "copilot-cred models --account work"
            ),
        ),
        (
            "Accept its terms (copilot-cred models enable ID); see copilot-cred models",
            (
                "Accept its terms (copilot-cred models enable ID --account work); see "
                "copilot-cred models --account work"
            ),
        ),
        (
            "Try copilot-cred logout --revoke, or copilot-cred logout",
            (
                "Try copilot-cred logout --revoke --account work, or "
                "copilot-cred logout --account work"
            ),
        ),
        ("Run copilot-cred login --account home", "Run copilot-cred login --account home"),
        ("See copilot-cred get --help", "See copilot-cred get --help"),
        ("See the names with copilot-cred account list", None),
        ("systemctl --user reload copilot-broker", None),
        ("", None),
    ],
)
def test_commands_name_the_account(hint, told):
    failure = Failure(ErrorClass.DENIED, "code", "message", hint, "https://github.com", 3.0)
    found = addressed(failure, "work")
    assert found.hint == (hint if told is None else told)
    assert (found.code, found.message, found.url, found.retry_after) == (
        failure.code,
        failure.message,
        failure.url,
        failure.retry_after,
    )


@pytest.mark.parametrize(
    ("hint", "step"),
    [
        ("A kept login is tried again by itself, a new one by: copilot-cred login", ""),
        (NETWORK_HINT, ". Check the network"),
        (RETRY_HINT, ""),
        ("When that is settled, run: copilot-cred refresh", ""),
        ("Sign in to the network. Then: copilot-cred refresh", ". Sign in to the network"),
        ("Run copilot-cred status", ". Run copilot-cred status"),
        ("Run copilot-cred login --store file", ". Run copilot-cred login --store file"),
        ("", ""),
    ],
)
def test_what_goes_on_by_itself_needs_no_command_to_go_on(hint, step):
    failure = Failure(ErrorClass.TEMPORARY, "code", "it answers 502", hint)
    assert meanwhile(failure) == "it answers 502; it is tried again by itself" + step


def test_a_login_that_failed_leads_to_the_next():
    hint = "Open the page. Then: copilot-cred refresh"
    failure = Failure(ErrorClass.DENIED, "code", "message", hint)
    assert anew(failure).hint == "Open the page. Then: copilot-cred login"
    assert anew(anew(failure)) == anew(failure)
