"""Every refusal of GitHub's and Copilot's that has a name, as a person and a program are told it.

One daemon, an account for each refusal: so no limit of one is in the way of the next. What the
command says, what the library says and what `status` goes on saying have to be the same.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from brokerd.simulator import github_refusals, refusals
from brokerd.simulator.notifications import NOTIFICATIONS
from system.github import EXCHANGE, IDENTITY
from system.scripted import CHAT, JSON_ERRORS, account, error_of, fault, good, refused


if TYPE_CHECKING:
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session


class Said(NamedTuple):
    """What is to be told."""

    exit_code: int
    code: str
    words: str
    """In the message."""
    step: str
    """In the hint."""
    url: str | None = None
    retry_after: float | None = None


BODY = json.dumps({"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]})
MINUTE, HOUR, DAYS = 60, 3600, 465_000

SIGN_UP = "https://github.com/github-copilot/signup?editor=copilot-broker"
SUPPORT = "https://support.github.com"
BILLING = "https://github.com/settings/billing"
SSO_PAGE = "https://github.com/orgs/octo-org/sso?authorization_request=SIMULATED"
IN_BETWEEN = "a proxy or firewall in between answered"
RATE = "limits the rate of requests"

# Of the exchange: the id of GitHub's notification, or the name of the fault.
OF_THE_EXCHANGE = {
    "403_no_copilot_access": Said(5, "no_copilot_access", "no Copilot plan", "Sign up", SIGN_UP),
    "403_not_signed_up": Said(5, "not_signed_up", "not signed up", "Sign up", SIGN_UP),
    "403_subscription_ended": Said(5, "subscription_ended", "has ended", "Renew", BILLING),
    "403_enterprise_managed_user_account": Said(
        5, "enterprise_managed_user_account", "enterprise", "administrator", SUPPORT
    ),
    "403_feature_flag_blocked": Said(
        5, "feature_flag_blocked", "not switched Copilot on", "support", SUPPORT
    ),
    "403_spammy_user": Said(5, "spammy_user", "flagged", "support", SUPPORT),
    "403_billing_locked": Said(5, "billing_locked", "billing", "Settle", BILLING),
    "403_trade_restricted": Said(5, "trade_restricted", "trade", "support", SUPPORT),
    "403_trade_restricted_country": Said(5, "trade_restricted_country", "country", "VPN", SUPPORT),
    "403_codespaces_demo_inactive": Said(
        5, "codespaces_demo_inactive", "demo", "Sign up", SIGN_UP
    ),
    "403_snippy_not_configured": Said(
        5, "snippy_not_configured", "public code", "settings/copilot", SUPPORT
    ),
    "403_expired_coupon": Said(5, "expired_coupon", "expired", "Choose a plan", BILLING),
    "403_revoked_coupon": Said(5, "revoked_coupon", "revoked", "Choose a plan", BILLING),
    "403_go_http_client": Said(5, "go_http_client", "kind of client", "Update", SUPPORT),
    "403_programmatic_token_generation": Said(
        5, "programmatic_token_generation", "by programs", "Stop other tools", SUPPORT
    ),
    "403_access_revoked": Said(5, "access_revoked", "revoked", "e-mail", SUPPORT),
    "403_server_error": Said(5, "server_error", "cannot tell", "Wait a while", SUPPORT),
    "403_rate_limit": Said(7, "rate_limited", RATE, "tried again by itself", None, MINUTE),
    "403_secondary": Said(7, "rate_limited", RATE, "tried again by itself", None, MINUTE),
    "429": Said(7, "rate_limited", RATE, "tried again by itself", None, MINUTE),
    "429_rate_limit": Said(7, "rate_limited", RATE, "tried again by itself", None, MINUTE),
    "429_no_header": Said(7, "rate_limited", RATE, "tried again by itself", None, MINUTE),
    "403_lockout": Said(7, "login_locked_out", "locks out", "Stop whatever", None, 15 * MINUTE),
    "403_sso": Said(5, "sso_required", "single sign-on", "Open the page", SSO_PAGE),
    "403_sso_foreign_url": Said(5, "sso_required", "single sign-on", "on GitHub and authorize"),
    "404_saml": Said(5, "sso_required", "single sign-on", "on GitHub and authorize"),
    "403_plain": Said(5, "forbidden", "forbids it", "When that is settled"),
    "401": Said(4, "bad_credentials", "does not accept the login", "copilot-cred login"),
    "466": Said(5, "client_not_supported", "no longer supports", "Update copilot-broker"),
    "401_portal": Said(7, "intercepted", f"{IN_BETWEEN} (401)", "Sign in to", None, MINUTE),
    "403_proxy_html": Said(7, "intercepted", f"{IN_BETWEEN} (403)", "Sign in to", None, MINUTE),
    "404_proxy": Said(7, "intercepted", f"{IN_BETWEEN} (404)", "Sign in to", None, MINUTE),
    "500": Said(7, "upstream_error", "answers 500", "tried again by itself"),
    "503": Said(7, "upstream_error", "answers 503", "tried again by itself"),
    "502_html": Said(7, "upstream_error", "answers 502", "tried again by itself"),
    "200_html": Said(7, "bad_answer", "is not JSON", "tried again by itself"),
    "200_empty": Said(7, "bad_answer", "is not JSON", "tried again by itself"),
    "200_list": Said(7, "bad_answer", "", "tried again by itself"),
}
# These mean that the login is to be used directly (test_modes), or are of the device flow.
OTHERWISE = {"404", "404_client"}

QUOTA = "copilot-cred status"
LATER = "Ask again later"
OTHER = "Another model"
LIMIT = "exceeded your Copilot rate limit"
CUT = "broke off"

OF_COPILOT = {
    "400_model_not_supported": Said(2, "model_not_supported", "not supported", "Choose another"),
    "400_model_not_available_for_integrator": Said(
        2, "model_not_available_for_integrator", "[sim-chat sim-claude]", "another app"
    ),
    "400_unsupported_api_for_model": Said(
        2, "unsupported_api_for_model", "not accessible via", "supported_endpoints"
    ),
    "400_model_max_prompt_tokens_exceeded": Said(
        2, "model_max_prompt_tokens_exceeded", "exceeds the limit of 128000", "Send less"
    ),
    "400_store_not_supported": Said(2, "store_not_supported", "store", '"store": false'),
    "400_invalid_request_body": Said(
        2, "invalid_request_body", "exceeds the limit of 128000", "Send less"
    ),
    "400_previous_response_not_found": Said(
        2, "previous_response_not_found", "not found", "whole conversation"
    ),
    "400_inner_object": Said(2, "model_not_supported", "not supported", "Choose another"),
    "400_off_topic": Said(5, "off_topic", "off_topic", "to do with code"),
    "401_authorize_url": Said(
        5, "upstream_401", "remote agent wants a sign-in", "open the page",
        "https://github.com/login/oauth/authorize?client_id=sim",
    ),
    "402_date": Said(5, "quota_exceeded", "premium request allowance", QUOTA, None, HOUR),
    "402_seconds": Said(5, "quota_exceeded", "premium request allowance", QUOTA, None, HOUR),
    "402_quota_exceeded": Said(5, "quota_exceeded", "No quota", QUOTA, None, HOUR),
    "402_free_quota_exceeded": Said(
        5, "free_quota_exceeded", "No quota", "every month", None, HOUR
    ),
    "402_overage_limit_reached": Said(
        5, "overage_limit_reached", "No quota", "Raise it", None, HOUR
    ),
    "402_billing_not_configured": Said(
        5, "billing_not_configured", "No quota", "Set it up", None, HOUR
    ),
    "403_feature": Said(5, "upstream_403", "not authorized to use", "can allow it"),
    "403_forbidden": Said(5, "upstream_403", "forbidden: access denied", "can allow it"),
    "403_denied": Said(5, "upstream_403", "access denied", "can allow it"),
    "404_json": Said(2, "not_found", "Not Found", "copilot-cred models"),
    "404_text": Said(2, "upstream_404", "404 page not found", "copilot-cred models"),
    "413_json": Said(2, "request_too_large", "Too Large", "Send less"),
    "413_text": Said(2, "upstream_413", "Too Large", "Send less"),
    "422": Said(5, "upstream_422", "Responsible AI", "in other words"),
    "424": Said(7, "upstream_424", "agent did not answer", LATER),
    "429_rate_limited": Said(7, "rate_limited", LIMIT, LATER, None, MINUTE),
    "429_user_model_rate_limited": Said(
        7, "user_model_rate_limited", LIMIT, OTHER, None, MINUTE
    ),
    "429_user_global_rate_limited": Said(
        7, "user_global_rate_limited", LIMIT, LATER, None, MINUTE
    ),
    "429_user_weekly_rate_limited": Said(
        7, "user_weekly_rate_limited", LIMIT, "with the week", None, DAYS
    ),
    "429_integration_rate_limited": Said(
        7, "integration_rate_limited", LIMIT, LATER, None, MINUTE
    ),
    "429_model_overloaded": Said(7, "model_overloaded", LIMIT, OTHER, None, MINUTE),
    "429_agent_mode_limit_exceeded": Said(
        7, "agent_mode_limit_exceeded", LIMIT, LATER, None, MINUTE
    ),
    "429_quota_exceeded": Said(7, "quota_exceeded", LIMIT, QUOTA, None, MINUTE),
    "429_rate_limited_suffix": Said(7, "rate_limited", LIMIT, LATER, None, MINUTE),
    "429_no_retry_after": Said(7, "rate_limited", LIMIT, LATER, None, MINUTE),
    "429_date": Said(7, "rate_limited", LIMIT, LATER, None, HOUR),
    "429_text": Said(7, "upstream_429", "too many requests", LATER, None, MINUTE),
    "429_extension_blocked": Said(
        7, "extension_blocked", "temporarily blocked", LATER, None, MINUTE
    ),
    "429_long": Said(7, "user_weekly_rate_limited", "weekly", "with the week", None, DAYS),
    "466": Said(5, "upstream_466", "API version is no longer supported", "copilot_api_version"),
    "499": Said(7, "upstream_499", "cancelled the request", LATER),
    "500": Said(7, "upstream_500", "internal server error", LATER),
    "502_html": Said(7, "upstream_502", "out of order", LATER),
    "503": Said(7, "upstream_503", "upstream provider limit", OTHER, None, 10),
    "proxy_403": Said(7, "intercepted", "a proxy or firewall in between", "Sign in to this network"),
    "reset_before_head": Said(7, "upstream_cut", "without an answer", "Ask again"),
    "close_before_head": Said(7, "upstream_cut", "without an answer", "Ask again"),
    "reset_after_head": Said(7, "upstream_cut", CUT, "Ask again"),
    "close_after_head": Said(7, "upstream_cut", CUT, "Ask again"),
    "reset_in_body": Said(7, "upstream_cut", CUT, "Ask again"),
    "close_in_body": Said(7, "upstream_cut", CUT, "Ask again"),
    "reset_in_chunk": Said(7, "upstream_cut", CUT, "Ask again"),
    "close_in_chunk": Said(7, "upstream_cut", CUT, "Ask again"),
}  # fmt: skip
# A new token, or its host, mends these unseen.
MENDED = ("401_token_expired", "401_ide_token_expired", "401_pat", "421")
# No refusals: an answer that comes slowly, one that never ends, one of several chunks.
NO_REFUSALS = {"dribble", "endless_head", "close_between_chunks"}

# For each row [account, token, path, fault]: signs in, queues the fault, asks. Prints what was
# told. Without a path it signs in only, without a token it asks for one of the broker's.
BY_LIBRARY = """
import json, sys, urllib.request
from copilot_broker import Client, CopilotBrokerError
url, body, rows = json.load(sys.stdin)

