"""Environment and credential files as the process meets them."""

from __future__ import annotations

import os

import pytest

from brokerd.core.given import VARIABLES
from brokerd.core.settings import AccountSettings, Config
from brokerd.host.given_tokens import GivenTokens
from brokerd.host.logs.redaction import MASK, redact


TOKEN = "odd-token-that-no-pattern-knows"


def config(**sources):
    return Config(accounts={name: AccountSettings(source=each) for name, each in sources.items()})


def place(folder, name, content, mode=0o400):
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def the_credential(folder, **environ):
    reader = GivenTokens({"CREDENTIALS_DIRECTORY": str(folder)} | environ)
    return reader.read(config(default="credential"))["default"]


def test_the_variables_are_gone_once_they_are_read():
    environ = dict.fromkeys(VARIABLES, TOKEN) | {"HOME": "/home/me"}
    reader = GivenTokens(environ)
    assert reader.read(config(default="login")) == {}
    assert set(VARIABLES) < set(environ)
    first = reader.read(config(default="login", ci="environment"))
    assert list(first) == ["ci"]
    assert first["ci"].token.value == TOKEN
    assert environ == {"HOME": "/home/me"}
    assert reader.read(config(ci="environment")) == first  # it is remembered


def test_what_was_read_is_known_to_the_redaction():
    assert TOKEN[::-1] in redact(f"saw {TOKEN[::-1]}")
    GivenTokens({"GH_TOKEN": TOKEN[::-1]}).read(config(default="environment"))
    assert redact(f"saw {TOKEN[::-1]}") == f"saw {MASK}"


def test_a_credential_is_read_anew_each_time(tmp_path):
    path = place(tmp_path, "github-token", b"gho_first", 0o600)
    reader = GivenTokens({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    wanted = config(default="credential", work="credential")
    assert reader.read(wanted)["default"].token.value == "gho_first"
    path.write_bytes(b"gho_second\n")
    assert reader.read(wanted)["default"].token.value == "gho_second"
    assert reader.read(wanted)["work"].failure.code == "credential_missing"


@pytest.mark.parametrize("folder", ["", "relative", "/nowhere"])
def test_without_a_folder_there_is_none(folder):
    assert the_credential(folder).failure.code == "credential_missing"


def test_only_a_plain_file_is_read(tmp_path):
    def why(name):
        failure = the_credential(tmp_path / name).failure
        assert failure.code == "credential_unusable"
        return failure.message

    for name in ("link", "folder", "fifo", "open", "large"):
        (tmp_path / name).mkdir()
    place(tmp_path, "target", b"gho_target")
    (tmp_path / "link/github-token").symlink_to(tmp_path / "target")
    (tmp_path / "folder/github-token").mkdir()
    os.mkfifo(tmp_path / "fifo/github-token")
    place(tmp_path / "open", "github-token", b"gho_open", 0o644)
    place(tmp_path / "large", "github-token", b"g" * 70_000)
    assert "symbolic link" in why("link")
    assert "regular file" in why("folder")
    assert "regular file" in why("fifo")
    assert "every user" in why("open")
    assert "larger" in why("large")
