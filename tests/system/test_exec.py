"""`copilot-cred exec -- COMMAND`: an address and a key for one run, which end with its process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from brokerd.core import audit
from system.http_door import (
    DIALECTS,
    WAYS,
    Answer,
    address_of,
    ask,
    code_of,
    completions,
    free_port,
    new_key,
    with_tcp,
)
from system.neighbour import as_second
from system.scripted import error_of, good
from system.session import SERVICE, eventually
from system.test_http_tcp import BARE, KNOCK


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from system.github import GitHub
    from system.session import Session


AT_ONCE = 1.0
"""Seconds that an address and a key may outlive their process."""

STATE = ".local/state/copilot-broker/runs.json"

WAITS = """
import json, os, sys
print(json.dumps([os.getpid(), dict(os.environ)]), flush=True)
told = sys.stdin.readline().split()
sys.exit(int(told[0]) if told else 0)
"""
"""Says who it is, and ends with the status that it is told."""

STREAMS = """
import http.client, json, os, sys, urllib.parse
print(json.dumps([os.getpid(), dict(os.environ)]), flush=True)
where, body = urllib.parse.urlsplit(os.environ["OPENAI_BASE_URL"]), json.loads(sys.argv[1])
connection = http.client.HTTPConnection(where.netloc, timeout=60)
headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
headers["content-type"] = "application/json"
connection.request("POST", where.path + "/chat/completions", json.dumps(body), headers)
answer = connection.getresponse()
while line := answer.readline():
    print(line.decode(), end="", flush=True)
"""

# Reads its pid and environment, then connects until nobody is there any more, and tells how long
# after the end of the process that was.
OUTLIVED = """
import json, os, select, signal, socket, sys, time
pid, port, signum = json.load(sys.stdin)
hold = select.poll()
hold.register(os.pidfd_open(pid), select.POLLIN)
print("ready", flush=True)
if signum:
    os.kill(pid, signum)
hold.poll(20000)
ended = time.monotonic()
while time.monotonic() < ended + 20:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except ConnectionRefusedError:
        break
    except TimeoutError:
        pass
    time.sleep(0.01)  # a full queue would have SYNs sent again after a second (tcp(7))
print(time.monotonic() - ended)
"""


class Run:
    """A command that `exec` has started and that waits for a word."""

    def __init__(self, session: Session, *options: str, child: tuple[str, ...] = (WAITS,)) -> None:
        self.session = session
        cred = f"{session.home}/.local/bin/copilot-cred"
        command = (cred, "exec", *options, "--", "/usr/bin/python3", "-c", *child)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            session.argv(*command), stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate(timeout=20))
        self.pid, self.environ = json.loads(line)
        self.key: str = self.environ["OPENAI_API_KEY"]
        self.port = int(self.environ["ANTHROPIC_BASE_URL"].rpartition(":")[2])
        self.where = address_of(self.port)
        self.name: str = self.environ["COPILOT_BROKER_EXEC"]

    def end(self, status: int = 0) -> int:
        """Tell it to end, if it has not; return its status."""
        stdin, self.process.stdin = self.process.stdin, None
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(f"{status}\n")
                stdin.close()
            self.process.communicate(timeout=30)
        return self.process.returncode

    def kill(self, signum: int = 9) -> None:
        """Send its process a signal, from inside the session."""
        self.session.good("kill", f"-{signum}", str(self.pid))

    def outlived(self, signum: int = 0) -> float:
        """End it, by a signal or a word; return how long its address is there after that."""
        stdin = json.dumps([self.pid, self.port, signum])
        looking = self.session.spawn_with(stdin, "/usr/bin/python3", "-c", OUTLIVED)
        assert looking.stdout is not None
        assert looking.stdout.readline() == "ready\n"
        if not signum:
            self.end()
        out, err = looking.communicate(timeout=60)
        assert looking.returncode == 0, err
        return float(out)

    def ask(self, name: str = "chat", *, stream: bool = False, key: str | None = None) -> Answer:
        """Ask at its address, with its key or another one."""
        return asked(self.session, name, self.key if key is None else key, self.where, stream)


@pytest.fixture
def run(signed_in: Session) -> Iterator[Callable[..., Run]]:
    """Start runs; they have ended when the test has."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, child: tuple[str, ...] = (WAITS,)) -> Run:
            started = Run(signed_in, *options, child=child)
            stack.callback(started.end)
            return started

        yield start