def told(error):
    names = ("code", "message", "hint", "url", "retry_after")
    return {"class": int(error.error_class)} | {name: getattr(error, name) for name in names}

def queue(path, name):
    data = json.dumps({"path": path, "named": [name]}).encode()
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/_control/faults", data, headers)).close()

def ask(account, token, path, fault):
    if token is None:
        client.token(account=account)
        return None
    list(client.login(account, token=token))
    if path is None:
        return None
    queue(path, fault)
    answer = client.complete(body, account=account)
    return answer.refusal and told(answer.refusal)

results = []
with Client(timeout=30) as client:
    for row in rows:
        try:
            results.append(ask(*row))
        except CopilotBrokerError as error:
            results.append(told(error))
print(json.dumps(results))
"""


def check(name: str, error: dict[str, Any], said: Said) -> None:
    assert (error["class"], error["code"]) == (said.exit_code, said.code), name
    assert said.words in error["message"], (name, error)
    assert said.step in error["hint"], (name, error)
    assert error.get("url") == said.url, name
    told = error.get("retry_after")
    if said.retry_after is None:
        # the broker may say when it will ask again by itself
        assert told is None or (said.exit_code == 7 and told <= 5), name
    else:
        assert told is not None, name
        assert 0.9 * said.retry_after - 2 <= told <= 1.1 * said.retry_after + 2, (name, told)


def unnamed(error: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of any account: without its name, and without what counts down."""
    assert ") --account" not in error["hint"], "the name belongs to the command"
    hint = re.sub(r" --account \S+\d+\b", "", error["hint"])
    kept = {key: error.get(key) for key in ("class", "code", "message", "url")}
    return kept | {"hint": hint}


