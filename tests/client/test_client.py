"""The blocking client against a real socket: calls, streams, threads, forks, restarts, deadlines."""

from __future__ import annotations

import pickle
import posix
import subprocess
import sys
import threading

import pytest

import copilot_broker
from client.forks import in_a_child
from client.small_broker import PATIENCE, HangUp, Refuse, SmallBroker
from copilot_broker import (
    BrokerUnreachable,
    Client,
    CopilotBrokerError,
    Denied,
    ErrorClass,
    InternalError,
    LoginRequired,
    Temporary,
    Token,
    UsageError,
    errors,
)
from copilot_broker.wire.messages import ErrorInfo


RESULT = {
    "token": "tid=canary;exp=1",
    "token_type": "bearer",
    "expires_at": 1_800_000_000,
    "expires_in": 1500.5,
    "api_base": "https://api.individual.githubcopilot.com",
    "completions_base": "https://proxy.individual.githubcopilot.com",
    "cooldown_until": None,
    "headers": {"Editor-Version": "x/1"},
    "account": "default",
    "token_id": "0123abcd",
    "clamped": False,
    "from_the_future": [1],
}
SIGNED_OUT = ErrorInfo(
    ErrorClass.LOGIN_REQUIRED, "signed_out", "nobody is signed in", "Run: copilot-cred login"
)


def refuse(error):
    def handler(_):
        raise Refuse(error)

    return handler


@pytest.fixture
def broker(tmp_path):
    def watch(params):
        yield from ({"event": "token", "n": n} for n in range(3))

    handlers = {
        "token.get": lambda _: RESULT,
        "broker.status": lambda _: {"pid": 1},
        "broker.refresh": lambda params: params,
        "account.list": lambda _: {"accounts": [], "default": None},
        "account.use": lambda _: {},
        "account.logout": lambda params: {"revoked": bool(params.get("revoke"))},
        "models.list": lambda _: {"account": "a", "models": [{"id": "m"}], "age": 3.5},
        "models.enable": lambda _: {"account": "a", "model": "m", "state": "enabled"},
        "account.login": refuse(SIGNED_OUT),
        "token.watch": watch,
    }
    with SmallBroker(tmp_path / "run", handlers) as running:
        yield running


@pytest.fixture
def client(broker):
    with Client(broker.path, timeout=PATIENCE) as made:
        yield made


def test_token_has_all_its_fields_and_no_secret_in_its_repr(client, broker):
    token = client.token(min_valid=120, account="work", reject="0123abcd")
    assert broker.asked == [
        ("token.get", {"min_valid": 120.0, "account": "work", "reject": "0123abcd"})
    ]
    assert (token.token, token.expires_at, token.expires_in) == (
        "tid=canary;exp=1",
        1_800_000_000,
        1500.5,
    )
    assert (token.account, token.token_id, token.clamped) == ("default", "0123abcd", False)
    assert token.headers == {"Editor-Version": "x/1"}
    assert token.api_base == RESULT["api_base"]
    assert (token.completions_base, token.cooldown_until) == (RESULT["completions_base"], None)
    assert "canary" not in f"{token} {token!r} {[token]}"


def test_token_says_until_when_copilot_wants_no_requests(tmp_path):
    handlers = {"token.get": lambda _: {**RESULT, "cooldown_until": 1_800_000_000}}
    with SmallBroker(tmp_path / "run", handlers) as broker, Client(broker.path) as client:
        assert client.token().cooldown_until == 1_800_000_000


def test_token_of_an_older_broker_lacks_what_it_does_not_know(tmp_path):
    old = {key: RESULT[key] for key in RESULT if key not in {"completions_base", "cooldown_until"}}
    handlers = {"token.get": lambda _: old}
    with SmallBroker(tmp_path / "run", handlers) as broker, Client(broker.path) as client:
        token = client.token()
    assert (token.completions_base, token.cooldown_until) == ("", None)


