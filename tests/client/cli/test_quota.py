"""`copilot-cred quota`: what is left, who says so, and the token that may read it."""

from __future__ import annotations

import json
import os

import pytest

from client.cli.running import COMMAND, WITHOUT_RICH, Terminal, run
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


PAT = "github_pat_11CANARY" + "a" * 40
REST = {"overage": 0.0, "overage_permitted": False, "unit": "requests", "resets_at": None}


def kind(entitlement=None, used=None, percent=None, **more):
    return {
        "entitlement": entitlement,
        "used": used,
        "remaining": None,
        "percent_remaining": percent,
        "unlimited": False,
        **REST,
        **more,
    }


KINDS = {
    "premium_interactions": kind(300, 123.45, 58.85, resets_at="2026-12-01T00:00:00Z"),
    "chat": kind(unlimited=True),
    "completions": kind(-1, 40, 100.0),
}
ANSWER = {
    "account": "default",
    "host": "github.com",
    "login": "octocat",
    "source": "seat",
    "age": 130.0,
    "plan": "individual_pro",
    "sku": "monthly_subscriber",
    "tier": "",
    "has_pat": True,
    "kinds": KINDS,
    "models": {"gpt-5": 120.25, "o3": 3.2, "o4": 7.0},
    "tried": [
        {
            "source": "billing",
            "outcome": "failed",
            "class": 5,
            "code": "pat_permission",
            "message": "GitHub's billing pages answered 403",
            "hint": "give the token the permission Plan: copilot-cred quota set-pat",
            "url": "https://github.com/settings/personal-access-tokens",
        },
        {"source": "seat", "outcome": "used"},
        {"source": "headers", "outcome": "added"},
        {"source": "token", "outcome": "not_needed"},
    ],
}
WELL = {**ANSWER, "tried": ANSWER["tried"][1:2]}
STATUS = {
    "accounts": [
        {"name": "default", "login": "octocat", "host": "github.com", "default": True},
        {"name": "work", "login": "hubot", "host": "acme.ghe.com", "default": False},
        {"name": "other", "login": "hubot", "host": "github.com", "default": False},
    ]
}


@pytest.fixture
def server(tmp_path):
    answers = {
        "quota.get": WELL,
        "quota.set_pat": WELL,
        "quota.forget_pat": {"account": "default", "forgotten": True},
        "broker.status": STATUS,
    }
    with WireServer(answers) as server:
        server.environ = {**server.env, "HOME": str(tmp_path), "TZ": "UTC"}
        yield server


def bars(server, **kinds):
    """Return the lines between the account's and the source's."""
    server.answers["quota.get"] = {**WELL, "kinds": kinds}
    done = run("quota", env=server.environ)
    assert (done.returncode, done.stderr) == (0, "")
    return [" ".join(line.split()) for line in done.stdout.splitlines()[1:-1]]


def test_for_people(server):
    done = run("quota", env=server.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "octocat on github.com (account default), plan individual_pro",
        "  premium_interactions  [############--------]  123.45 of 300 used, 59 % left, anew on 2026-12-01",
        "  chat                                          unlimited",
        "  completions                                   unlimited, 40 used",
        "told by the account's Copilot seat 2 min ago",
    ]
    assert server.calls("quota.get") == [{}]
    assert server.calls("broker.status") == []


@pytest.mark.parametrize("command", [COMMAND, WITHOUT_RICH], ids=["rich", "plain"])
def test_a_terminal_shows_the_same(server, command):
    environ = {**server.environ, "COLUMNS": "120"}
    with Terminal("quota", env=environ, command=command) as terminal:
        assert terminal.ends() == 0
    for words in ("individual_pro", "59 % left", "unlimited", "2 min ago"):
        assert words in terminal.shown


