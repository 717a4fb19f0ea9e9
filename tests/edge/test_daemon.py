"""The whole daemon as a person starts it in a terminal: a real process, real clients, the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from brokerd.simulator import Simulator
from brokerd.simulator.world import Fault
from copilot_broker import AsyncClient
from copilot_broker.errors import LoginRequired, Temporary, UsageError


COMMAND = [
    sys.executable,
    "-P",
    "-c",
    "import sys; from brokerd.cli import main; sys.exit(main())",
]
PATIENCE = 20
EXCHANGE = "/copilot_internal/v2/token"
CHAT = {"model": "sim-chat", "stream": True, "messages": [{"role": "user", "content": "count"}]}


class Place:
    """A home and a runtime directory of their own; short, because sun_path is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.socket = folder / "run/copilot-broker/broker.sock"
        (folder / "run").mkdir(mode=0o700)

    def configure(self, url: str, more: str = "") -> None:
        urls = "".join(f'{name} = "{url}"\n' for name in ("login", "api", "copilot"))
        self.config.write_text(f'[urls]\n{urls}[store]\nkind = "file"\n{more}')

    async def start(self, *arguments: str, **env: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "XDG_RUNTIME_DIR": str(self.folder / "run"),
                "COPILOT_BROKER_CONFIG": str(self.config),
                **env,
            },
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    def client(self) -> AsyncClient:
        return AsyncClient(self.socket)


async def said(process: asyncio.subprocess.Process, words: str) -> str:
    """Everything on stderr up to the line with these words."""
    text = ""
    async with asyncio.timeout(PATIENCE):
        while words not in text:
            line = (await process.stderr.readline()).decode()
            assert line, f"the daemon ended: {text}"
            text += line
    return text


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        yield Place(Path(folder))


@pytest.fixture
async def github():
    async with Simulator(auto_approve=True, device_interval=0.1) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def running(place, *arguments, **env):
    process = await place.start(*arguments, **env)
    try:
        process.said = await said(process, " ready ")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), PATIENCE)


@pytest.fixture
async def daemon(place, github):
    place.configure(github.url)
    async with running(place) as process:
        yield process


async def sign_in(place):
    async with place.client() as client:
        return [chunk async for chunk in client.login()][-1]["account"]


def exchanges(github):
    return sum(request.path == EXCHANGE for request in github.world.requests)


async def test_one_login_serves_until_told_to_stop(place, daemon):
    async with place.client() as client:
        with pytest.raises(LoginRequired, match="copilot-cred login"):
            await client.token()
        assert (await sign_in(place))["state"] == "ready"
        token = await client.token()
        assert token.expires_in > 1700
        assert token.token not in repr(token)
    daemon.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(daemon.wait(), PATIENCE) == 0
    assert not place.socket.exists()


async def test_login_is_there_after_a_restart(place, github):
    place.configure(github.url)
    async with running(place):
        await sign_in(place)
    async with running(place), place.client() as client:
        assert (await client.token()).account == "default"
    logins = list((place.folder / ".local/state/copilot-broker/logins").iterdir())
    assert [login.stat().st_mode & 0o777 for login in logins] == [0o600]


async def test_a_limit_binds_the_person_under_every_name_and_over_a_restart(place, github):
    def asked():
        return sum(request.path == "/chat/completions" for request in github.world.requests)

    async def nothing_is_sent(client, name):
        with pytest.raises(Temporary) as caught:
            await client.complete(CHAT, account=name)
        assert caught.value.code == "cooling_down"
        assert caught.value.retry_after > 400_000
        assert (await client.token(account=name)).cooldown_until > time.time() + 400_000
        async with client.watch(name) as changes:
            error = (await anext(aiter(changes)))["error"]
        assert re.search(r"\(\w+: GitHub Copilot answered 429: ", error["message"])

    place.configure(github.url)
    async with running(place), place.client() as client:
        for name in ("default", "twin"):
            [_ async for _ in client.login(account=name)]
        github.world.queue_faults("/chat/completions", [Fault(429, {"retry-after": "432000"})])
        assert not (await client.complete(CHAT, account="default")).ok
        await nothing_is_sent(client, "twin")
    async with running(place), place.client() as client:
        for name in ("twin", "default"):
            await nothing_is_sent(client, name)
    assert asked() == 1


