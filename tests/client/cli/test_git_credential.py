"""`copilot-cred git-credential`: what git asks, what it is told, and by which git."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess

import pytest

from client.cli.running import COMMAND, PATIENCE, run
from copilot_broker.cli.git_credential import MAX_LINES, read_question
from copilot_broker.wire.codes import ErrorClass
from copilot_broker.wire.messages import ErrorInfo
from fakes.wire_server import WireServer


TOKEN = "tid=canary;exp=4000000000;sku=x:mac"
HOST = "api.individual.githubcopilot.com"
LEASE = {
    "token": TOKEN,
    "token_type": "bearer",
    "expires_at": 4_000_000_000,
    "expires_in": 1499.5,
    "api_base": f"https://{HOST}",
    "headers": {},
    "account": "default",
    "token_id": "1a2b3c4d",
    "clamped": False,
    "completions_base": "https://proxy.individual.githubcopilot.com",
    "cooldown_until": None,
}
KNOWS = "capability[]=authtype\n"
ANSWER = [
    "capability[]=authtype",
    "authtype=Bearer",
    f"credential={TOKEN}",
    "ephemeral=1",
    "password_expiry_utc=4000000000",
]


@pytest.fixture
def server():
    with WireServer({"token.get": dict(LEASE)}) as server:
        yield server


def ask(server, operation, stdin, *options):
    return run("git-credential", *options, operation, env=server.env, stdin=stdin)


def at(host, protocol="https", before=KNOWS, after=""):
    return f"{before}protocol={protocol}\nhost={host}\n{after}\n"


@pytest.mark.parametrize(
    "stdin",
    [
        at(HOST),
        at(HOST.upper()),
        at(f"{HOST}:443"),
        at("proxy.individual.githubcopilot.com"),
        at(HOST, after="path=a/b\nusername=me\nwwwauth[]=Bearer\nunheard-of=1\n"),
        at(HOST, before="capability[]=state\ncapability[]=authtype\n"),
        at(HOST).rstrip("\n"),
        at(HOST).replace("\n", "\r\n"),
        at(HOST) + "protocol=http\n",
    ],
    ids=["plain", "upper case", "port", "completions", "more", "two", "no end", "CRLF", "over"],
)
def test_the_accounts_own_hosts_get_a_bearer(server, stdin):
    done = ask(server, "get", stdin)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ANSWER
    assert server.calls("token.get") == [{"min_valid": 60.0}]


@pytest.mark.parametrize(
    ("stdin", "asks"),
    [
        (at("github.com"), 0),
        (at(HOST, protocol="http"), 0),
        (at(HOST, protocol="ssh"), 0),
        (at(HOST, before=""), 0),
        (at(HOST, before=KNOWS + "capability[]=\n"), 0),
        (at(f"{HOST}:80"), 1),
        (at(f"{HOST}:8443"), 1),
        (at("api.githubcopilot.com.example.org"), 1),
        (at(f"x@{HOST}"), 1),
        (at("api.githubcopilot.com"), 1),
        (at("127.0.0.1:8080", protocol="http"), 1),
        (at("127.0.0.1.example.org:80", protocol="http"), 0),
        (at(""), 0),
        ("", 0),
        ("\n" + at(HOST), 0),
        ("a=b\n" * MAX_LINES + at(HOST), 0),
        ("x" * 200_000, 0),
        ("\udcff\n", 0),
    ],
)
def test_everybody_else_gets_nothing_at_all(server, stdin, asks):
    done = run("git-credential", "get", env=server.env, stdin=stdin, errors="surrogateescape")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(server.calls("token.get")) == asks


def test_a_simulators_host_is_asked_as_the_broker_asks_it(server):
    server.answers["token.get"] = {**LEASE, "api_base": "http://127.0.0.1:4711"}
    assert ask(server, "get", at("127.0.0.1:4711", "http")).stdout.splitlines() == ANSWER
    assert ask(server, "get", at("127.0.0.1:4711", "https")).stdout == ""
    assert ask(server, "get", at("127.0.0.1:4712", "http")).stdout == ""


def test_another_account_may_be_named(server):
    ask(server, "get", at(HOST), "--account", "work")
    assert server.calls("token.get") == [{"min_valid": 60.0, "account": "work"}]


def test_a_broker_without_a_login_says_so_where_git_shows_it(server):
    hint = "Run: copilot-cred login"
    server.answers["token.get"] = ErrorInfo(ErrorClass.LOGIN_REQUIRED, "signed_out", "no", hint)
    done = ask(server, "get", at(HOST))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.endswith("copilot-cred login\n")
    assert ask(server, "get", at("github.com")).returncode == 0


def test_what_it_can_do(server):
    assert ask(server, "capability", "").stdout == "version 0\ncapability authtype\n"


REFUSED = f"authtype=Bearer\ncredential={TOKEN}\n"


@pytest.mark.parametrize("operation", ["store", "unheard-of"])
def test_what_makes_no_sense_is_a_silent_success(server, operation):
    done = ask(server, operation, at(HOST, after=REFUSED))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.requests == []


def test_a_refused_token_is_replaced(server):
    done = ask(server, "erase", at(HOST, after=REFUSED))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert server.requests == [("token.get", {"min_valid": 0.0, "reject": TOKEN})]


@pytest.mark.parametrize(
    "stdin",
    [at("github.com", after=REFUSED), at(HOST), at(HOST, after="username=a\npassword=b\n"),
     at(HOST, after=f"authtype=Basic\ncredential={TOKEN}\n")],
    ids=["elsewhere", "nothing", "a password", "no bearer"],
)  # fmt: skip
def test_what_was_not_ours_is_not_rejected(server, stdin):
    assert ask(server, "erase", stdin).returncode == 0
    assert server.requests == []


def test_erase_never_fails(server, tmp_path):
    server.answers["token.get"] = ErrorInfo(ErrorClass.TEMPORARY, "rate_limited", "no", "wait")
    done = ask(server, "erase", at(HOST, after=REFUSED))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    env = {**server.env, "COPILOT_BROKER_SOCKET": str(tmp_path / "none")}
    done = run("git-credential", "erase", env=env, stdin=at(HOST, after=REFUSED))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_question_shows_no_secret():
    question = read_question([line.encode() for line in at(HOST, after=REFUSED).splitlines()])
    assert question.refused == TOKEN
    assert "canary" not in repr(question)


# -- the real git ------------------------------------------------------------------------------

GIT = shutil.which("git")


def git(server, tmp_path, *arguments, stdin):
    helper = "!" + shlex.join([*COMMAND, "git-credential"])
    env = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    return subprocess.run(
        [GIT, "-c", "credential.helper=", "-c", f"credential.helper={helper}", *arguments],
        env={**server.env, **env},
        input=stdin,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def knows_bearers():
    version = subprocess.run([GIT, "version"], capture_output=True, text=True, check=True).stdout
    major, minor = re.findall(r"\d+", version)[:2]
    return (int(major), int(minor)) >= (2, 46)


@pytest.mark.skipif(GIT is None and not os.environ.get("CI"), reason="git is not installed")
def test_the_real_git_gets_what_it_understands(server, tmp_path):
    done = git(server, tmp_path, "credential", "fill", stdin=at(HOST))
    if knows_bearers():
        assert done.returncode == 0, done.stderr
        assert {*ANSWER, "protocol=https", f"host={HOST}"} == set(done.stdout.splitlines())
        done = git(server, tmp_path, "credential", "reject", stdin=done.stdout)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.calls("token.get")[-1]["reject"] == TOKEN
    else:
        assert done.returncode == 128
        assert "could not read Username" in done.stderr
        assert server.requests == []


@pytest.mark.skipif(GIT is None and not os.environ.get("CI"), reason="git is not installed")
def test_the_real_git_asks_its_other_helpers_for_all_else(server, tmp_path):
    other = "!f() { echo username=me; echo password=other; }; f"
    arguments = ["-c", f"credential.helper={other}", "credential"]
    done = git(server, tmp_path, *arguments, "fill", stdin=at("github.com"))
    assert done.returncode == 0, done.stderr
    assert "password=other" in done.stdout
    assert git(server, tmp_path, *arguments, "approve", stdin=done.stdout).stderr == ""
    assert server.requests == []