@pytest.fixture
def daemon(session: Session) -> Session:
    """It can be asked, nobody is signed in."""
    session.systemctl("start", "copilot-broker.socket")
    return session


def by_library(session: Session, installed: Path, github: GitHub, rows: list[Any]) -> list[Any]:
    stdin = json.dumps([github.url, BODY, rows])
    python = str(installed / "bin/python")
    return list(json.loads(session.good(python, "-c", BY_LIBRARY, stdin=stdin, timeout=120)))


def test_the_tables_leave_nothing_out() -> None:
    of_github = {name for name in github_refusals.NAMES if not re.match(r"[a-z]|400_", name)}
    assert set(OF_THE_EXCHANGE) | OTHERWISE == of_github
    assert {f"403_{each}" for each in NOTIFICATIONS} <= set(OF_THE_EXCHANGE)
    assert set(OF_COPILOT) | set(MENDED) | NO_REFUSALS == set(refusals.NAMES)


def test_each_refusal_of_the_exchange(daemon: Session, github: GitHub, installed: Path) -> None:
    errors = {}
    for number, (name, said) in enumerate(OF_THE_EXCHANGE.items()):
        fault(github, EXCHANGE, name)
        token = github.world.mint("gho_", f"person{number}")
        login = ("login", "--account", f"a{number}", "--with-token")
        errors[name] = refused(daemon, *login, stdin=token)
        check(name, errors[name], said)
        if said.exit_code == 7 and said.retry_after is None:
            # it would be tried again within a second, and take the next one's fault
            good(daemon, "logout", "--account", f"a{number}")
    assert github.asked(EXCHANGE) == len(OF_THE_EXCHANGE)
    # `status` goes on saying it, unless it was one to be tried again within seconds
    lasting = {
        f"a{number}": name
        for number, (name, said) in enumerate(OF_THE_EXCHANGE.items())
        if said.retry_after is not None or said.exit_code != 7
    }
    shown = {each["name"]: each["error"] for each in daemon.status()["accounts"]}
    text = " ".join(good(daemon, "status").split())
    for account_name, name in lasting.items():
        assert unnamed(shown[account_name]) == unnamed(errors[name]), name
        assert errors[name]["message"] in text, name
        if errors[name].get("url"):
            assert f"see: {errors[name]['url']}" in text
    # and so does the library to whoever wants a token, without a further question
    asked = github.asked(EXCHANGE)
    rows = [[account_name, None, None, None] for account_name in lasting]
    for name, told in zip(
        lasting.values(), by_library(daemon, installed, github, rows), strict=True
    ):
        assert unnamed(told) == unnamed(errors[name]), name
    assert github.asked(EXCHANGE) == asked


