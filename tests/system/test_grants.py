"""`[[grant]]` rules of the configuration, with real units, sockets and users.

Whatever a rule takes away is refused before anything goes upstream, and `copilot-cred grants` names
the line that says so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from brokerd.core import audit
from system.github import EXCHANGE
from system.neighbour import SECOND_UID, as_second, within_reach
from system.scripted import CHAT, CONFIG, JSON_ERRORS, error_of, good, refused, reloaded
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from system.github import GitHub
    from system.session import Session


EDITOR = "editor-x.service"
IN_A_UNIT = ("systemd-run", "--user", "--wait", "--collect", "--pipe", "--quiet")
HELLO = ("chat", "--model", "sim-chat", "hello")
OTHER = ("chat", "--model", "sim-claude", "hello")
SANDBOX_UNIT = "copilot-broker@sandbox.socket"
RELOADED = "configuration reloaded"


class Ruled:
    """A signed-in daemon whose rules are written while it runs."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.cred = f"{session.home}/.local/bin/copilot-cred"
        self._base = session.good("cat", CONFIG)

    def rules(self, *rules: str) -> list[str]:
        """Have these rules, one line a key, and no others; return where each of them stands."""
        assert self.write(*rules) == RELOADED
        lines = self.session.good("cat", CONFIG).splitlines()
        return [f"config.toml:{at}" for at, line in enumerate(lines, 1) if line == "[[grant]]"]

    def write(self, *rules: str) -> str:
        """Write them and reload; return what the daemon says of it."""
        tables = "".join("[[grant]]\n" + rule.replace("; ", "\n") + "\n" for rule in rules)
        self.session.write(CONFIG, self._base + tables)
        return reloaded(self.session)

    def editor(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `copilot-cred` in a service of its own, as an editor's."""
        unit = (*IN_A_UNIT, f"--unit={EDITOR}", "--", self.cred)
        return self.session.run(*unit, *JSON_ERRORS, *arguments)

    def editor_is_refused(self, *arguments: str) -> dict[str, Any]:
        done = self.editor(*arguments)
        assert (done.returncode, done.stdout) != (0, ""), done
        return error_of(done)

    def explained(self, *about: str) -> dict[str, Any]:
        return dict(json.loads(good(self.session, "grants", "--json", *about)))


def effects(answer: dict[str, Any]) -> dict[str, str]:
    return {step["where"]: step["effect"] for step in answer["steps"]}


@pytest.fixture
def ruled(signed_in: Session) -> Ruled:
    return Ruled(signed_in)


# What a rule may say of a unit.


def test_a_unit_that_may_have_completions_is_lent_no_token(ruled: Ruled) -> None:
    session = ruled.session
    assert ruled.editor("get").stdout.startswith("tid=")
    (where,) = ruled.rules('unit = "editor-*"; scope = "complete"')
    error = ruled.editor_is_refused("get")
    assert (error["class"], error["code"]) == (5, "scope_too_low")
    assert error["hint"].endswith("copilot-cred grants")
    assert "hello" in ruled.editor(*HELLO).stdout
    assert ruled.editor("status").returncode == 0
    assert ruled.editor_is_refused("logout")["code"] == "scope_too_low"
    assert good(session, "get").startswith("tid="), "nobody else is meant"

    told = json.loads(ruled.editor("grants", "--json").stdout)
    assert (told["scope"], told["peer"]["unit"]) == ("complete", EDITOR)
    by_unit = ruled.explained("--unit", EDITOR)
    assert (by_unit["scope"], by_unit["admitted"]) == ("complete", True)
    assert effects(by_unit)[where].startswith("leaves at most complete")
    assert effects(ruled.explained()) == {"listener rpc": "gives admin"}
    said = good(session, "grants", "--unit", EDITOR)
    assert where in said
    assert "get, watch" in said.partition("may not:")[2]
    (rule,) = ruled.explained("--list")["rules"]
    assert rule == {"where": where, "who": {"unit": "editor-*"}, "what": {"scope": "complete"}}


def test_a_process_that_runs_is_explained_by_its_pid(ruled: Ruled) -> None:
    session = ruled.session
    (where,) = ruled.rules('unit = "editor-*"; scope = "status"')
    unit = "editor-runs.service"
    session.good("systemd-run", "--user", "--quiet", "--collect", f"--unit={unit}", "sleep", "60")
    try:
        pid = session.show("MainPID", unit)
        told = ruled.explained("--pid", pid)
        assert (told["peer"]["unit"], told["peer"]["comm"]) == (unit, "sleep")
        assert (told["scope"], where in effects(told)) == ("status", True)
    finally:
        session.systemctl("stop", unit)
    done = session.cred(*JSON_ERRORS, "grants", "--pid", pid)
    assert (done.returncode, json.loads(done.stderr)["code"]) == (2, "no_such_process"), done


def test_a_unit_that_may_use_some_models_asks_for_no_other(ruled: Ruled, github: GitHub) -> None:
    (where,) = ruled.rules('unit = "editor-*"; models = ["sim-chat", "gpt-*"]')
    assert "hello" in ruled.editor(*HELLO).stdout
    asked = github.asked(CHAT)
    assert asked == 1
    error = ruled.editor_is_refused(*OTHER)
    assert (error["class"], error["code"]) == (5, "model_not_granted")
    assert "'sim-claude'" in error["message"]
    assert "sim-chat, gpt-*" in error["message"]
    body = json.dumps({"model": "sim-claude", "max_tokens": 9, "messages": []})
    error = ruled.editor_is_refused("api", "/v1/messages", "--body", body)
    assert error["code"] == "model_not_granted"
    nameless = ruled.editor_is_refused("api", CHAT, "--body", '{"messages": []}')
    assert nameless["code"] == "model_not_granted"
    assert (github.asked(CHAT), github.asked("/v1/messages")) == (asked, 0)
    assert ruled.editor_is_refused("get")["code"] == "scope_too_low", "a token knows no models"
    assert "hello" in good(ruled.session, *OTHER)
    told = ruled.explained("--unit", EDITOR)
    assert (told["scope"], told["models"]) == ("complete", ["sim-chat", "gpt-*"]), told
    assert where in effects(told)


def test_a_unit_that_may_use_one_account_reaches_no_other(ruled: Ruled, github: GitHub) -> None:
    session = ruled.session
    github.world.settings.change({"login": "hubot", "user_id": 1})
    good(session, "login", "--account", "work")
    (where,) = ruled.rules('unit = "editor-*"; accounts = ["work"]')
    asked = github.asked(EXCHANGE), github.asked(CHAT)
    for verb in (("get",), HELLO, ("models",), ("quota",), ("get", "--account", "default")):
        error = ruled.editor_is_refused(*verb)
        assert (error["class"], error["code"]) == (5, "account_not_granted"), verb
        assert "granted: work" in error["message"]
    assert (github.asked(EXCHANGE), github.asked(CHAT)) == asked
    lease = json.loads(ruled.editor("get", "--format", "json", "--account", "work").stdout)
    assert lease["account"] == "work"
    assert "hello" in ruled.editor(*HELLO, "--account", "work").stdout
    assert ruled.editor_is_refused("logout", "--account", "work")["code"] == "scope_too_low"
    assert json.loads(good(session, "get", "--format", "json"))["account"] == "default"
    assert (ruled.explained("--unit", EDITOR)["accounts"], where != "") == (["work"], True)


# Asks for tokens on one connection until it is refused, then for a completion; prints how many it
# got, how long that took, and both refusals.
UNTIL_REFUSED = """
import json, time
from copilot_broker import Client, CopilotBrokerError

began, served, refused = time.monotonic(), 0, []
with Client(timeout=20) as client:
    while not refused and served < 1000:
        try:
            client.token()
            served += 1
        except CopilotBrokerError as error:
            refused.append([error.code, error.retry_after])
    took = time.monotonic() - began
    try:
        client.complete({"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]})
    except CopilotBrokerError as error:
        refused.append([error.code, error.retry_after])
print(json.dumps([served, took, refused]))
"""


def test_requests_a_minute_are_counted_together(
    ruled: Ruled, github: GitHub, installed: Path
) -> None:
    session = ruled.session
    (where,) = ruled.rules("requests_per_minute = 60")
    good(session, "models")  # its list is asked for now and then, and is no completion
    before = len(github.world.requests)
    program = (str(installed / "bin/python"), "-c", UNTIL_REFUSED)
    served, took, refusals = json.loads(session.good(*program))
    assert 60 <= served <= 61 + took, "and one more for each second that it took"
    assert [code for code, _ in refusals] == ["request_rate"] * 2
    assert all(0 < after <= 1 for _, after in refusals), refusals

    ruled.rules("requests_per_minute = 1")
    good(session, "get")
    for verb in (("get",), HELLO):
        error = refused(session, *verb)
        assert (error["class"], error["code"]) == (7, "request_rate")
        assert error["message"].startswith(f"{where} allows 1 requests a minute")
        assert 0 < error["retry_after"] <= 60
    assert len(github.world.requests) == before, "nothing went upstream"
    good(session, "status")  # is not counted
    assert ruled.explained()["requests_per_minute"] == 1


def test_a_sandbox_that_a_rule_names_is_known_by_its_unit(ruled: Ruled) -> None:
    ruled.rules('sandbox = "flatpak"; scope = "status"')

    def in_scope(unit: str) -> subprocess.CompletedProcess[str]:
        # a scope takes its first process from where it is, which the manager may do in its own
        scope = ("systemd-run", "--user", "--scope", "--quiet", f"--unit={unit}")
        return ruled.session.run(*IN_A_UNIT, "--", *scope, ruled.cred, *JSON_ERRORS, "get")

    error = error_of(in_scope("app-flatpak-org.example.Edit-4242"))
    assert (error["class"], error["code"]) == (5, "scope_too_low")
    for unit in ("snap.editor.editor-0d1e2f", "app-gnome-org.example.Edit-4242"):
        assert in_scope(unit).stdout.startswith("tid="), unit
    ruled.rules('sandbox = "any"; scope = "status"')
    assert error_of(in_scope("snap.editor.editor-0d1e2f"))["code"] == "scope_too_low"
    assert in_scope("app-gnome-org.example.Edit-4242").stdout.startswith("tid=")


# Rules that change while somebody is connected.

# Prints each change of what one connection gets, and which sockets it had all along.
HELD_OPEN = """
import os, sys, time
from copilot_broker import Client, CopilotBrokerError

def sockets():
    names = (f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd"))
    return {link for name in names if os.path.islink(name)
            and (link := os.readlink(name)).startswith("socket:")}

deadline, last = time.monotonic() + 60, None
with Client(timeout=20) as client:
    client.token()
    ours = sockets()
    while time.monotonic() < deadline and not os.path.exists(sys.argv[1]):
        try:
            client.token()
            now = "lent"
        except CopilotBrokerError as error:
            now = error.code
        if now != last:
            print(now, flush=True)
        last = now
        time.sleep(0.02)  # another process's state: there is nothing to wait on
    print("the same" if sockets() == ours else "another one", flush=True)
"""


def test_a_reload_changes_what_an_open_connection_may_do(ruled: Ruled, installed: Path) -> None:
    session = ruled.session
    stop = f"{session.home}/enough"
    session.good("rm", "-f", stop)
    held = ("--unit=held-open", "--", str(installed / "bin/python"), "-c", HELD_OPEN, stop)
    with session.spawn(*IN_A_UNIT, *held) as process:
        assert process.stdout is not None
        told = process.stdout
        assert told.readline() == "lent\n"
        ruled.rules('unit = "held-*"; scope = "complete"')
        assert told.readline() == "scope_too_low\n"
        ruled.rules('unit = "other-*"; scope = "complete"')
        assert told.readline() == "lent\n"
        session.good("touch", stop)
        assert told.readline() == "the same\n"
        assert process.wait(timeout=20) == 0
    (record, *_) = session.journal(f"MESSAGE_ID={audit.GRANTS_CHANGED.message_id}")[-2:]
    assert record["COUNT"] == "1"


def test_a_watch_gets_no_token_that_new_rules_withhold(ruled: Ruled) -> None:
    session = ruled.session
    watch = ("--unit=watcher-x", "--", ruled.cred, *JSON_ERRORS, "watch", "--json")
    with session.spawn(*IN_A_UNIT, *watch) as watching:
        try:
            assert watching.stdout is not None
            first = json.loads(watching.stdout.readline())
            assert (first["event"], first["token"][:4]) == ("token", "tid=")
            ruled.rules('unit = "watcher-*"; scope = "complete"')
            good(session, "refresh")
            rest, said = watching.communicate(timeout=30)
        finally:
            watching.terminate()
    assert "tid=" not in rest
    error = json.loads(said.strip().splitlines()[-1])
    assert (watching.returncode, error["code"]) == (5, "scope_too_low"), (rest, said)


# A further socket.


@pytest.fixture
def sandbox(ruled: Ruled) -> Iterator[Ruled]:
    """Beside its own sockets the daemon has another one."""
    session = ruled.session
    session.systemctl("stop", SERVICE)
    session.systemctl("start", SANDBOX_UNIT)
    session.systemctl("restart", SERVICE)
    yield ruled
    session.systemctl("stop", SERVICE, SANDBOX_UNIT)


def test_a_further_socket_tells_how_the_broker_is_until_a_rule_says_more(
    sandbox: Ruled,
) -> None:
    session = sandbox.session
    path = f"{session.runtime}/copilot-broker/sandbox.sock"
    assert session.good("stat", "--format=%a", path).strip() == "600"

    def through(*arguments: str) -> subprocess.CompletedProcess[str]:
        address = ("env", f"COPILOT_BROKER_SOCKET={path}")
        return session.run(*address, sandbox.cred, *JSON_ERRORS, *arguments)

    told = json.loads(through("status", "--json").stdout)
    assert told["accounts"][0]["login"] == "octocat"
    for verb in (("get",), HELLO, ("logout",)):
        error = error_of(through(*verb))
        assert (error["class"], error["code"]) == (5, "scope_too_low"), verb
    explained = json.loads(through("grants", "--json").stdout)
    assert (explained["listener"], explained["scope"]) == ("sandbox", "status")
    assert sorted(sandbox.explained("--list")["listeners"]) == ["http", "rpc", "sandbox"]

    (where,) = sandbox.rules('listener = "sandbox"; scope = "token"')
    assert through("get").stdout.startswith("tid=")
    assert "hello" in through(*HELLO).stdout
    assert error_of(through("logout"))["code"] == "scope_too_low"
    assert sandbox.explained("--listener", "sandbox")["scope"] == "token"
    assert where in effects(json.loads(through("grants", "--json").stdout))
    good(session, "refresh")  # rpc gives what it gave
    for verb in ("stop", "start"):
        session.systemctl(verb, SERVICE)
    assert through("get").stdout.startswith("tid="), "a restart keeps it"


# Another user. The library would not talk to a socket of somebody else's: these are the bytes.

ASK = """
import json, socket, sys
import msgpack
answers = {}
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(20)
    s.connect(sys.argv[1])
    unpacker = msgpack.Unpacker()
    try:
        for number, (method, params) in enumerate(json.loads(sys.argv[2]).items()):
            s.sendall(msgpack.packb([0, number, method, [params]]))
            answer = None
            while answer is None or answer[:2] != [1, number]:
                answer = next(unpacker, None)
                if answer is None:
                    data = s.recv(65536)
                    if not data:
                        raise ConnectionResetError
                    unpacker.feed(data)
            error = answer[2]
            answers[method] = error["code"] if error else "done"
    except (BrokenPipeError, ConnectionResetError):
        answers["end"] = "closed"
print(json.dumps(answers))
"""
QUESTIONS = {
    "broker.status": {},
    "completion.create": {
        "path": CHAT,
        "body": json.dumps(
            {"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]}
        ),
    },
    "token.get": {},
    "broker.refresh": {},
    "quota.set_pat": {"pat": "none"},
    "grant.list": {},
    "key.create": {"name": "theirs"},
    "account.logout": {},
}
UP_TO = {"status": 1, "complete": 2, "token": 3, "admin": 3}
"""How many of the questions somebody else is answered, by what the rule says: never an admin's."""


def test_another_user_gets_what_a_rule_says_and_is_never_admin(
    ruled: Ruled, installed: Path
) -> None:
    session = ruled.session
    program = (str(installed / "bin/python"), "-c", ASK, session.rpc, json.dumps(QUESTIONS))

    def asked() -> dict[str, str]:
        return dict(json.loads(session.good(*as_second(*program), root=True)))

    with within_reach(session):
        assert asked() == {"end": "closed"}
        for scope, count in UP_TO.items():
            ruled.rules(f'uid = {SECOND_UID}; scope = "{scope}"')
            expected = ["done"] * count + ["scope_too_low"] * (len(QUESTIONS) - count)
            assert asked() == dict(zip(QUESTIONS, expected, strict=True)), scope
        # what the socket gives and what other rules take away hold for them, too
        ruled.rules(f'uid = {SECOND_UID}; scope = "token"', 'listener = "rpc"; models = ["gpt-*"]')
        assert asked()["completion.create"] == "model_not_granted"
        assert asked()["token.get"] == "scope_too_low"
        # a rule that names a label lets nobody in; root is another user as well
        ruled.rules(f'uid = {SECOND_UID}; scope = "token"')
        root_told = session.good(*program, root=True)
        assert json.loads(root_told) == {"end": "closed"}
        ruled.rules()
        assert asked() == {"end": "closed"}
    assert good(session, "get").startswith("tid="), "still signed in"

    def lent() -> list[dict[str, Any]]:
        of_this_test = f"_PID={session.main_pid()}"
        found = session.journal(f"MESSAGE_ID={audit.TOKEN_GRANTED.message_id}", of_this_test)
        return [each for each in found if each["PEER_UID"] == str(SECOND_UID)]

    assert len(eventually(lambda: lent() if len(lent()) == 2 else [])) == 2
    explained = ruled.explained("--uid", str(SECOND_UID))
    assert (explained["admitted"], explained["error"]["code"]) == (False, "uid_not_allowed")


# Rules that cannot be meant.

BROKEN = {
    "an unknown key": 'unit = "editor-*"; scop = "status"',
    "an unknown scope": 'unit = "editor-*"; scope = "root"',
    "nothing taken away": 'unit = "editor-*"',
    "models beside a token": 'scope = "token"; models = ["gpt-*"]',
    "more than http gives": 'listener = "http"; scope = "token"',
    "a user and no scope": "uid = 1001; requests_per_minute = 5",
}


def test_a_broken_rule_is_named_by_its_line_and_changes_nothing(ruled: Ruled) -> None:
    session = ruled.session
    ruled.rules('unit = "editor-*"; scope = "complete"')
    brokerd = f"{session.home}/.local/bin/copilot-brokerd"
    assert session.run(brokerd, "--check-config").returncode == 0
    for name, rule in BROKEN.items():
        assert ruled.write(rule) != RELOADED, name
        lines = session.good("cat", CONFIG).splitlines()
        first = lines.index("[[grant]]") + 1
        problem = session.status()["config_problem"]
        assert any(f"line {at}:" in problem for at in range(first, len(lines) + 1)), problem
        assert "grant" in problem
        checked = session.run(brokerd, "--check-config")
        assert checked.returncode == 2, name
        assert problem in " ".join(checked.stderr.split()), name
        assert ruled.editor_is_refused("get")["code"] == "scope_too_low", "the old rules hold"
    ruled.rules()
    assert session.status()["config_problem"] is None
    assert ruled.editor("get").stdout.startswith("tid=")
