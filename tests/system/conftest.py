"""The installed wheel under a real user manager, against the simulator.

Built once a run: the wheel, a virtual environment that has nothing else of this checkout, a session
whose user got commands and units from `packaging/set-up`. Each test starts from stopped units, no
configuration and no state.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from canary.plugin import run_of
from canary.spellings import Net
from system.clients.install import PLACE, kept_in
from system.github import GitHub
from system.session import ROOT, SERVICE, SOCKETS, Session, can_be_root
from system.witness import LOOK_AT_FILES_AND_UNITS, Witness


if TYPE_CHECKING:
    from collections.abc import Iterator

    from canary.plugin import Canaries


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(240))  # the first one builds and installs


@pytest.fixture(scope="session")
def installed() -> Iterator[Path]:
    """A virtual environment that every user can read, with the wheel in it."""
    if not can_be_root() or not Path("/usr/lib/systemd/systemd").exists():
        reason = "needs systemd and root or passwordless sudo: run packaging/test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="copilot-broker-test-"))
    folder.chmod(0o755)
    umask = os.umask(0o022)
    try:
        pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
        wheels = folder / "wheel"
        subprocess.run(
            [sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT], check=True
        )
        (wheel,) = wheels.glob("*.whl")
        venv = folder / "venv"
        subprocess.run(
            ["/usr/bin/python3", "-m", "venv", "--system-site-packages", venv], check=True
        )
        subprocess.run([venv / "bin/python", *pip, "install", f"{wheel}[daemon,cli]"], check=True)
        yield venv
    finally:
        os.umask(umask)
        shutil.rmtree(folder)


def _session(
    installed: Path, config: pytest.Config, name: str, *options: str
) -> Iterator[Session]:
    """Make a session; at its end none of the secrets of the run may have been seen in it."""
    with (
        contextlib.closing(Session(f"{name}{os.getpid()}", *options)) as session,
        contextlib.closing(Witness(session)) as witness,
    ):
        session.witness = witness
        # set-up comes from a place this user can read; the checkout may be root's
        session.good("mkdir", "-p", "set-up/packaging")
        for script in ("set-up", "debian-packages.sh"):
            text = (ROOT / "packaging" / script).read_text()
            session.write(f"set-up/packaging/{script}", text)
        session.good("bash", "set-up/packaging/set-up", "--from", str(installed))
        yield session
        witness.look()
        _nothing_seen(witness, run_of(config), name)


def _nothing_seen(witness: Witness, canaries: Canaries, name: str) -> None:
    net = Net()
    for secret, (kind, test) in canaries.secrets.items():
        net.add(secret, f"{kind} of {test}")
    canaries.note(
        f"the whole session {name!r}: {len(net)} secrets watched for in "
        + ", ".join(f"{n:,} of {what}" for what, n in witness.looked_through.items())
    )
    leaks = [f"{kind}, {spelling}, in {where}" for kind, spelling, where in witness.leaks(net)]
    if leaks:
        pytest.fail("\n".join(["canaries:", *sorted(leaks)]), pytrace=False)


@pytest.fixture(scope="session")
def plain_session(installed: Path, pytestconfig: pytest.Config) -> Iterator[Session]:
    """A user without a keyring; sees what `clients.install` has installed, or will have."""
    yield from _session(installed, pytestconfig, "plain", "--bind", f"{kept_in()}:{PLACE}")


@pytest.fixture(scope="session")
def keyring_session(installed: Path, pytestconfig: pytest.Config) -> Iterator[Session]:
    """A user whose GNOME Keyring is unlocked."""
    yield from _session(installed, pytestconfig, "keyring", "--keyring")


@pytest.fixture(scope="session")
def simulator() -> Iterator[GitHub]:
    with GitHub(auto_approve=True) as github:
        yield github


@pytest.fixture
def github(simulator: GitHub) -> GitHub:
    """A GitHub that has forgotten all."""
    simulator.forget()
    return simulator


def configuration(github: GitHub, store: str) -> str:
    """Point the daemon at `github`, as a person would: with a configuration file."""
    urls = "".join(f'{name} = "{github.url}"\n' for name in ("login", "api", "copilot"))
    return f'[urls]\n{urls}[store]\nkind = "{store}"\n[log]\nlevel = "debug"\n'


# One command for all of it: each `session.run` enters the session's namespaces anew.
START_ANEW = f"""
{LOOK_AT_FILES_AND_UNITS}
set -e
systemctl --user stop "$@" 'copilot-broker@*.socket'
rm -rf .local/state/copilot-broker .local/state/copilot-broker-simulated
mkdir -p .config/copilot-broker
cat > .config/copilot-broker/config.toml
if [ -e ".config/systemd/user/$1.d" ]; then
  rm -r ".config/systemd/user/$1.d"
  systemctl --user daemon-reload
fi
systemctl --user reset-failed "$@" 2>/dev/null || true
"""


def start_anew(session: Session, github: GitHub, store: str) -> None:
    stdin = configuration(github, store)
    told = session.good("bash", "-c", START_ANEW, "_", SERVICE, *SOCKETS, stdin=stdin)
    session.witness.saw_files_and_units(told)


@pytest.fixture
def session(plain_session: Session, github: GitHub) -> Session:
    """All stopped, signed out; logins would go to the file store."""
    start_anew(plain_session, github, "file")
    return plain_session


@pytest.fixture
def signed_in(session: Session) -> Session:
    """The daemon runs, its login is in the file store."""
    session.systemctl("start", "copilot-broker.socket")
    done = session.cred("login")
    assert done.returncode == 0, done.stderr
    return session


@pytest.fixture
def with_keyring(keyring_session: Session, github: GitHub) -> Session:
    """All stopped, signed out; logins go where `auto` says."""
    start_anew(keyring_session, github, "auto")
    return keyring_session
