"""`copilot-cred status`: how it goes, what is left, what ails, what is held back and until when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from fakes.wire_server import WireServer


OCTOCAT = {
    "name": "default",
    "host": "github.com",
    "user_id": 583231,
    "login": "octocat",
    "client_id": "vscode",
    "scopes": "user:email",
    "mode": "exchange",
    "source": "login",
    "store": "secret-service",
    "default": True,
    "state": "ready",
    "unsaved": False,
    "login_expires_in": None,
    "sku": "plus_monthly_subscriber",
    "api_base": "https://api.individual.githubcopilot.com",
    "token_id": "1a2b3c4d",
    "expires_in": 1475.0,
    "refresh_in": 1319.0,
    "error": None,
    "pacing": {
        "cooldown_in": None,
        "models": {},
        "circuit": "closed",
        "limit": None,
        "in_flight": 3,
        "queued": 0,
    },
    "refusal": None,
    "quota": {},
}
NO_SEAT = {
    "class": 5,
    "code": "no_seat",
    "message": "no \x1b[31mseat",
    "hint": "then: copilot-cred refresh --account work",
    "url": "https://github.com/settings/copilot",
}
SLOW_DOWN = {
    "class": 7,
    "code": "rate_limited",
    "message": "GitHub Copilot answered 429: slow down",
    "hint": "wait",
    "url": "https://docs.github.com/limits",
    "retry_after": 600.0,
}
HUBOT = {
    **OCTOCAT,
    "name": "work",
    "login": "hubot",
    "default": False,
    "state": "signed_out",
    "unsaved": True,
    "scopes": "",
    "sku": "",
    "api_base": "",
    "token_id": None,
    "expires_in": None,
    "refresh_in": None,
    "login_expires_in": 28000.0,
    "error": NO_SEAT,
}
STATUS = {
    "version": "0.1.0",
    "pid": 4711,
    "uptime": 7300.0,
    "simulated": False,
    "store": {"kind": "secret-service"},
    "accounts": [OCTOCAT, HUBOT],
    "summary": "signed in as octocat (github.com), token valid 24 min",
}


@pytest.fixture
def server():
    with WireServer({"broker.status": STATUS}) as server:
        yield server


def shown(server, **changes):
    """Return what is shown of one account, below the table."""
    server.answers["broker.status"] = {**STATUS, "accounts": [{**OCTOCAT, **changes}]}
    done = run("status", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.partition("\n\n")[2].splitlines()


def test_for_people_in_80_columns(server):
    done = run("status", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "copilot-broker 0.1.0, pid 4711, up 2 h",
        "signed in as octocat (github.com), token valid 24 min",
        "account            user     host        state       token     valid",
        "default (default)  octocat  github.com  ready       1a2b3c4d  24 min",
        "work               hubot    github.com  signed out  -         -",
        "",
        "default: mode exchange, plan plus_monthly_subscriber, scopes user:email, kept",
        "  in secret-service, next refresh in 21 min, Copilot at",
        "  https://api.individual.githubcopilot.com",
        "",
        "work: mode exchange, kept in secret-service, login renewed within 7 h",
        "  login not saved yet: its store fails; the broker goes on trying",
        "  error: no ?[31mseat",
        "    see: https://github.com/settings/copilot",
        "    hint: then: copilot-cred refresh --account work",
    ]


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_a_terminal_shows_the_same(server, command):
    with Terminal("status", env={**server.env, "COLUMNS": "80"}, command=command) as terminal:
        assert terminal.ends() == 0
    for words in ("octocat", "1a2b3c4d", "24 min", "hubot", "copilot-cred refresh"):
        assert words in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= 80


def test_a_narrow_terminal_goes_without_ids(server):
    with Terminal("status", env={**server.env, "COLUMNS": "62"}) as terminal:
        assert terminal.ends() == 0
    assert "1a2b3c4d" not in terminal.shown
    assert "signed out" in terminal.shown


NOT_SERVED = {
    "class": 2,
    "code": "tcp_port_busy",
    "message": "HTTP is not served on 127.0.0.1:4141: port 4141 is taken by another program",
    "hint": "See by which: ss -ltnp 'sport = :4141'; then run: mend",
}


@pytest.mark.parametrize(
    ("http", "told"),
    [
        ({"socket": True, "tcp": None, "error": None}, "HTTP on SOCKET"),
        (
            {"socket": True, "tcp": "127.0.0.1:4141", "error": None},
            "HTTP on SOCKET and 127.0.0.1:4141",
        ),
        (
            {"socket": True, "tcp": "127.0.0.1:4141", "error": NOT_SERVED},
            f"HTTP on SOCKET error: {NOT_SERVED['message']} hint: {NOT_SERVED['hint']}",
        ),
        ({"socket": False, "tcp": None, "error": None}, "HTTP on no socket"),
    ],
    ids=["socket", "tcp", "a port that is taken", "none"],
)
def test_where_http_is_served(server, http, told):
    server.answers["broker.status"] = {**STATUS, "http": http, "accounts": []}
    done = run("status", env=server.env)
    lines = done.stdout.splitlines()[2:-1]  # below who answers, above the accounts
    beside = str(Path(server.path).with_name("http.sock"))
    assert " ".join(" ".join(lines).split()) == told.replace("SOCKET", beside)


def test_one_account_of_several(server):
    done = run("status", "--account", "work", env=server.env)
    assert "hubot" in done.stdout
    assert "default: " not in done.stdout
    only = json.loads(run("status", "--account", "work", "--json", env=server.env).stdout)
    assert only == {**STATUS, "accounts": [HUBOT]}
    done = run("status", "--account", "wrok", env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("copilot-cred account list\n")


def test_without_accounts_names_the_next_step(server):
    server.answers["broker.status"] = {
        **STATUS,
        "accounts": [],
        "simulated": True,
        "config_problem": "line 3",
    }
    text = run("status", env=server.env).stdout
    assert text.endswith("copilot-cred login\n")
    assert "SIMULATED" in text
    assert "configuration not reloaded: line 3" in text


def test_as_json_is_what_the_broker_says(server):
    done = run("status", "--json", env=server.env)
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == STATUS


def test_an_older_broker_tells_less(server):
    known = ("name", "login", "host", "state", "token_id", "expires_in", "store", "default")
    old = {key: OCTOCAT[key] for key in known}
    server.answers["broker.status"] = {**STATUS, "accounts": [old]}
    done = run("status", env=server.env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n\ndefault: mode -, kept in secret-service\n")


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("secret-service", "kept in secret-service,"),
        ("file", "kept in file (not encrypted),"),
        ("memory", "kept in memory (until the broker stops),"),
        ("environment", "login from the broker's environment,"),
        ("credential", "login from a credential of the service,"),
    ],
)
def test_what_a_store_is_worth_is_said(server, store, told):
    server.answers["broker.status"] = {**STATUS, "accounts": [{**OCTOCAT, "store": store}]}
    assert told in run("status", env=server.env).stdout.replace("\n  ", " ")


def test_the_last_refusal_has_its_age_and_no_stale_advice_on_waiting(server):
    assert shown(server, refusal={**SLOW_DOWN, "ago": 130.0})[3:] == [
        "  2 min ago: GitHub Copilot answered 429: slow down",
        "    see: https://docs.github.com/limits",
        "    hint: wait",
    ]


def test_a_cool_down_has_its_end_and_its_reason(server):
    pacing = {**OCTOCAT["pacing"], "cooldown_in": 250.0, "reason": SLOW_DOWN}
    [line, why, url] = shown(server, pacing=pacing)[3:]
    said, until, _ = line.partition(" (until ")
    assert said == "  asks again in 4 min"
    assert until
    assert why == "    GitHub Copilot answered 429: slow down"
    assert url == "    see: https://docs.github.com/limits"


def test_what_is_held_back_fits_into_80_columns(server):
    reason = {**SLOW_DOWN, "message": "GitHub Copilot answered 429: " + "slow down " * 20}
    pacing = {**OCTOCAT["pacing"], "models": {f"m{n:02}" + "-long" * 9: 40.0 for n in range(12)}}
    lines = shown(server, pacing={**pacing, "reason": reason})[3:]
    assert max(map(len, lines)) < 80
    assert [line for line in lines if line.startswith("  asks m")] == [
        f"  asks m{n:02}{'-long' * 9} again in 40 s" for n in range(8)
    ]
    assert lines[-2] == "  and 4 more models later"


@pytest.mark.parametrize(
    ("hint", "left"),
    [
        ("Look at: copilot-cred status", ""),
        ("What is left, and until when: copilot-cred status --account a.b", ""),
        ("Ask again later; meanwhile: copilot-cred status", "Ask again later"),
        (
            "Raise it on github.com. What is left, and until when: copilot-cred status",
            "Raise it on github.com",
        ),
        ("Choose one: copilot-cred models", "Choose one: copilot-cred models"),
        (
            "Report it, with: copilot-cred status --json",
            "Report it, with: copilot-cred status --json",
        ),
    ],
)
def test_no_hint_leads_to_where_it_is_read(server, hint, left):
    found = shown(server, refusal={**SLOW_DOWN, "hint": hint, "ago": 5.0}, error=SLOW_DOWN)
    assert found[-2 if left else -1] == "    see: https://docs.github.com/limits"
    assert not left or found[-1] == f"    hint: {left}"


@pytest.mark.parametrize(
    ("held", "lines"),
    [
        ({}, []),
        ({"in_flight": 7}, []),
        ({"models": {"gpt-4.1": 40.0}}, ["  asks gpt-4.1 again in 40 s"]),
        ({"models": {"": 40.0}}, ["  asks what names no model again in 40 s"]),
        (
            {"circuit": "open"},
            ["  asks nothing for a moment, since one request after another failed"],
        ),
        (
            {"circuit": "half_open"},
            ["  tries with one request, since one after another failed"],
        ),
        (
            {"limit": 4, "in_flight": 4, "queued": 2},
            ["  asks at most 4 at a time: 4 under way, 2 waiting their turn"],
        ),
    ],
)
def test_what_is_held_back_is_said_and_nothing_else(server, held, lines):
    assert shown(server, pacing={**OCTOCAT["pacing"], **held})[3:] == lines


def quota(left, **more):
    return {"entitlement": 300, "percent_remaining": left, "overage": 0.0, **more}


QUOTA = {
    "premium_interactions": quota(57.4, resets_at="2026-12-01T00:00:00Z"),
    "chat": quota(100.0, entitlement=-1),
    "over": quota(0.0, overage=12.5),
    "billed": quota(0.0, overage_permitted=True, resets_at=1796083200),
    "odd": {"percent_remaining": "many", "entitlement": True},
    "wild": quota(float("inf"), entitlement=float("nan"), resets_at=1e300),
    "no": 7,
}


def test_quota_is_a_bar_for_each_kind(server):
    assert shown(server, quota=QUOTA)[3:] == [
        "  premium_interactions  [###########---------]  57 % left of 300, anew on 2026-12-01",
        "  chat                                          unlimited",
        "  over                  [--------------------]  0 % left of 300, 12.5 beyond it",
        "  billed                [--------------------]  0 % left of 300, what goes beyond it is billed, anew on 2026-12-01",
        "  odd                                           no figures",
        "  wild                                          no figures",
    ]
    assert shown(server, quota="much")[3:] == []


def test_quota_is_drawn_on_a_terminal(server):
    account = {**OCTOCAT, "quota": QUOTA}
    server.answers["broker.status"] = {**STATUS, "accounts": [account]}
    with Terminal("status", env={**server.env, "COLUMNS": "100"}) as terminal:
        assert terminal.ends() == 0
    assert "━" * 11 in terminal.shown
    assert "57 % left of 300" in terminal.shown
    assert "#" not in terminal.shown


def test_nothing_that_is_shown_drives_a_terminal(server):
    nasty = {
        "name": "a\x1b[2J",
        "login": "\x1b]0;x\x07",
        "sku": "\x9b2J",
        "quota": {"\x1bc": quota(1)},
    }
    nasty["pacing"] = {**OCTOCAT["pacing"], "models": {"\x1b[2J": 4.0}}
    lines = shown(server, **nasty)
    assert all(line.isprintable() for line in lines)