def asked(session: Session, name: str, key: str, where: Any = "", stream: bool = False) -> Answer:
    """Ask in that dialect with that key; "" is none."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return ask(session, WAYS[name].asked(stream=stream, **headers), where)


def listed(session: Session) -> list[dict[str, Any]]:
    """Return the keys that there are."""
    return list(json.loads(good(session, "key", "list", "--json"))["keys"])


def records(session: Session, event: audit.AuditEvent) -> list[dict[str, Any]]:
    """Return this daemon's records of that kind."""
    return session.journal(f"MESSAGE_ID={event.message_id}", f"_PID={session.main_pid()}")


# -- it serves -----------------------------------------------------------------------------------


def test_a_command_is_served_at_an_address_of_its_own(
    run: Callable[..., Run], signed_in: Session
) -> None:
    session = signed_in
    first, second = run("--label", "first"), run()
    for name in ("chat", "messages", "responses"):
        for stream in (False, True):
            answer = first.ask(name, stream=stream)
            assert answer.status == 200, answer
            assert not stream or WAYS[name].end in answer.body
    assert ask(session, WAYS["messages"].asked(x_api_key=first.key), first.where).status == 200
    assert second.ask().status == 200
    shown = {each["name"]: each for each in listed(session)}
    assert set(shown) == {"run:first", "run:python3"}
    assert shown["run:first"]["kind"] == "run"
    assert shown["run:first"]["pid"] == first.pid
    assert shown["run:first"]["address"] == f"127.0.0.1:{first.port}"
    assert shown["run:first"]["spent_today"] > 0
    assert "run:first" in good(session, "key", "list")
    assert session.run("stat", "--format=%a", STATE).stdout.strip() == "600"
    assert first.key not in session.good("cat", STATE)
    leased = {record["KEY"]: record for record in records(session, audit.RUN_LEASED)}
    assert leased["run:first"]["PEER_PID"] == str(first.pid)
    assert leased["run:first"]["ADDRESS"] == f"127.0.0.1:{first.port}"
    assert first.end(7) == 7
    eventually(lambda: [each["name"] for each in listed(session)] == ["run:python3"])
    (ended,) = records(session, audit.RUN_ENDED)
    assert (ended["KEY"], ended["REASON"]) == ("run:first", "ended")
    assert asked(session, "chat", first.key).json["error"]["code"] == "key_unknown"
    assert second.ask().status == 200


@pytest.mark.parametrize("signum", [0, 9, 15], ids=["exit", "SIGKILL", "SIGTERM"])
def test_address_and_key_end_with_the_process(run: Callable[..., Run], signum: int) -> None:
    started = run()
    assert started.ask().status == 200
    assert started.outlived(signum) < AT_ONCE
    assert asked(started.session, "chat", started.key).status == 401
    assert listed(started.session) == []


def test_a_stream_is_cut_with_its_run_even_for_another_process(
    run: Callable[..., Run], github: GitHub
) -> None:
    github.world.settings.change({"chat_chunks": 1000, "chat_interval": 0.05})
    body = json.dumps(WAYS["chat"].asked(stream=True).body)
    started = run(child=(STREAMS, body))
    other = started.session.spawn_with(
        json.dumps([list(started.where), started.key, json.loads(body)]),
        "/usr/bin/python3",
        "-c",
        ELSEWHERE,
    )
    eventually(lambda: len(completions(github)) == 2)
    began = time.monotonic()
    assert started.outlived(9) < AT_ONCE
    eventually(lambda: all(request.cancelled for request in completions(github)), within=5)
    out, err = other.communicate(timeout=20)
    assert time.monotonic() - began < 10  # the stream would have gone on for 50
    assert other.returncode == 0, err
    assert "data: " in out
    assert DIALECTS["chat/completions"] not in out
    (ended,) = eventually(lambda: records(started.session, audit.RUN_ENDED))
    assert int(ended["COUNT"]) >= 1


