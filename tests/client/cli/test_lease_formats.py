"""`get --format …`: what shells, curl, git and Kubernetes clients read, read by them where they are."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import threading
from datetime import UTC, datetime

import pytest
import trustme

from client.cli.running import COMMAND, PATIENCE, run
from copilot_broker.cli import get as get_file
from copilot_broker.cli import lease_formats
from copilot_broker.cli.report import Refusal
from fakes.wire_server import WireServer


TOKEN = "tid=canary;exp=1800000000;sku=x:mac"
LEASE = {
    "token": TOKEN,
    "token_type": "bearer",
    "expires_at": 1_800_000_000,
    "expires_in": 1499.5,
    "api_base": "https://api.individual.githubcopilot.com",
    "headers": {"Copilot-Integration-Id": "vscode-chat", "Editor-Version": "copilot-broker/1"},
    "account": "default",
    "token_id": "1a2b3c4d",
    "clamped": False,
    "completions_base": "https://proxy.individual.githubcopilot.com",
    "cooldown_until": None,
}
NASTY = "a'b\"c$(id);`id`\\;\\'x\\\\=1%~"
EXEC = "client.authentication.k8s.io"


@pytest.fixture
def server():
    with WireServer({"token.get": dict(LEASE)}) as server:
        yield server


def test_each_format_of_get_is_somewhere():
    assert set(get_file.FORMATS) - set(lease_formats.FORMATS) == {"raw", "json", "header"}
    assert set(lease_formats.FORMATS) <= set(get_file.FORMATS)


@pytest.mark.parametrize("name", get_file.FORMATS)
def test_no_newline_where_none_is_wanted(server, name):
    whole = run("get", "--format", name, env=server.env)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout.endswith("\n")
    bare = run("get", "-n", "--format", name, env=server.env)
    assert bare.stdout == whole.stdout[:-1]


# -- shells ------------------------------------------------------------------------------------

SHELLS = {"dash": "sh", "bash": "sh", "zsh": "sh", "fish": "fish"}
READS = {
    "sh": 'eval "$(cat)"; printf "%s|%s|%s" "$MY_TOKEN" "$MY_API_BASE" "$MY_TOKEN_EXPIRES_AT"',
    "fish": 'source; printf "%s|%s|%s" "$MY_TOKEN" "$MY_API_BASE" "$MY_TOKEN_EXPIRES_AT"',
}


@pytest.mark.parametrize("shell", SHELLS)
def test_assignments_mean_what_the_lease_says(server, shell, tmp_path):
    kind = SHELLS[shell]
    server.answers["token.get"] = {**LEASE, "token": NASTY}
    done = run("get", "--format=env", "--shell", kind, "--prefix=MY_", env=server.env)
    assert done.returncode == 0, done.stderr
    seen = subprocess.run(
        [program(shell), "-c", READS[kind]],
        input=done.stdout,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert seen.stdout == f"{NASTY}|{LEASE['api_base']}|1800000000"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shell", "sh"],
        ["--format", "json", "--prefix", "X_"],
        ["--format", "env", "--shell", "csh"],
        ["--format", "env", "--prefix", "1X"],
        ["--format", "env", "--prefix", "X;id;"],
        ["--format", "env", "--prefix", "É"],
        ["--format", "env", "--prefix="],
        ["-n=1"],
    ],
    ids=" ".join,
)
def test_what_no_shell_could_use_asks_nobody(server, arguments):
    done = run("get", *arguments, env=server.env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("copilot-cred get --help\n")
    assert server.requests == []


# -- curl --------------------------------------------------------------------------------------


class Recorder(http.server.BaseHTTPRequestHandler):
    """Keeps the headers of each request with the server, answers with an empty object."""

    def do_GET(self):
        self.server.seen.append(dict(self.headers))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        """Stay quiet."""


@pytest.fixture
def upstream():
    with recording() as upstream:
        yield upstream


@contextlib.contextmanager
def recording(certificate=None):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as upstream:
        upstream.seen = []
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
            scheme = "https"
        upstream.url = f"{scheme}://127.0.0.1:{upstream.server_port}"
        thread = threading.Thread(target=upstream.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield upstream
        finally:
            upstream.shutdown()
            thread.join(PATIENCE)


def curl(config, url):
    return subprocess.run(
        [program("curl"), "--disable", "--silent", "--show-error", "--config", "-", url],
        input=config,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
    )


def test_curl_sends_what_copilot_wants_to_see(server, upstream):
    odd = {"X-Odd": 'a "b" \\n c\\', **LEASE["headers"]}
    server.answers["token.get"] = {**LEASE, "api_base": upstream.url, "headers": odd}
    config = run("get", "--format", "curl-config", env=server.env).stdout
    done = curl(config, f"{upstream.url}/models")
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}", "")
    (seen,) = upstream.seen
    assert seen["Authorization"] == f"Bearer {TOKEN}"
    assert {name: seen[name] for name in odd} == odd


def test_curl_does_not_take_a_token_for_https_elsewhere(server, upstream):
    config = run("get", "--format", "curl-config", env=server.env).stdout
    done = curl(config, f"{upstream.url}/models")
    assert done.returncode == 1, done.stderr  # CURLE_UNSUPPORTED_PROTOCOL
    assert upstream.seen == []


def test_no_header_becomes_two(server):
    headers = {"X-Odd": "a\r\nurl = http://127.0.0.1:1/"}
    server.answers["token.get"] = {**LEASE, "headers": headers}
    done = run("get", "--format", "curl-config", env=server.env)
    assert (done.returncode, done.stdout) == (1, "")
    assert TOKEN not in done.stderr


def test_a_lease_without_headers_is_a_config_too():
    told = lease_formats.as_curl_config({"token": "cpb_x", "api_base": "http://127.0.0.1:1"}, {})
    assert told == 'header = "Authorization: Bearer cpb_x"\n'


# -- git ---------------------------------------------------------------------------------------


def test_git_attributes_are_for_the_own_host(server):
    done = run("get", "--format", "git-credential", env=server.env)
    assert done.stdout.splitlines() == [
        "capability[]=authtype",
        "protocol=https",
        "host=api.individual.githubcopilot.com",
        "authtype=Bearer",
        f"credential={TOKEN}",
        "ephemeral=1",
        "password_expiry_utc=1800000000",
    ]


def test_git_gets_nothing_for_a_host_without_https(server):
    server.answers["token.get"] = {**LEASE, "api_base": "http://127.0.0.1:1"}
    done = run("get", "--format", "git-credential", env=server.env)
    assert (done.returncode, done.stdout) == (5, "")


def test_an_attribute_stays_one_line():
    with pytest.raises(ValueError, match="one line"):
        lease_formats.git_attributes({"credential": "a\nhost=example.org"})


# -- Kubernetes --------------------------------------------------------------------------------


def exec_info(version="v1", **spec):
    given = {"interactive": False, **spec}
    return json.dumps({"apiVersion": f"{EXEC}/{version}", "kind": "ExecCredential", "spec": given})


def check_exec_credential(told, version):
    """Hold it against the API reference: client.authentication.k8s.io, ExecCredential(Status)."""
    assert set(told) <= {"apiVersion", "kind", "spec", "status"}
    assert (told["apiVersion"], told["kind"]) == (f"{EXEC}/{version}", "ExecCredential")
    status = told["status"]
    known = {"expirationTimestamp", "token", "clientCertificateData", "clientKeyData"}
    assert set(status) <= known
    assert all(isinstance(value, str) for value in status.values())
    assert ("clientCertificateData" in status) == ("clientKeyData" in status)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["expirationTimestamp"])


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("interactive", [True, False])
def test_an_exec_credential_is_of_the_version_asked_in(server, version, interactive):
    env = {**server.env, "KUBERNETES_EXEC_INFO": exec_info(version, interactive=interactive)}
    done = run("get", "--format", "k8s", env=env)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    told = json.loads(done.stdout)
    check_exec_credential(told, version)
    assert told["status"]["token"] == TOKEN
    ends = datetime.fromisoformat(told["status"]["expirationTimestamp"])
    assert ends == datetime.fromtimestamp(1_800_000_000, UTC)


def test_by_hand_it_is_the_newest_version(server):
    told = json.loads(run("get", "--format", "k8s", env=server.env).stdout)
    check_exec_credential(told, "v1")


@pytest.mark.parametrize(
    "info",
    ["{", "[]", "7", "{}", exec_info("v1alpha1"), exec_info("v2"),
     exec_info().replace("ExecCredential", "Pod")],
)  # fmt: skip
def test_a_question_that_is_not_understood_gets_no_token(info, monkeypatch):
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", info)
    with pytest.raises(Refusal) as found:
        lease_formats.as_exec_credential(LEASE, {})
    assert (found.value.error_class, found.value.code) == (2, "exec_version")


def test_kubectl_sends_the_token(server, tmp_path):
    kubectl = shutil.which("kubectl")
    if kubectl is None:  # Debian 12's own speaks v1beta1 only
        pytest.skip("kubectl is not on PATH; the form is held against the API reference above")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    command = {
        "apiVersion": f"{EXEC}/v1",
        "command": COMMAND[0],
        "args": [*COMMAND[1:], "get", "--format", "k8s"],
        "interactiveMode": "Never",
    }
    with recording(authority.issue_cert("127.0.0.1")) as cluster:
        address = {"server": cluster.url, "certificate-authority": str(tmp_path / "ca.pem")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "x", "cluster": address}],
            "users": [{"name": "x", "user": {"exec": command}}],
        }
        (tmp_path / "config").write_text(json.dumps(config))
        done = subprocess.run(
            [kubectl, "--kubeconfig", "config", "--cache-dir", "cache", "get", "--raw", "/api"],
            cwd=tmp_path,
            env={**server.env, "HOME": str(tmp_path), "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "{}"), done.stderr
    assert cluster.seen[-1]["Authorization"] == f"Bearer {TOKEN}"


def program(name):
    """Return where it is; where tests may ask for packages, it has to be there."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is missing; install it: apt-get install {name}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