@pytest.mark.parametrize(
    ("counted", "words"),
    [
        (kind(300, 300, 0.0), "[--------------------] 300 of 300 used, 0 % left"),
        (
            kind(300, 320, -6.7, overage=20.0),
            "[--------------------] 320 of 300 used, 0 % left, 20 beyond it",
        ),
        (kind(300, 299.67), "[--------------------] 299.67 of 300 used, less than 1 % left"),
        (kind(300, 0.5), "[####################] 0.5 of 300 used, 99 % left"),
        (kind(300, 0), "[####################] 0 of 300 used, 100 % left"),
        (kind(0, 0, 100.0), "none in this plan"),
        (
            kind(7000, 1400, unit="credits"),
            "[################----] 1400 of 7000 credits used, 80 % left",
        ),
        (kind(1_500_000, 0, 100.0), "[####################] 0 of 1500000 used, 100 % left"),
        (kind(300, None, None, remaining=150), "[##########----------] 50 % left of 300"),
        (kind(None, 12.25), "12.25 used, of how many is not told"),
        (kind(300), "300, how many are used is not told"),
        (kind(None, None, 50.0), "[##########----------] 50 % left"),
        (kind(0, 0, 0.0), "[--------------------] 0 of 0 used, 0 % left"),
        (kind(0, 0), "0 of 0 used"),
        (kind(), "no figures"),
        (kind(remaining=0.0, blocked=True), "0 left"),
        (kind(blocked=True), "0 left"),
        (kind(remaining=12.5), "12.5 left"),
        (kind("unknown", "unknown", "unknown", remaining="unknown"), "no figures"),
        (
            kind(300, 300, 0.0, overage_permitted=True),
            "[--------------------] 300 of 300 used, 0 % left, what goes beyond it is billed",
        ),
        (kind(True, [], {}, remaining=None, unlimited=None, unit=3), "no figures"),
    ],
)
def test_each_figure_that_github_is_known_to_send_reads_well(server, counted, words):
    assert bars(server, counted=counted) == [f"counted {words}"]


def test_an_answer_of_nonsense_is_no_defect(server):
    assert bars(server, a=1, b=None, c=[]) == []
    assert bars(server) == ["no figures"]
    server.answers["quota.get"] = {
        "source": "later",
        "kinds": [],
        "age": True,
        "models": 4,
        "tried": 8,
    }
    done = run("quota", "-v", env=server.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "default\n  no figures\ntold by later just now\n"


def test_options_are_handed_on_and_json_is_the_whole_answer(server):
    options = ("--account", "work", "--fresh", "--tier", "pro+")
    done = run("quota", *options, "--json", env=server.environ)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert json.loads(done.stdout) == WELL
    assert server.calls("quota.get") == [{"account": "work", "fresh": True, "tier": "pro+"}]


def test_who_has_no_copilot_is_told_so(server):
    server.answers["quota.get"] = {**ANSWER, "kinds": {}, "sku": "no_access"}
    done = run("quota", env=server.environ)
    assert done.returncode == 0
    assert (
        done.stdout.splitlines()[1] == "  no figures: GitHub says that this person has no Copilot"
    )


def test_verbose_says_who_did_not_answer_and_why(server):
    server.answers["quota.get"] = ANSWER
    done = run("quota", "-v", env=server.environ)
    assert done.stdout.splitlines()[-2:] == [
        "told by the account's Copilot seat 2 min ago; the rest by Copilot, beside its",
        "  last answers",
    ]
    assert done.stderr.splitlines() == [
        "by model: gpt-5 120.25, o3 3.2, o4 7",
        "billing: GitHub's billing pages answered 403",
        "  see: https://github.com/settings/personal-access-tokens",
        "  hint: give the token the permission Plan: copilot-cred quota set-pat",
        "token: not needed",
    ]


def test_a_source_that_failed_is_hinted_at(server):
    server.answers["quota.get"] = ANSWER
    done = run("quota", "--account", "work", env=server.environ)
    assert done.stderr.endswith("why: copilot-cred quota -v --account work\n")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "headers", "age": None}, "told by Copilot, beside its last answers"),
        ({"source": "billing", "age": 0.2}, "told by GitHub's billing pages just now"),
        (
            {"tier": "pro+"},
            "told by the account's Copilot seat 2 min ago; that the plan is pro+ is only",
        ),
        ({"source": "token"}, "told by the account's Copilot token 2 min ago"),
    ],
)
def test_who_says_it_and_when(server, changes, words):
    server.answers["quota.get"] = {**WELL, **changes}
    assert words in run("quota", env=server.environ).stdout.splitlines()