ELSEWHERE = """
import http.client, json, sys
where, key, body = json.load(sys.stdin)
connection = http.client.HTTPConnection(*where, timeout=60)
headers = {"authorization": "Bearer " + key, "content-type": "application/json"}
connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
answer = connection.getresponse()
try:
    while line := answer.readline():
        print(line.decode(), end="", flush=True)
except (ConnectionError, http.client.HTTPException):
    pass
"""


# -- the daemon dies -----------------------------------------------------------------------------


def test_a_daemon_that_was_killed_serves_living_runs_again(run: Callable[..., Run]) -> None:
    lives, dies = run("--label", "lives", "--rpm", "100"), run("--label", "dies")
    session, before = lives.session, lives.session.main_pid()
    port = free_port()
    with_tcp(session, port)  # a restart in an orderly way, first
    assert (lives.ask().status, dies.ask().status) == (200, 200)
    assert session.main_pid() != before
    before = session.main_pid()
    session.good("kill", "-STOP", before)  # so that nobody sees the end of the other one
    dies.kill()
    eventually(lambda: dies.process.poll() is not None)
    session.good("kill", "-KILL", before)
    eventually(lambda: session.show("ActiveState") == "active" and session.main_pid() != before)
    answer = eventually(lambda: (found := lives.ask()).status and found)
    assert answer.status == 200, answer
    (shown,) = listed(session)
    assert (shown["name"], shown["pid"]) == ("run:lives", lives.pid)
    assert shown["requests_per_minute"] == 100
    assert dies.ask().status == 0, "nobody is there"
    assert asked(session, "chat", dies.key).json["error"]["code"] == "key_unknown"
    assert lives.outlived(9) < AT_ONCE
    eventually(lambda: session.run("test", "-e", STATE).returncode == 1)


@pytest.mark.parametrize("changed", ["started", "boot"], ids=["another process", "another boot"])
def test_a_number_that_somebody_else_has_is_no_run(run: Callable[..., Run], changed: str) -> None:
    started = run()
    session = started.session
    session.systemctl("stop", SERVICE)
    kept = json.loads(session.good("cat", STATE))
    process = kept["runs"][0]["key"]["process"]
    process[changed] = process[changed] + 1 if changed == "started" else "0" * 36
    session.good("sh", "-c", 'cat > "$1"', "_", STATE, stdin=json.dumps(kept))
    session.systemctl("start", SERVICE)
    assert started.ask().status == 0
    assert listed(session) == []
    assert session.run("test", "-e", STATE).returncode == 1