async def test_a_second_daemon_is_refused_and_the_first_goes_on(place, daemon):
    second = await place.start()
    _, text = await asyncio.wait_for(second.communicate(), PATIENCE)
    assert second.returncode != 0
    assert str(daemon.pid) in text.decode()
    # of what the machine refuses, as a container may Landlock, there is a line besides
    lines = [line for line in text.decode().splitlines() if "less confined" not in line]
    assert len(lines) <= 3
    async with place.client() as client:
        assert (await client.status())["pid"] == daemon.pid


async def test_reload_is_all_or_nothing(place, github, daemon):
    await sign_in(place)
    place.configure(github.url, "[log]\nlevel = 'loud'\n")
    daemon.send_signal(signal.SIGHUP)
    await said(daemon, "configuration not reloaded")
    async with place.client() as client:
        assert f"{place.config}, line 8" in (await client.status())["config_problem"]
        await client.refresh()  # still by the old configuration
        place.configure(github.url, "[log]\nlevel = 'debug'\n")
        daemon.send_signal(signal.SIGHUP)
        await said(daemon, "configuration reloaded")
        assert (await client.status())["config_problem"] is None
        await client.refresh()  # by a new way to GitHub


async def test_a_reload_that_changes_the_mode_is_heeded_at_once(place, github, daemon):
    await sign_in(place)
    await said(daemon, "token refreshed")
    place.configure(github.url, '[accounts.default]\nmode = "direct"\n')
    daemon.send_signal(signal.SIGHUP)
    await said(daemon, "token refreshed")
    async with place.client() as client:
        assert (await client.status())["accounts"][0]["mode"] == "direct"


async def test_a_reload_changes_who_we_say_we_are_and_cuts_no_stream(place, github, daemon):
    github.world.settings.change({"chat_chunks": 40, "chat_interval": 0.05})
    await sign_in(place)
    async with place.client() as client:
        await client.token()  # twice: the second one is answered from what the first one left
        assert (await client.token()).headers["Editor-Version"].startswith("copilot-broker/")
        async with client.stream(CHAT) as stream:
            chunks = aiter(stream)
            received = await anext(chunks)
            for name in ("first/1", "second/2"):
                place.configure(github.url, f"[identity]\neditor_version = '{name}'\n")
                daemon.send_signal(signal.SIGHUP)
                await said(daemon, "configuration reloaded")
            assert (await client.token()).headers["Editor-Version"] == "second/2"
            async for chunk in chunks:
                received += chunk
        assert received.rstrip().endswith(b"data: [DONE]")
        assert (await client.complete(CHAT)).ok
    first, last = (r for r in github.world.requests if r.path == "/chat/completions")
    assert first.headers["editor-version"].startswith("copilot-broker/")
    assert last.headers["editor-version"] == "second/2"
    assert len(received) == first.sent


async def test_100_rejections_of_one_token_are_one_exchange(place, github, daemon):
    await sign_in(place)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(place.client()) for _ in range(100)]
        dead = await clients[0].token()
        before = exchanges(github)
        fresh = await asyncio.gather(*(client.token(reject=dead.token_id) for client in clients))
    assert {token.token_id for token in fresh} - {dead.token_id} == {fresh[0].token_id}
    assert exchanges(github) - before == 1


async def test_200_clients_without_a_token_are_one_exchange(place, github, daemon):
    await sign_in(place)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(place.client()) for _ in range(200)]
        dead = (await clients[0].token()).token_id
        github.world.queue_faults(EXCHANGE, [Fault(delay=1.0)])
        before = exchanges(github)
        first = asyncio.create_task(clients[0].token(reject=dead))
        rest = [client.token(reject=dead) for client in clients[1:]]
        tokens = [await first, *await asyncio.gather(*rest)]
    assert len({token.token for token in tokens}) == 1
    assert exchanges(github) - before == 1


async def test_no_network_is_said_in_one_line(place):
    place.configure("http://127.0.0.1:9")  # discard: nobody listens
    async with running(place), place.client() as client:
        with pytest.raises(Temporary, match=r"127\.0\.0\.1:9"):
            [chunk async for chunk in client.login()]


async def test_a_callers_account_is_held_to_the_rules(place, daemon):
    async with place.client() as client:
        for wrong in ({"account": "a b"}, {"host": "github.com.evil.org"}, {"client_id": "\n"}):
            with pytest.raises(UsageError, match="must be"):
                [chunk async for chunk in client.login(**wrong)]


