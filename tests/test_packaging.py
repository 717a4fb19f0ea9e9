"""What is shipped: the wheel, the units, the folders."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
UNITS = (
    "copilot-broker.service",
    "copilot-broker.socket",
    "copilot-broker-http.socket",
    "copilot-broker@.socket",
)

# Each of these makes a user namespace around a user service, in systemd 252 or a later one, and a
# user namespace makes the memory of the process readable by every program of the same user.
NAMESPACE_MAKING = {
    "PrivateUsers", "PrivateUsersEx", "ProtectSystem", "ProtectHome", "ProtectHostname",
    "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectClock",
    "ProtectControlGroups", "ProtectProc", "ProcSubset", "PrivateTmp", "PrivateDevices",
    "PrivateNetwork", "PrivateIPC", "PrivateMounts", "PrivatePIDs", "ReadOnlyPaths",
    "ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths",
    "BindReadOnlyPaths", "TemporaryFileSystem", "RootDirectory", "RootImage", "MountAPIVFS",
    "DynamicUser", "CapabilityBoundingSet", "AmbientCapabilities",
}  # fmt: skip

SERVICE = {
    "Type": "notify",
    "NotifyAccess": "main",
    "WatchdogSec": "60",
    "Sockets": "copilot-broker.socket copilot-broker-http.socket",
    "ExecReload": "/bin/kill -HUP $MAINPID",
    "Restart": "on-failure",
    "UMask": "0077",
    "LimitCORE": "0",
    "LimitNOFILE": "65536",
    "MemorySwapMax": "0",
    "NoNewPrivileges": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictNamespaces": "yes",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
}
SOCKET = {
    "SocketMode": "0600",
    "DirectoryMode": "0700",
    "RemoveOnStop": "yes",
    "Backlog": "256",
    "TriggerLimitIntervalSec": "0",
    "Service": "copilot-broker.service",
}


def directives(unit: str) -> dict[str, list[str]]:
    """Return `Section.Key` → its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (ROOT / "systemd" / unit).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


@pytest.mark.parametrize(("key", "value"), SERVICE.items())
def test_service_says(key: str, value: str) -> None:
    assert directives("copilot-broker.service")[f"Service.{key}"] == [value]


def test_service_filters_system_calls_as_designed() -> None:
    allowed, refused = directives("copilot-broker.service")["Service.SystemCallFilter"]
    assert set(allowed.split()) == {
        "@system-service", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
    }  # fmt: skip
    assert refused.startswith("~")
    assert set(refused[1:].split()) == {
        "@privileged", "@resources", "@debug", "@setuid", "@keyring",
        "process_vm_readv", "process_vm_writev",
    }  # fmt: skip


def test_service_needs_both_sockets() -> None:
    required = directives("copilot-broker.service")["Unit.Requires"]
    assert required == ["copilot-broker.socket copilot-broker-http.socket"]
    assert directives("copilot-broker.socket")["Unit.Wants"] == ["copilot-broker-http.socket"]


@pytest.mark.parametrize("unit", UNITS)
def test_no_unit_makes_a_user_namespace_or_owns_a_directory(unit: str) -> None:
    keys = {name.partition(".")[2] for name in directives(unit)}
    assert keys & NAMESPACE_MAKING == set()
    assert not keys & {"RuntimeDirectory", "StateDirectory", "ConfigurationDirectory"}


@pytest.mark.parametrize(
    ("unit", "name", "path"),
    [
        ("copilot-broker.socket", "rpc", "%t/copilot-broker/broker.sock"),
        ("copilot-broker-http.socket", "http", "%t/copilot-broker/http.sock"),
        ("copilot-broker@.socket", "%i", "%t/copilot-broker/%i.sock"),
    ],
)
def test_sockets(unit: str, name: str, path: str) -> None:
    found = directives(unit)
    assert {key: found[f"Socket.{key}"] for key in SOCKET} == {k: [v] for k, v in SOCKET.items()}
    assert found["Socket.FileDescriptorName"] == [name]
    assert found["Socket.ListenStream"] == [path]


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is missing")
        pytest.skip("systemd-analyze is missing: sudo apt-get install systemd")
    command = tmp_path / ".local/bin/copilot-brokerd"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *(ROOT / "systemd" / unit for unit in UNITS)],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("folder", ["systemd", "packaging"])