def test_where_nobody_tells_all_reasons_are_said(server):
    server.answers["quota.get"] = {**ANSWER, "source": None, "kinds": {}}
    done = run("quota", "--account", "work", env=server.environ)
    assert (done.returncode, done.stdout) == (7, "")
    assert "billing: GitHub's billing pages answered 403" in done.stderr
    assert done.stderr.endswith("copilot-cred quota set-pat --account work\n")


@pytest.mark.parametrize("error_class", ErrorClass)
def test_a_refusal_ends_it_by_its_class(server, error_class):
    server.answers["quota.get"] = ErrorInfo(error_class, "c", "no", "then: copilot-cred status")
    done = run("quota", env=server.environ)
    assert (done.returncode, done.stdout) == (int(error_class), "")
    assert done.stderr.endswith("then: copilot-cred status\n")


# -- the token ---------------------------------------------------------------------------------


def test_set_pat_reads_stdin(server):
    done = run("quota", "set-pat", env=server.environ, stdin=f" {PAT}\n")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Kept for default. To see what is left: copilot-cred quota\n"
    assert server.calls("quota.set_pat") == [{"pat": PAT}]


def test_set_pat_says_so_if_the_pages_tell_nothing(server):
    nothing = {"source": "billing", "outcome": "nothing", "class": 7, "code": "nothing_billed"}
    nothing |= {"message": "an organization pays", "hint": "then: copilot-cred quota forget-pat"}
    server.answers["quota.set_pat"] = {**ANSWER, "tried": [nothing, *WELL["tried"]]}
    done = run("quota", "set-pat", env=server.environ, stdin=PAT)
    assert done.returncode == 0
    assert done.stderr.splitlines()[1:] == [
        "billing: an organization pays",
        "  hint: then: copilot-cred quota forget-pat",
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ("quota", "set-pat", "--account", "work"),
        ("quota", "--account", "work", "set-pat"),
    ],
)
def test_set_pat_is_for_the_account_named_wherever_it_stands(server, argv):
    assert run(*argv, env=server.environ, stdin=PAT).returncode == 0
    assert server.calls("quota.set_pat") == [{"pat": PAT, "account": "work"}]


def test_set_pat_asks_on_a_terminal_and_shows_nothing(server):
    with Terminal("quota", "set-pat", env=server.environ) as terminal:
        terminal.wait_for(r"Fine-grained token \(not shown\): ")
        terminal.press(f"{PAT}\n")
        assert terminal.ends() == 0
    assert "CANARY" not in terminal.shown
    assert server.calls("quota.set_pat") == [{"pat": PAT}]


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        ("", "is empty"),
        ("ghp_" + "CANARY" * 6, "classic personal access token"),
        ("gho_" + "CANARY" * 6, "not a fine-grained personal access token"),
        (f"{PAT} {PAT}", "not a single token"),
        (PAT * 30, "not a GitHub token"),
    ],
)
def test_what_is_no_such_token_never_leaves(server, stdin, words):
    done = run("quota", "set-pat", env=server.environ, stdin=stdin)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.endswith("copilot-cred quota set-pat --help\n")
    assert "CANARY" not in done.stderr
    assert server.requests == []


@pytest.mark.shows_secrets("a person types a token as an argument")
def test_a_token_on_the_command_line_is_refused_and_not_repeated(server):
    done = run("quota", "set-pat", PAT, env=server.environ)
    assert done.returncode == 2
    assert "CANARY" not in done.stderr
    assert server.requests == []


def test_forget_pat_says_where_it_is_deleted(server):
    done = run("quota", "forget-pat", "--account", "work", env=server.environ)
    assert (done.returncode, done.stdout) == (0, "")
    assert "https://github.com/settings/personal-access-tokens" in done.stderr
    assert server.calls("quota.forget_pat") == [{"account": "work"}]
    server.answers["quota.forget_pat"] = {"account": "default", "forgotten": False}
    assert run("quota", "forget-pat", env=server.environ).stderr == "None was kept.\n"


# -- what opencode-mystatus keeps --------------------------------------------------------------


def keep(tmp_path, text, mode=0o600):
    place = tmp_path / ".config/opencode/copilot-quota-token.json"
    place.parent.mkdir(parents=True)
    place.write_text(text)
    place.chmod(mode)
    return place