def test_a_refusal_of_the_person_ends_the_login(daemon: Session, github: GitHub) -> None:
    for name in ("403_sso", "401", "466"):
        fault(github, IDENTITY, name)
        check(name, refused(daemon, "login"), OF_THE_EXCHANGE[name])
        assert daemon.status()["accounts"] == []


def test_too_many_wrong_logins_lock_the_person_out_and_are_told_so(
    daemon: Session, github: GitHub
) -> None:
    good(daemon, "login")
    for _ in range(github.world.settings.lockout_after + 1):  # as another tool may have done
        github.world.lockout.count("login octocat")
    error = refused(daemon, "refresh")
    assert (error["class"], error["code"]) == (7, "login_locked_out")
    assert good(daemon, "get").startswith("tid="), "the token at hand is none of GitHub's business"


def test_each_refusal_of_copilot(daemon: Session, github: GitHub, installed: Path) -> None:
    world = github.world
    names = list(OF_COPILOT)
    rows = [
        [f"lib{number}", world.mint("gho_", f"lib{number}"), CHAT, name]
        for number, name in enumerate(names)
    ]
    rows += [
        [f"cli{number}", world.mint("gho_", f"cli{number}"), None, None]
        for number in range(len(names))
    ]
    by_lib = dict(zip(names, by_library(daemon, installed, github, rows), strict=False))
    asked = github.asked(CHAT)
    assert asked == len(names), "each was sent once"
    by_cli = {}
    for number, name in enumerate(names):
        fault(github, CHAT, name)
        verb = (
            ("api", CHAT, "--body", BODY) if number % 2 else ("chat", "--model", "sim-chat", "?")
        )
        by_cli[name] = refused(daemon, *verb, "--account", f"cli{number}")
    assert github.asked(CHAT) == asked + len(names)
    shown = {each["name"]: each["refusal"] for each in daemon.status()["accounts"]}
    for number, (name, said) in enumerate(OF_COPILOT.items()):
        assert by_lib[name] is not None, name
        check(name, by_cli[name], said)
        check(name, by_lib[name], said)
        assert unnamed(by_cli[name]) == unnamed(by_lib[name]), name
        if said.code != "upstream_cut":
            assert unnamed(shown[f"cli{number}"]) == unnamed(by_cli[name]), name
            assert shown[f"cli{number}"]["ago"] < 60


