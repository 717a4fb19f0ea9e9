"""The login in a real GNOME Keyring, and what happens where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from system.session import SERVICE


if TYPE_CHECKING:
    from system.session import Session


def test_login_in_the_keyring_survives_a_restart(with_keyring: Session) -> None:
    session = with_keyring
    session.systemctl("start", "copilot-broker.socket")
    done = session.cred("login")
    assert done.returncode == 0, done.stderr
    (account,) = session.status()["accounts"]
    assert account["store"] == "secret-service"
    first = session.cred("get").stdout
    session.systemctl("restart", SERVICE)
    second = session.cred("get").stdout
    assert first.startswith("tid=")
    assert second.startswith("tid=")
    assert first != second, "the Copilot token is not kept, the login is"
    assert session.run("grep", "-rlE", "gh[oup]_", ".local/state", ".config").stdout == ""
    assert session.cred("logout").returncode == 0
    assert session.cred("get").returncode == 4


def test_without_a_keyring_auto_names_the_choices(session: Session) -> None:
    config = ".config/copilot-broker/config.toml"
    session.write(config, session.good("cat", config).replace('"file"', '"auto"'))
    # an address without a bus: D-Bus activation cannot start a keyring behind our back
    session.write(
        f".config/systemd/user/{SERVICE}.d/no-bus.conf",
        "[Service]\nEnvironment=DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent\n",
    )
    session.systemctl("daemon-reload")
    session.systemctl("start", "copilot-broker")
    assert session.show("ActiveState") == "active"
    done = session.cred("login")
    assert done.returncode == 9
    assert "--store file" in done.stderr
    assert "memory" in done.stderr
    assert session.cred("login", "--store", "file").returncode == 0
    assert session.cred("get").stdout.startswith("tid=")