def kept(**changes):
    return json.dumps({"token": PAT, "username": "OctoCat", "tier": "pro+", **changes})


def test_its_token_is_sent_along(server, tmp_path):
    place = keep(tmp_path, kept())
    before = place.stat()
    done = run("quota", "-v", env=server.environ)
    assert done.returncode == 0
    assert server.calls("quota.get") == [{"pat": PAT, "tier": "pro+"}]
    run("quota", "--tier", "max", env=server.environ)
    assert server.calls("quota.get")[1] == {"pat": PAT, "tier": "max"}
    assert "CANARY" not in done.stdout + done.stderr
    assert place.read_text() == kept()
    assert place.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("account", "reason"),
    [
        ("work", "it is one of github.com"),
        ("other", "it is OctoCat's, not hubot's"),
        ("none", ""),
    ],
)
def test_it_never_goes_to_another_host_or_user(server, tmp_path, account, reason):
    keep(tmp_path, kept())
    done = run("quota", "-v", "--account", account, env=server.environ)
    assert server.calls("quota.get") == [{"account": account}]
    assert reason in done.stderr


def test_a_file_without_user_name_and_tier_is_enough(server, tmp_path):
    keep(tmp_path, kept(username=None, tier=["pro"]))
    assert run("quota", env=server.environ).returncode == 0
    assert server.calls("quota.get") == [{"pat": PAT}]


def test_who_may_not_send_it_asks_without(server, tmp_path):
    keep(tmp_path, kept())
    denied = ErrorInfo(ErrorClass.DENIED, "scope_too_low", "this connection may not", "see")
    server.answers["quota.get"] = lambda params: denied if "pat" in params else WELL
    done = run("quota", env=server.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.calls("quota.get")[-1] == {"tier": "pro+"}


def test_any_other_denial_stands(server, tmp_path):
    keep(tmp_path, kept())
    denied = ErrorInfo(ErrorClass.DENIED, "account_not_granted", "no", "copilot-cred grants")
    server.answers["quota.get"] = denied
    assert run("quota", env=server.environ).returncode == 5
    assert len(server.calls("quota.get")) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_open_to_others_is_not_used_and_that_is_said(server, tmp_path, mode):
    place = keep(tmp_path, kept(), mode)
    done = run("quota", env=server.environ)
    assert done.returncode == 0
    assert f"chmod 600 {place}" in done.stderr
    assert server.calls("quota.get") == [{}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "it is no JSON"),
        ("\x00\xff", "it is no JSON"),
        ("[" * 5000, "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("{}", "its token is missing"),
        (kept(token=""), "its token is empty"),
        (kept(token="gho_CANARY"), "its token is not a fine-grained"),
        (kept(username="x" * 70_000), "it has more than 64 KiB"),
    ],
)
def test_a_broken_file_is_told_of_only_to_those_who_want_to_know(server, tmp_path, text, reason):
    keep(tmp_path, text)
    assert run("quota", env=server.environ).stderr == ""
    done = run("quota", "-v", env=server.environ)
    assert done.returncode == 0
    assert reason in done.stderr
    assert "CANARY" not in done.stderr
    assert server.calls("quota.get") == [{}, {}]


def test_a_link_fifo_or_folder_is_never_read(server, tmp_path):
    place = keep(tmp_path, kept())
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert "it is a link" in run("quota", "-v", env=server.environ).stderr
    place.unlink()
    os.mkfifo(place, 0o600)
    assert "it is no regular file" in run("quota", "-v", env=server.environ).stderr
    place.unlink()
    place.mkdir(0o700)
    done = run("quota", "-v", env=server.environ)
    assert (done.returncode, "is not read: Is a directory" in done.stderr) == (0, True)
    assert server.calls("quota.get") == [{}, {}, {}]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a file to another user")
def test_a_file_of_another_user_is_not_used(server, tmp_path):
    os.chown(keep(tmp_path, kept()), 4711, 4711)
    done = run("quota", env=server.environ)
    assert "it belongs to uid 4711" in done.stderr
    assert server.calls("quota.get") == [{}]