def test_what_a_new_token_mends_is_not_seen(daemon: Session, github: GitHub) -> None:
    for number, name in enumerate(MENDED):
        token = github.world.mint("gho_", f"person{number}")
        good(daemon, "login", "--account", name, "--with-token", stdin=token)
        before = github.asked(EXCHANGE)
        fault(github, CHAT, name)
        asking = ("chat", "--model", "sim-chat", "--account", name, "hello")
        assert "hello" in good(daemon, *asking), name
        assert github.asked(EXCHANGE) == before + 1


def test_a_refusal_reads_well(daemon: Session, github: GitHub) -> None:
    good(daemon, "login")
    fault(github, CHAT, "401_authorize_url", "429_long")
    first, second = (daemon.cred("chat", "--model", "sim-chat", "hello") for _ in range(2))
    page = "https://github.com/login/oauth/authorize?client_id=sim"
    step = "A remote agent wants a sign-in of its own: open the page, then: copilot-cred chat"
    assert first.stderr.splitlines() == [
        "copilot-cred: GitHub Copilot answered 401: a remote agent wants a sign-in",
        f"  see: {page}",
        f"  hint: {step}",
    ]
    lines = second.stderr.splitlines()
    said = "GitHub Copilot answered 429: You have reached your weekly rate limit"
    assert lines[0] == f"copilot-cred: {said}"
    assert re.fullmatch(r"  again in: 5 d \(until \d{4}-\d\d-\d\d \d\d:\d\d\)", lines[1])
    text = " ".join(good(daemon, "status").split())
    assert "asks again in 5 d (until " in text
    assert f" s ago: {said}" in text


def test_an_error_in_mid_stream_is_told_after_what_came(daemon: Session, github: GitHub) -> None:
    good(daemon, "login")
    done = daemon.cred(*JSON_ERRORS, "chat", "--model", "sim-quirk-error_midstream", "hello")
    assert done.stdout
    error = error_of(done)
    assert error["message"].startswith("GitHub Copilot broke off")
    assert account(daemon)["refusal"]["code"] == error["code"]


def test_every_quirk_of_a_stream_can_be_read(daemon: Session, github: GitHub) -> None:
    good(daemon, "login")
    quirks = (
        "references+errors+confirmation+function_role+annotations+usage_details+display_name",
        "prompt_filter+comments+crlf+bare",
        "no_done+two_choices",
        "tool_repeat",
    )
    for quirk in quirks:
        for form in ((), ("--no-stream",)):
            asking = ("chat", *form, "--model", f"sim-quirk-{quirk}", "hello")
            assert daemon.cred(*asking).returncode == 0, asking
    filtered = daemon.cred("chat", "--model", "sim-quirk-finish_content_filter", "hello")
    assert "cut off by GitHub's content filter" in filtered.stderr
    failed = daemon.cred("chat", "--model", "sim-quirk-finish_error", "hello")
    assert failed.returncode == 7