def test_methods_about_models_and_logout_ask_and_tell(client, broker):
    assert client.models("a") == [{"id": "m"}]
    listed = client.model_list("a", fresh=True)
    assert (listed.models, listed.account, listed.age) == ([{"id": "m"}], "a", 3.5)
    assert client.enable_model("m", "a") == "enabled"
    assert client.logout("a") is False
    assert client.logout("a", revoke=True) is True
    assert broker.asked == [
        ("models.list", {"account": "a"}),
        ("models.list", {"account": "a", "fresh": True}),
        ("models.enable", {"account": "a", "model": "m"}),
        ("account.logout", {"account": "a"}),
        ("account.logout", {"account": "a", "revoke": True}),
    ]


def test_answer_that_names_no_state_is_the_brokers_fault(tmp_path):
    handlers = {"models.enable": lambda _: {}}
    with (
        SmallBroker(tmp_path / "run", handlers) as broker,
        Client(broker.path) as client,
        pytest.raises(InternalError, match=r"models\.enable"),
    ):
        client.enable_model("m")


def test_all_methods_ask_what_they_say(client, broker):
    client.status(), client.accounts(), client.use("a"), client.logout("b"), client.hello()
    assert client.refresh("c") == {"account": "c"}
    assert broker.asked == [
        ("broker.status", {}),
        ("account.list", {}),
        ("account.use", {"account": "a"}),
        ("account.logout", {"account": "b"}),
        ("broker.hello", {"protocol": 1}),
        ("broker.refresh", {"account": "c"}),
    ]
    assert broker.connections == 1


def test_a_named_client_introduces_itself(broker):
    with Client(broker.path, name="editor") as client:
        client.status()
    assert broker.asked[0] == ("broker.hello", {"protocol": 1, "client": "editor"})


