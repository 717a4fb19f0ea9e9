"""The Node client as a package: what npm packs, its types, how its process ends."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from contracts.clients.installing import DRIVERS, NODE_CLIENT, ROOT, node, npm, packed
from copilot_broker import __all__ as python_names
from fakes.wire_server import SILENCE, Stream, WireServer


PATIENCE = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("node"))


def run(folder, program, **env):
    """Run a module that can import the client; return what it said."""
    script = folder / "program.mjs"
    script.write_text(program)
    done = subprocess.run(
        [node(), script], env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_package_holds_the_library_and_nothing_else(folder):
    installed = folder / "node_modules" / "copilot-broker"
    found = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    library = {str(file.relative_to(NODE_CLIENT)) for file in NODE_CLIENT.glob("lib/**/*.js")}
    assert found == library | {"package.json", "index.d.ts", "README.md"}


def test_the_command_that_its_readme_names_installs_it(tmp_path):
    """As its user would say it in the checkout, here with a folder of its own to install to."""
    [command] = re.findall(r"`(npm install [^`]*)`", (NODE_CLIENT / "README.md").read_text())
    there = ["--prefix", tmp_path, "--prefer-offline", "--no-audit", "--no-fund"]
    arguments = command.split()[1:]
    subprocess.run([*npm(), *arguments, *there], cwd=ROOT, check=True, timeout=PATIENCE)
    program = 'const { Client } = await import("copilot-broker"); console.log(typeof Client);'
    assert run(tmp_path, program) == "function\n"


def test_it_depends_on_a_msgpack_library_alone():
    package = json.loads((NODE_CLIENT / "package.json").read_text())
    assert list(package["dependencies"]) == ["@msgpack/msgpack"]
    imported = {
        name
        for file in NODE_CLIENT.glob("lib/**/*.js")
        for name in re.findall(r'from "([^".][^"]*)"', file.read_text())
        if not name.startswith("node:")
    }
    assert imported == {"@msgpack/msgpack"}


def test_its_version_is_the_projects():
    package = json.loads((NODE_CLIENT / "package.json").read_text())
    lock = json.loads((NODE_CLIENT / "package-lock.json").read_text())
    text = (ROOT / "brokerd" / "__init__.py").read_text()
    [version] = re.findall(r'__version__ = "(.*)"', text)
    assert package["version"] == lock["version"] == version


def test_its_public_names_are_pythons(folder):
    program = 'console.log(JSON.stringify(Object.keys(await import("copilot-broker"))))'
    asyncio_only = {name for name in python_names if name.startswith("Async")}
    assert set(json.loads(run(folder, program))) == set(python_names) - asyncio_only


def test_the_types_hold_for_a_typed_program(folder):
    sample = folder / "sample.ts"
    sample.write_text((DRIVERS / "typed_sample.ts").read_text())
    strict = ["--noEmit", "--strict", "--skipLibCheck", "false"]
    module = ["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom"]
    compiler = folder / "node_modules/typescript/bin/tsc"
    done = subprocess.run(
        [node(), compiler, *strict, *module, sample],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_types_name_each_method(folder):
    program = """
    import { Client, CompletionStream, Completion, Token } from "copilot-broker";
    const of = (kind) => Object.getOwnPropertyNames(kind.prototype);
    console.log(JSON.stringify([Client, CompletionStream, Completion, Token].map(of)));
    """
    told = (NODE_CLIENT / "index.d.ts").read_text()
    hidden = {"constructor", "toString", "toJSON"}
    for names in json.loads(run(folder, program)):
        for name in names:
            declared = re.search(rf"^  (get |readonly )?{name}[(:]", told, re.MULTILINE)
            assert declared or name in hidden or name.startswith("_"), name


def test_a_process_ends_though_a_client_is_left_open(folder):
    """Nothing that nobody waits for keeps it alive: no connection, no stream, no timer."""
    program = """
    import { Client } from "copilot-broker";
    const broker = new Client({ name: "left" });
    await broker.status();
    const stream = await broker.watch();
    console.log((await stream.next()).value.n);
    """
    answers = {"broker.status": {"pid": 1}, "token.watch": Stream(waiting_after({"n": 7}))}
    with WireServer(answers) as server:
        assert run(folder, program, COPILOT_BROKER_SOCKET=server.path) == "7\n"


def waiting_after(chunk):
    yield chunk
    yield from ({"more": "x" * 1000} for _ in range(1000))  # until its credit is used up


def test_an_aborted_stream_throws_the_reason_and_hangs_up(folder):
    program = """
    import { Client } from "copilot-broker";
    const abort = new AbortController();
    const broker = new Client();
    const stream = await broker.watch({ signal: abort.signal });
    await stream.next();
    const waiting = stream.next();
    abort.abort(new Error("enough"));
    await waiting.catch((error) => console.log(error.message));
    console.log((await stream.next()).done);
    const signal = AbortSignal.abort(new Error("before"));
    await broker.token({ signal }).catch((error) => console.log(error.message));
    """

    def one_and_no_more():
        yield {"n": 1}
        server.left.wait(PATIENCE)

    with WireServer({"token.get": SILENCE}) as server:
        server.answers["token.watch"] = Stream(one_and_no_more())
        told = run(folder, program, COPILOT_BROKER_SOCKET=server.path)
        assert told == "enough\ntrue\nbefore\n"
        assert server.left.wait(PATIENCE)
        assert server.calls("token.get") == []


def test_the_socket_is_found_as_the_python_client_finds_it(folder):
    """`$COPILOT_BROKER_SOCKET` first, then the runtime directory; nothing after that."""
    program = """
    import { Client } from "copilot-broker";
    const { message } = await new Client().status().catch((error) => error);
    console.log(message);
    """
    both = {"COPILOT_BROKER_SOCKET": "/none/a.sock", "XDG_RUNTIME_DIR": "/none/run"}
    assert "/none/a.sock" in run(folder, program, **both)
    del both["COPILOT_BROKER_SOCKET"]
    assert "/none/run/copilot-broker/broker.sock" in run(folder, program, **both)


def test_each_example_of_its_readme_runs(folder):
    """Against a broker that answers what they ask."""
    page = (NODE_CLIENT / "README.md").read_text()
    examples = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 2
    event = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n'
    token = {"token": "t", "expires_at": 1, "expires_in": 1440.5, "token_id": "0123abcd"}
    answers = {
        "token.get": token | {"api_base": "https://x", "account": "default"},
        "completion.create": lambda _: Stream(
            [event], status=200, headers={"content-type": "text/event-stream"}
        ),
        "token.watch": lambda _: Stream([{"event": "token", "token_id": "0123abcd"}]),
    }
    with WireServer(answers) as server:
        told = [run(folder, example, COPILOT_BROKER_SOCKET=server.path) for example in examples]
    assert "1440.5" in told[0]
    assert "Hello" in "".join(told)