def test_an_address_that_somebody_else_has_meanwhile_is_not_taken_up(
    run: Callable[..., Run],
) -> None:
    started = run()
    session = started.session
    session.systemctl("stop", SERVICE)
    taken = "import socket,sys\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    taken += "print('there', flush=True)\nsys.stdin.read()"
    other = subprocess.Popen(
        session.argv("/usr/bin/python3", "-c", taken, str(started.port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "there\n"
    session.systemctl("start", SERVICE)
    assert listed(session) == []
    (ended,) = records(session, audit.RUN_ENDED)
    assert ended["REASON"] == "address_taken"
    other.communicate("")
    assert started.end(3) == 3


# -- nobody else comes in ------------------------------------------------------------------------


def test_no_other_key_is_good_there_and_this_one_nowhere_else(
    run: Callable[..., Run], github: GitHub
) -> None:
    one, two = run("--label", "one"), run("--label", "two")
    session, port = one.session, free_port()
    with_tcp(session, port)
    kept = new_key(session, "kept")
    minted = good(session, "get", "--model", "*").strip()
    assert two.ask().status == 200
    github.world.requests.clear()
    for name, way in WAYS.items():
        for key, code in (
            (two.key, "key_elsewhere"),
            (kept, "key_elsewhere"),
            (minted, "key_elsewhere"),
            ("", "key_missing"),
            ("cpb_" + "A" * 43, "key_unknown"),
            ("sk-something", "key_unknown"),
        ):
            answer = one.ask(name, key=key)
            assert (answer.status, code_of(answer, way.dialect)) == (401, code)
    for where in (session.http, address_of(port)):
        answer = asked(session, "messages", one.key, where)
        assert (answer.status, code_of(answer, "messages")) == (401, "key_elsewhere")
    assert completions(github) == []
    assert one.ask().status == 200, "nothing of it has harmed the right one"
    assert asked(session, "chat", minted, address_of(port)).status == 200


def test_browsers_and_other_users_get_a_bare_403(run: Callable[..., Run], github: GitHub) -> None:
    started = run()
    session = started.session
    github.world.requests.clear()
    good_host = f"127.0.0.1:{started.port}"
    body = json.dumps(WAYS["chat"].asked().body)
    knock = ("/usr/bin/python3", "-c", KNOCK)

    def sent(host: str, more: str = "") -> str:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n{more}"
        head += f"content-type: application/json\r\nauthorization: Bearer {started.key}\r\n"
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        return json.dumps([started.where, head + body])

    for host, more in (
        (f"localhost:{started.port}", ""),
        ("127.0.0.1", ""),
        (f"127.0.0.1:{started.port + 1}", ""),
        (good_host, "origin: http://evil.example\r\n"),
        (good_host, "sec-fetch-site: cross-site\r\n"),
        (good_host, "x-forwarded-for: 10.0.0.1\r\n"),
    ):
        told = bytes.fromhex(session.good(*knock, stdin=sent(host, more)))
        assert told.startswith(b"HTTP/1.1 403"), (host, more, told)
    for command in (as_second(*knock), knock):  # root is another user as well
        told = bytes.fromhex(session.good(*command, stdin=sent(good_host), root=True))
        assert told == BARE
    assert completions(github) == []
    told = bytes.fromhex(session.good(*knock, stdin=sent(good_host)))
    assert told.startswith(b"HTTP/1.1 200"), told


def test_limits_hold_for_the_run(run: Callable[..., Run], github: GitHub) -> None:
    of_models = run("--model", "sim-chat*", "--model", "sim-none")
    assert of_models.ask().status == 200
    github.world.requests.clear()
    for name in ("messages", "responses"):
        answer = of_models.ask(name)
        code = code_of(answer, WAYS[name].dialect)
        assert (answer.status, code) == (403, "model_not_granted")
    seldom, poor = run("--rpm", "1"), run("--budget", "1")
    assert completions(github) == []
    assert (seldom.ask().status, poor.ask().status) == (200, 200)
    assert len(completions(github)) == 2
    for started, code in ((seldom, "request_rate"), (poor, "key_budget")):
        for name, way in WAYS.items():
            answer = started.ask(name)
            assert (answer.status, code_of(answer, way.dialect)) == (429, code)
            assert int(answer.headers["retry-after"]) > 0
    assert len(completions(github)) == 2
    assert of_models.ask().status == 200, "each has limits of its own"


def test_a_run_can_be_ended_by_name(run: Callable[..., Run]) -> None:
    started = run("--label", "long")
    session = started.session
    assert started.ask().status == 200
    good(session, "key", "revoke", "run:long")
    assert started.ask().status == 0
    session.systemctl("restart", SERVICE)
    assert started.ask().status == 0
    assert listed(session) == []
    assert started.end(5) == 5, "its process goes on"


# -- what the command sees -----------------------------------------------------------------------

TOKENS = {
    "GH_TOKEN": "x",
    "GITHUB_TOKEN": "x",
    "GITHUB_ENTERPRISE_TOKEN": "x",
    "COPILOT_GITHUB_TOKEN": "x",
    "GITHUB_COPILOT_SOME_TOKEN": "x",
    "ANTHROPIC_API_KEY": "sk-ant-1",
    "MINE": "ghp_" + "0" * 36,
    "URL": "https://github_pat_" + "1" * 22 + "@example.com/x",
    "LEASED": "tid=0;exp=1;sku=x:0",
}


def test_the_environment_leads_to_the_broker_and_holds_no_token(signed_in: Session) -> None:
    session = signed_in
    given = {**TOKENS, "KEPT": "a b=c\n", "OPENAI_API_KEY": "sk-mine", "no_proxy": "corp.example"}
    cred = f"{session.home}/.local/bin/copilot-cred"
    words = [f"{name}={value}" for name, value in given.items()]
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    command = ("env", *words, cred, "exec", "--", "/usr/bin/python3", "-c", show)
    child = json.loads(session.good(*command))
    plain = json.loads(session.good("env", *words, "/usr/bin/python3", "-c", show))
    for name in TOKENS:
        assert name not in child
    assert child["KEPT"] == "a b=c\n"
    root = child["ANTHROPIC_BASE_URL"]
    assert child["OPENAI_BASE_URL"] == child["OPENAI_API_BASE"] == f"{root}/v1"
    assert child["OPENAI_API_KEY"] == child["ANTHROPIC_AUTH_TOKEN"]
    assert child["OPENAI_API_KEY"].startswith("cpb_")
    assert child["NO_PROXY"] == child["no_proxy"] == "corp.example,127.0.0.1"
    assert child["COPILOT_BROKER_EXEC"] == "run:python3"
    ours = {"OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY", "NO_PROXY", "no_proxy"}
    ours |= {"ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "COPILOT_BROKER_EXEC"}
    left = {name: value for name, value in child.items() if name not in ours}
    assert left == {
        name: value for name, value in plain.items() if name not in {*TOKENS, *ours}
    }, "all else is as it was"


SCAN = """
import glob, sys
for name in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        print(open(name, "rb").read().decode("utf-8", "replace"))
    except OSError:
        pass
"""


def test_no_argv_holds_a_secret(run: Callable[..., Run]) -> None:
    started = run()
    told = started.session.good("/usr/bin/python3", "-c", SCAN, root=True)
    assert "copilot-brokerd" in told
    assert started.key not in told
    assert "cpb_" not in told


def test_exit_status_signals_and_stdin_are_the_commands(signed_in: Session) -> None:
    session = signed_in
    cred = f"{session.home}/.local/bin/copilot-cred"

    def shell(text: str, stdin: str = "") -> str:
        return session.good("bash", "-c", text.replace("CRED", cred), stdin=stdin)

    assert shell("CRED exec -- cat", stdin="a\nb") == "a\nb"
    assert shell("CRED exec -- sh -c 'exit 42'; echo $?") == "42\n"
    for name, number in (("TERM", 143), ("KILL", 137), ("PIPE", 141)):
        assert shell(f"CRED exec -- sh -c 'kill -{name} $$'; echo $?") == f"{number}\n"
    assert shell("CRED exec -- yes | head -1; echo ${PIPESTATUS[0]}") == "y\n141\n"
    assert "closed" in session.run("bash", "-c", f"{cred} exec -- sh -c '{CLOSED}' >&-").stderr
    assert shell("CRED exec -- printf '<%s>' a -- --help '' '-x y'") == "<a><--><--help><><-x y>"
    assert shell("CRED exec --label x printf '<%s>' --label") == "<--label>"
    assert shell("CRED exec -- no-such-command; echo $?") == "127\n"
    assert shell("CRED exec -- ./no-such; echo $?") == "127\n"
    assert shell("CRED exec -- /etc/passwd; echo $?") == "126\n"
    assert shell("CRED exec -- /tmp; echo $?") == "126\n"
    session.good("sh", "-c", "printf '#!/no/such\\n' > bad; echo 'echo by $0' > plain; chmod +x *")
    assert shell("CRED exec -- ./bad; echo $?") == "127\n"
    assert shell("CRED exec -- ./plain") == "by ./plain\n"
    assert listed(session) == []


CLOSED = "echo x 2>/dev/null || echo closed >&2"

TERMINAL = r'''
import fcntl, os, pty, select, struct, sys, termios, time
pid, master = pty.fork()
if not pid:
    os.execv(sys.argv[1], [sys.argv[1], "exec", "--", "bash", "--norc", "-i"])
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
told = b""
def until(words):
    global told
    while words not in told:
        assert select.select([master], [], [], 20)[0], told
        told += os.read(master, 4096)
    told = told.partition(words)[2]
def in_front():
    """Wait till bash has given the terminal to sleep: before that it ignores what is typed."""
    deadline = time.monotonic() + 20
    while open("/proc/%d/comm" % os.tcgetpgrp(master)).read() != "sleep\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
def say(text):
    os.write(master, text.encode() + b"\n")
say("PS1=; set +o emacs; stty -echo; echo rea''dy")
until(b"ready\r\n")
say("stty size")
until(b"33 77\r\n")
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 20, 60, 0, 0))
say("stty size")
until(b"20 60\r\n")
say("test -t 0 && test -t 1 && echo ter''minal")
until(b"terminal\r\n")
say("echo beg''un; sleep 60; echo sta''tus $?")
until(b"begun\r\n")
in_front()
os.write(master, b"\x03")
say("echo int''errupted")
until(b"interrupted\r\n")
say("sleep 60")
in_front()
os.write(master, b"\x1a")
until(b"Stopped")
say("kill -KILL %1")
say("fg")
until(b"Killed")
say("exit 9")
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))
'''


def test_the_terminal_is_the_commands(signed_in: Session) -> None:
    cred = f"{signed_in.home}/.local/bin/copilot-cred"
    assert signed_in.script(TERMINAL, cred) == "9\n"


def test_a_run_inside_of_a_run_is_refused_while_that_lasts(run: Callable[..., Run]) -> None:
    outer = run("--label", "outer")
    session = outer.session
    cred = f"{session.home}/.local/bin/copilot-cred"
    words = [
        f"{name}={outer.environ[name]}" for name in ("COPILOT_BROKER_EXEC", "OPENAI_BASE_URL")
    ]
    inner = ("env", *words, cred, "exec", "--error-format", "json", "--", "echo", "started")
    done = session.run(*inner)
    assert (done.returncode, done.stdout) == (2, "")
    error = error_of(done)
    assert error["code"] == "nested"
    assert "run:outer" in error["message"]
    outer.end()
    eventually(lambda: listed(session) == [])
    assert session.good(*inner) == "started\n"
    again = run("--label", "outer")  # has the name, and another address
    assert again.name == outer.name
    assert session.good(*inner) == "started\n"


def test_without_a_broker_or_a_login_nothing_is_started(session: Session) -> None:
    inner = ("--error-format", "json", "exec", "--", "touch", "was-started")
    done = session.cred(*inner)
    assert (done.returncode, error_of(done)["class"]) == (3, 3)
    session.systemctl("start", "copilot-broker.socket")
    done = session.cred(*inner)
    assert (done.returncode, error_of(done)["code"]) == (4, "login_required")
    assert session.cred("login").returncode == 0
    done = session.cred("--error-format", "json", "exec", "--account", "none", *inner[3:])
    assert done.returncode == 4
    assert session.cred("lock").returncode == 0
    done = session.cred(*inner)
    assert (done.returncode, error_of(done)["class"]) == (6, 6)
    assert session.run("test", "-e", "was-started").returncode == 1
    assert session.cred("unlock").returncode == 0
    assert session.cred(*inner).returncode == 0
    assert session.run("test", "-e", "was-started").returncode == 0


# -- get --model ---------------------------------------------------------------------------------


def test_a_minted_key_is_good_for_its_models_and_ends_with_the_daemon(
    signed_in: Session, github: GitHub
) -> None:
    session, port = signed_in, free_port()
    with_tcp(session, port)
    mint = ("get", "--model", "sim-chat*", "--label", "tool")
    key = good(session, *mint).strip()
    assert good(session, *mint, "--format", "header") == f"Authorization: Bearer {key}\n"
    told = json.loads(good(session, *mint, "--format", "json"))
    assert (told["key"], told["name"], told["models"]) == (key, "get:tool", ["sim-chat*"])
    assert 3500 < told["expires_in"] <= 3600
    curl = f"{session.home}/.local/bin/copilot-cred {' '.join(mint)} --format curl-config"
    curl = f"{curl.replace('*', '')} | curl -sS -K - http://127.0.0.1:{port}/v1/models"
    models = json.loads(session.good("sh", "-c", curl))
    assert [model["id"] for model in models["data"]] == ["sim-chat"]
    for where in (session.http, address_of(port)):
        assert asked(session, "chat", key, where).status == 200
        answer = asked(session, "messages", key, where)
        assert (answer.status, code_of(answer, "messages")) == (403, "model_not_granted")
    assert records(session, audit.KEY_MINTED)
    session.systemctl("restart", SERVICE)
    answer = asked(session, "chat", key, address_of(port))
    assert (answer.status, code_of(answer, "chat/completions")) == (401, "key_unknown")
    again = good(session, *mint).strip()
    assert again != key
    assert asked(session, "chat", again, address_of(port)).status == 200