async def test_simulate_is_loud_and_works(place):
    place.config.write_text("")
    async with running(place, "--simulate") as process, place.client() as client:
        assert process.said.count("SIMULATED") == 2
        assert (await client.status())["simulated"] is True
        assert (await sign_in(place))["store"] == "memory"
        assert (await client.token()).api_base.startswith("http://127.0.0.1:")
    assert not (place.folder / ".local/state/copilot-broker").exists()


FROM_CREDENTIAL = '[accounts.default]\nsource = "credential"\n'
FROM_ENVIRONMENT = '[accounts.default]\nsource = "environment"\n'
VSCODE = "01ab8ac9400c4e429b23"
ANY_TOKEN = "0123456789-of-no-known-look"


def credential(place, token):
    """Do what systemd does with LoadCredential=; returns the environment that says so."""
    folder = place.folder / "credentials"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "github-token").write_text(f"{token}\n")
    (folder / "github-token").chmod(0o600)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


async def test_a_credential_signs_in_and_a_reload_reads_it_anew(place, github):
    place.configure(github.url, FROM_CREDENTIAL)
    env = credential(place, github.world.mint("gho_", "hubot", VSCODE))
    async with running(place, **env) as process, place.client() as client:
        assert (await client.token()).token.startswith("tid=")
        (shown,) = (await client.status())["accounts"]
        assert (shown["login"], shown["store"], shown["source"]) == (
            "hubot", "credential", "credential",
        )  # fmt: skip
        with pytest.raises(UsageError, match="comes from the credential github-token"):
            await client.logout()
        with pytest.raises(UsageError, match="no other is taken"):
            await sign_in(place)
        told = {check["name"]: check["told"] for check in (await client.doctor())["checks"]}
        assert told["account-default"] == "hubot on github.com, login comes from: credential"
        credential(place, github.world.mint("gho_", None, VSCODE))
        process.send_signal(signal.SIGHUP)
        await said(process, "configuration reloaded")
        await client.token()
        assert (await client.status())["accounts"][0]["login"] == "octocat"
    assert not list((place.folder / ".local/state/copilot-broker/logins").iterdir())


async def test_whose_it_is_is_asked_again_until_github_answers(place, github):
    place.configure(github.url, FROM_CREDENTIAL)
    github.world.queue_faults("/user", [Fault(status=502), Fault(reset=True)])
    env = credential(place, github.world.mint("gho_", None, VSCODE))
    async with running(place, **env), place.client() as client:
        assert (await client.token()).account == "default"
    assert sum(request.path == "/user" for request in github.world.requests) == 3


async def test_what_the_environment_holds_is_judged_at_the_start(place, github):
    place.configure(github.url, FROM_ENVIRONMENT)
    env = {"COPILOT_GITHUB_TOKEN": " ", "GH_TOKEN": ANY_TOKEN}
    async with running(place, **env), place.client() as client:
        with pytest.raises(LoginRequired, match="COPILOT_GITHUB_TOKEN is set, but") as caught:
            await client.token()
        assert "EnvironmentFile=" in caught.value.hint
    del env["COPILOT_GITHUB_TOKEN"]
    async with running(place, **env), place.client() as client:
        with pytest.raises(LoginRequired, match=r"(?i)github"):
            await client.token()
    asked = [each for each in github.world.requests if each.path != "/"]
    assert [each.path for each in asked] == ["/user"]


async def test_a_stand_in_is_shown_no_real_token(place):
    place.config.write_text(FROM_ENVIRONMENT)
    async with running(place, "--simulate", GH_TOKEN=ANY_TOKEN), place.client() as client:
        with pytest.raises(LoginRequired, match="nobody is signed in"):
            await client.token()
        assert (await sign_in(place))["source"] == "login"


@pytest.mark.parametrize(
    ("start", "code", "words"),
    [
        ((["--check-config"], {}, "[log]\nlevel = 1\n"), 2, "line 2: log.level must be"),
        (([], {}, "[lgo]\n"), 2, "did you mean log?"),
        (([], {"XDG_RUNTIME_DIR": "/nonexistent"}, ""), 2, "no runtime directory"),
    ],
)
async def test_what_stops_a_start_is_said_in_one_line(place, start, code, words):
    arguments, env, config = start
    place.config.write_text(config)
    process = await place.start(*arguments, **env)
    _, text = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == code
    assert words in text.decode()
    assert "Traceback" not in text.decode()