def test_folder_shadows_no_python_package(folder: str) -> None:
    """An __init__.py here would hide python-systemd, or the `packaging` that builds wheels."""
    assert list((ROOT / folder).rglob("__init__.py")) == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_has_two_packages_the_units_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    info = next(top for top in tops if top.endswith(".dist-info"))
    data = info.replace(".dist-info", ".data")
    assert tops == {"brokerd", "copilot_broker", info, data}
    shared = {name for name in names if name.startswith(f"{data}/")}
    units = {f"{data}/data/share/systemd/user/{unit}" for unit in UNITS}
    catalog = f"{data}/data/share/systemd/catalog/copilot-broker.catalog"
    assert shared == units | {catalog, f"{data}/scripts/copilot-cred"}
    assert "copilot_broker/py.typed" in names
    sources = {
        str(path.relative_to(ROOT / base))
        for base, package in ((".", "brokerd"), ("client", "copilot_broker"))
        for path in (ROOT / base / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources


def test_wheel_names_its_commands(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        points = configparser.ConfigParser()
        points.read_string(archive.read(path).decode())
    assert dict(points["console_scripts"]) == {"copilot-brokerd": "brokerd.cli:main"}


@pytest.fixture(scope="module")
def client_venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and none of its extras."""
    folder = tmp_path_factory.mktemp("client") / "venv"
    venv.create(folder, with_pip=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", wheel], check=True)
    return folder


@pytest.mark.timeout(240)  # makes a virtual environment
def test_client_works_with_msgpack_alone(client_venv: Path, tmp_path: Path) -> None:
    run = client_venv / "bin"
    pip = [run / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    listed = subprocess.run([*pip, "freeze"], check=True, capture_output=True, text=True).stdout
    assert {line.partition("=")[0].partition(" ")[0] for line in listed.splitlines()} == {
        "copilot-broker", "msgpack",
    }  # fmt: skip
    plain = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    every_name = (
        "import copilot_broker as c, copilot_broker.http as http\n"
        "for each in (c, http): [getattr(each, name) for name in each.__all__]\n"
        "assert repr(c.Client)"
    )
    subprocess.run([run / "python", "-c", every_name], check=True, env=plain)
    version = subprocess.run(
        [run / "copilot-cred", "--version"], check=True, env=plain, capture_output=True, text=True
    )
    assert "0." in version.stdout
    get = subprocess.run(
        [run / "copilot-cred", "get"], check=False, env=plain, capture_output=True, text=True
    )
    assert (get.returncode, get.stdout) == (3, "")
    assert "copilot-broker.socket" in get.stderr


@pytest.mark.timeout(240)  # makes a virtual environment
def test_commands_run_no_start_up_hooks(client_venv: Path, tmp_path: Path) -> None:
    (packages,) = client_venv.glob("lib/python*/site-packages")
    (packages / "hook.pth").write_text("import sys; print('hook ran', file=sys.stderr)\n")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    set_up = ["bash", ROOT / "packaging/set-up", "--from", client_venv]
    for _ in range(2):  # the second time over its own work
        subprocess.run(set_up, check=True, env=env, capture_output=True)
    (tmp_path / "sitecustomize.py").write_text("import sys; print('hook ran', file=sys.stderr)\n")

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [tmp_path / ".local/bin" / name, *arguments],
            check=False,
            env=env | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    get = run("copilot-cred", "get")
    assert (get.returncode, get.stdout) == (3, "")
    status = run("copilot-cred", "status")
    assert (status.returncode, status.stdout) == (3, "")
    daemon = run("copilot-brokerd", "--version")
    assert (daemon.returncode, daemon.stderr) == (0, "")
    assert "hook ran" not in get.stderr + status.stderr


@pytest.mark.timeout(240)  # makes a virtual environment
def test_set_up_overwrites_nothing_of_the_users(client_venv: Path, tmp_path: Path) -> None:
    command = tmp_path / ".local/bin/copilot-cred"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    refused = subprocess.run(
        ["bash", ROOT / "packaging/set-up", "--from", client_venv],
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "a file of your own" in refused.stderr
    assert command.read_text() == "#!/bin/sh\n"


PYTEST = """#!/bin/sh
echo "CI=$CI, $(command -v pytest) $*"
echo "1 failed, 7 passed in 0.01s"
exit 1
"""


@pytest.mark.parametrize("command", ["packaging/test", ".ci/run"])
def test_exit_status_and_last_line_are_those_of_pytest(command: str, tmp_path: Path) -> None:
    """With stand-ins for all that it would install: Debian's packages are there, pip is content."""
    programs = {"dpkg-query": "echo installed", "python": "true", "sudo": "exit 9"}
    (tmp_path / "bin").mkdir()
    for name, does in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
    (tmp_path / "bin/pytest").write_text(PYTEST)
    for program in (tmp_path / "bin").iterdir():
        program.chmod(0o755)
    arguments = [] if command == ".ci/run" else ["-k", "a and b"]
    done = subprocess.run(
        [ROOT / command, *arguments],
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "PYTHON": str(tmp_path / "bin/python"),
            "COPILOT_BROKER_TEST_VENV": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    ran, last = done.stdout.splitlines()
    assert last == "1 failed, 7 passed in 0.01s"
    assert ran == " ".join(
        ["CI=true,", str(tmp_path / "bin/pytest"), "--numprocesses 2", *arguments]
    )