@pytest.mark.parametrize("error_class", ErrorClass)
def test_each_class_has_its_exception(tmp_path, error_class):
    info = ErrorInfo(error_class, "c", "message", "Run: it", "https://github.com/x", 2.5)
    with (
        SmallBroker(tmp_path / "run", {"token.get": refuse(info)}) as broker,
        Client(broker.path) as client,
        pytest.raises(CopilotBrokerError) as caught,
    ):
        client.token()
    error = caught.value
    assert type(error) is not CopilotBrokerError
    assert error.error_class is error_class
    assert (error.code, error.message, error.hint) == ("c", "message", "Run: it")
    assert (error.url, error.retry_after, str(error)) == (
        "https://github.com/x",
        2.5,
        "c: message. Run: it",
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_connection_is_kept_after_a_refusal(tmp_path):
    handlers = {"token.get": refuse(SIGNED_OUT)}
    with SmallBroker(tmp_path / "run", handlers) as broker, Client(broker.path) as client:
        for _ in range(2):
            with pytest.raises(LoginRequired, match="copilot-cred login"):
                client.token()
        assert broker.connections == 1


def test_no_broker_names_the_command_that_starts_it(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    with Client(tmp_path / "none.sock") as client, pytest.raises(BrokerUnreachable) as caught:
        client.token()
    assert caught.value.hint == "Run: systemctl --user start copilot-broker.socket"
    monkeypatch.delenv("COPILOT_BROKER_SOCKET", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(BrokerUnreachable, match="no socket at"):
        Client().token()


def test_no_runtime_directory_names_it_too(monkeypatch):
    monkeypatch.delenv("COPILOT_BROKER_SOCKET", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(posix, "getuid", lambda: 4_000_000_001)
    with pytest.raises(BrokerUnreachable) as caught:
        Client().token()
    assert (caught.value.code, caught.value.hint) == (
        "no_runtime_dir",
        "Run: systemctl --user start copilot-broker.socket",
    )


def test_decoy_is_refused_and_hears_nothing(tmp_path):
    with SmallBroker(tmp_path / "run", {}) as decoy:
        (tmp_path / "run").chmod(0o755)
        with pytest.raises(BrokerUnreachable, match="untrusted_socket"):
            Client(decoy.path).token()
        assert decoy.connections == 0


def test_restarted_broker_is_asked_again(client, broker):
    client.token()
    broker.hang_up()
    assert broker.gone.acquire(timeout=PATIENCE)
    assert client.token().token_id == "0123abcd"
    client.use("a")
    assert broker.connections == 2


class Leaving:
    """A handler that leaves twice before it answers."""

    def __init__(self, leave) -> None:
        self.left = 0
        self._leave = leave

    def __call__(self, _):
        self.left += 1
        if self.left < 3:
            raise self._leave
        return RESULT


LEAVING = [HangUp(), Refuse(ErrorInfo(ErrorClass.TEMPORARY, "shutting_down", "stopping"))]


@pytest.mark.parametrize("leave", LEAVING)
def test_question_is_repeated_to_the_next_broker(tmp_path, leave):
    handler = Leaving(leave)
    with (
        SmallBroker(tmp_path / "run", {"token.get": handler}) as broker,
        Client(broker.path) as client,
    ):
        assert client.token().token_id == "0123abcd"
        assert (handler.left, broker.connections) == (3, 3)


@pytest.mark.parametrize(
    ("method", "ask"),
    [
        ("account.logout", lambda client: client.logout(revoke=True)),
        ("models.enable", lambda client: client.enable_model("m")),
    ],
)
@pytest.mark.parametrize("leave", LEAVING)
def test_what_changes_something_is_never_sent_twice(tmp_path, leave, method, ask):
    handler = Leaving(leave)
    with (
        SmallBroker(tmp_path / "run", {method: handler}) as broker,
        Client(broker.path) as client,
    ):
        with pytest.raises(CopilotBrokerError):
            ask(client)
        assert handler.left == 1


def test_deadline_bounds_a_call_and_spoils_nothing(tmp_path):
    release = threading.Event()

    def slow(_):
        release.wait(PATIENCE)
        return {"late": True}

    handlers = {"broker.status": slow, "token.get": lambda _: RESULT}
    with (
        SmallBroker(tmp_path / "run", handlers) as broker,
        Client(broker.path, timeout=0.1) as client,
    ):
        with pytest.raises(Temporary, match="timeout"):
            client.status()
        release.set()
        assert client.token().token_id == "0123abcd"


def test_answer_that_is_no_token_is_the_brokers_fault(tmp_path):
    with SmallBroker(tmp_path / "run", {"token.get": lambda _: {"token": "x"}}) as broker:
        with Client(broker.path) as client, pytest.raises(InternalError, match="bad_answer"):
            client.token()
        with Client(broker.path) as client, pytest.raises(InternalError, match="does not stream"):
            client.open_stream("token.get")


def test_parameter_that_cannot_be_sent_is_a_usage_error(client):
    with pytest.raises(UsageError):
        client.call("token.get", account=object())
    assert client.token()


def test_threads_share_a_client(client, broker):
    found = []
    threads = [threading.Thread(target=lambda: found.append(client.token())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 20
    assert broker.connections == 1


def test_fork_gets_a_connection_of_its_own(client, broker):
    client.token()
    client._lock.acquire()  # as if another thread were asking at the moment of the fork
    assert in_a_child(lambda: 7 if client.token().token_id == "0123abcd" else 1) == 7
    client._lock.release()
    client.token()
    assert broker.connections == 2


def test_stream_is_not_shared_with_a_fork(tmp_path):
    first, go = threading.Event(), threading.Event()

    def watch(_):
        yield {"n": 1}
        first.set()
        go.wait(PATIENCE)
        yield {"n": 2}

    with (
        SmallBroker(tmp_path / "run", {"token.watch": watch}) as broker,
        Client(broker.path) as client,
        client.watch() as stream,
    ):
        assert next(stream) == {"n": 1}

        def use_it() -> int:
            try:
                next(stream)
            except UsageError:
                client.close()
                stream.close()
                return 7
            return 1

        assert in_a_child(use_it) == 7
        go.set()
        assert next(stream) == {"n": 2}


def test_stream_yields_chunks_and_ends(client, broker):
    assert [chunk["n"] for chunk in client.watch("work")] == [0, 1, 2]
    assert broker.asked == [("token.watch", {"account": "work"})]


def test_streams_have_connections_of_their_own(client, broker):
    with client.watch() as one, client.watch() as two:
        next(one), next(two)
        client.token()
    assert broker.connections == 3


def test_login_that_is_refused_says_so_at_once(client):
    with pytest.raises(LoginRequired):
        client.login(host="ghe.example.com")


def test_stream_raises_the_error_that_ended_it(tmp_path):
    def login(_):
        yield {"event": "user_code"}
        raise Refuse(ErrorInfo(ErrorClass.DENIED, "access_denied", "refused"))

    with (
        SmallBroker(tmp_path / "run", {"account.login": login}) as broker,
        Client(broker.path) as client,
    ):
        stream = client.login()
        assert next(stream) == {"event": "user_code"}
        with pytest.raises(Denied):
            next(stream)
        assert list(stream) == []


def test_long_stream_is_paced_by_credit(tmp_path):
    size, count = 40_000, 40

    def completion(_):
        yield from (bytes([n]) * size for n in range(count))

    with (
        SmallBroker(tmp_path / "run", {"token.watch": completion}) as broker,
        Client(broker.path) as client,
    ):
        assert [chunk[:1] + bytes([len(chunk) == size]) for chunk in client.watch()] == [
            bytes([n, 1]) for n in range(count)
        ]


def endless(_):
    yield {"n": 1}
    yield from iter(lambda: b"x" * 1000, None)


def test_leaving_a_stream_hangs_up(tmp_path):
    with (
        SmallBroker(tmp_path / "run", {"token.watch": endless}) as broker,
        Client(broker.path) as client,
    ):
        for chunk in client.watch():
            assert chunk == {"n": 1}
            break
        assert broker.gone.acquire(timeout=PATIENCE)


def test_close_wakes_a_stream_in_another_thread(tmp_path):
    first, go = threading.Event(), threading.Event()

    def watch(_):
        yield {"n": 1}
        go.wait(PATIENCE)

    found = []
    with (
        SmallBroker(tmp_path / "run", {"token.watch": watch}) as broker,
        Client(broker.path) as client,
    ):

        def follow() -> None:
            for chunk in client.watch():
                found.append(chunk)
                first.set()
            found.append("ended")

        thread = threading.Thread(target=follow)
        thread.start()
        assert first.wait(PATIENCE)
        client.close()
        thread.join(PATIENCE)
        go.set()
    assert found == [{"n": 1}, "ended"]


def test_broker_that_dies_during_a_stream_is_an_error(tmp_path):
    def watch(_):
        yield {"n": 1}
        raise HangUp

    with (
        SmallBroker(tmp_path / "run", {"token.watch": watch}) as broker,
        Client(broker.path) as client,
    ):
        stream = client.watch()
        next(stream)
        with pytest.raises(BrokerUnreachable, match="connection_lost"):
            next(stream)


def test_what_is_no_broker_is_named(tmp_path):
    def rude(sock) -> None:
        accepted, _ = sock.accept()
        with accepted:
            accepted.recv(100)
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    import socket

    (tmp_path / "run").mkdir(mode=0o700)
    path = str(tmp_path / "run" / "broker.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        thread = threading.Thread(target=rude, args=(sock,))
        thread.start()
        with Client(path) as client, pytest.raises(InternalError, match="not_a_message"):
            client.token()
        thread.join(PATIENCE)


def test_import_loads_neither_msgpack_nor_asyncio():
    code = "import sys, copilot_broker; print(*sorted({'msgpack', 'asyncio', 'socket', 'dataclasses'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
    code = (
        "import sys; from copilot_broker import Client; Client(); print('asyncio' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_every_public_name_is_there_and_every_error_is_public():
    assert {name for name in copilot_broker.__all__ if not hasattr(copilot_broker, name)} == set()
    assert set(errors.__all__) - {"error_from", "refused"} <= set(copilot_broker.__all__)
    assert set(copilot_broker.__all__) <= set(dir(copilot_broker))
    with pytest.raises(AttributeError):
        _ = copilot_broker.nothing
    assert copilot_broker.Token is Token
