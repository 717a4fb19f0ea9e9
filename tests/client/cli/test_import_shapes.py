"""Every shape in which another tool keeps a login: found as it is, or refused with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from client.cli.other_tools import (
    GH,
    HOSTS_YML,
    NO_COPILOT,
    PAT,
    SHAPES,
    Shape,
    database,
    gho,
    ghu,
    js,
    plant,
)
from copilot_broker.cli.imports.found import Kind
from copilot_broker.cli.imports.gh import read_gh
from copilot_broker.cli.imports.look import look
from copilot_broker.cli.imports.places import places
from copilot_broker.cli.imports.reading import Unreadable
from copilot_broker.cli.imports.yaml_maps import read_yaml_maps


APPS = ".config/github-copilot/apps.json"


@pytest.fixture
def home(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home


def found_in(home, environ=None, path=""):
    """Return what is found, in the form of `Shape.found`."""
    environ = {name: value.format(home=home) for name, value in (environ or {}).items()}
    found = look({"PATH": path, **environ})
    assert all(each.token not in repr(each) for each in found if each.token)
    return [
        (each.tool, each.host, each.user, each.kind.value, each.app, each.problem, each.token)
        for each in found
    ]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_shape(home, shape):
    path = plant(home, shape)
    assert found_in(home, shape.environ) == shape.found
    for each in look({"PATH": "", **{k: v.format(home=home) for k, v in shape.environ.items()}}):
        assert each.place == str(path)
        assert each.mode == 0o600
        assert 0 <= each.age < 3600


def test_no_shape_is_without_a_test(home):
    """Each place of the table is the place of a shape here, or gh's."""
    covered = {"hosts.yml"} | {Path(shape.path).name for shape in SHAPES.values()}
    for place in places({"CODECOMPANION_TOKEN_PATH": "/x"}, home, home):
        assert place.path.name in covered, place


def test_all_at_once_each_file_once(home):
    shapes = {shape.path: shape for shape in SHAPES.values() if not shape.environ}
    for shape in shapes.values():
        plant(home, shape)
    assert sorted(found_in(home)) == sorted(
        each for shape in shapes.values() for each in shape.found
    )
    moved = {"CODECOMPANION_TOKEN_PATH": "{home}/.config"}  # the editors' own
    assert sorted(found_in(home, moved)) == sorted(found_in(home))


def test_the_age_is_that_of_the_file(home):
    path = plant(home, SHAPES["copilot-api"])
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3 * 86400))
    (found,) = look({})
    assert 3 * 86400 <= found.age < 3 * 86400 + 3600


# -- gh ------------------------------------------------------------------------------------------


@pytest.fixture
def gh(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def test_gh_with_its_tokens_in_the_file_and_in_the_keyring(home, gh):
    plant(home, Shape(".config/gh/hosts.yml", HOSTS_YML.encode()))
    found = look({})
    assert [(each.host, each.user, each.kind.value, each.problem) for each in found] == [
        ("github.com", "octocat", "gho_", ""),
        ("github.com", "hubot", "-", ""),
        ("acme.ghe.com", "mona", "-", ""),
        ("ghes.example.org", "", "gho_", NO_COPILOT),
    ]
    assert [each.app for each in found] == [GH, "", "", GH]
    asking = ("gh", "auth", "token", "--hostname")
    assert [each.program for each in found] == [
        (),
        (*asking, "github.com", "--user", "hubot"),
        (*asking, "acme.ghe.com"),
        (),
    ]


def test_without_gh_its_keyring_cannot_be_asked(home, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    plant(home, Shape("gh/hosts.yml", b"github.com:\n  user: octocat\n"))
    (found,) = look({"GH_CONFIG_DIR": str(home / "gh")})
    assert found.problem == "in the keyring, and gh is not installed to ask"
    assert found.program == ()


def test_names_in_ghs_file_are_no_options(gh):
    (login,) = read_gh(b"'--help':\n  user: octocat\n")
    assert (login.program, login.problem) == ((), "an odd name")


def test_the_yaml_that_gh_writes():
    text = """\
# by hand
"a b": 'it''s'
top:
    inner:
        leaf: "q\\"uoted"   # said
        none:
    again: x # y
last: {}
dash: a-b:c
"""
    assert read_yaml_maps(text.encode()) == {
        "a b": "it's",
        "top": {"inner": {"leaf": 'q"uoted', "none": {}}, "again": "x"},
        "last": {},
        "dash": "a-b:c",
    }


@pytest.mark.parametrize(
    "text",
    [
        b"- a\n",
        b"a: &x b\n",
        b"a: *x\n",
        b"a: |\n  text\n",
        b"a: [1]\n",
        b"a: {b: c}\n",
        b"a\n",
        b"a: b\n  c: d\n",
        b"a:\n    b: c\n  d: e\n",
        b"\ta: b\n",
        b"\xff\xfe",
        b'a: "open\n',
        b"".join(b" " * n + b"a:\n" for n in range(100)),
    ],
)
def test_other_yaml_is_refused_not_guessed(text):
    with pytest.raises(Unreadable):
        read_yaml_maps(text)


# -- broken, huge, and of other forms --------------------------------------------------------------

ALL_PATHS = sorted(
    {shape.path for shape in SHAPES.values() if not shape.environ} | {".config/gh/hosts.yml"}
)
GARBAGE = [
    b"",
    b"\x00\xff\xfe" * 50,
    b"{" * 100_000,
    b"[" * 100_000,
    b"[]",
    b"null",
    b'{"github-copilot": []}',
    b'{"github.com": {"oauth_token": 3, "user": ["x"]}}',
    b'{"copilotTokens": [1], "loggedInUsers": {"a": 1}}',
    b'{"copilotTokens": {"": 1, "ftp://x:y": "z"}, "loggedInUsers": [1, {"host": 3}]}',
    b'{"providers": {"copilot": {"oauth": 3}}}',
    b'{"token": {"a": 1}, "github_copilot": [1], "github_copilot_access_token": null}',
    b'"\\ud800"',
    b'{"github.com:x": {"user": "\\ud800\\u001b[2J", "oauth_token": "gho_\\ud800"}}',
    b"SQLite format 3\x00" + b"\x00" * 200,
    database(("github.com", "x"))[:3000],
    b"1" * 5000,
    b"a" + b" " * 1_000_000 + b"b",
    b'"' + b'\\"' * 500_000,
    b':token "' * 130_000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_everywhere_with_a_reason(home, data):
    for path in ALL_PATHS:
        plant(home, Shape(path, data))
    found = look({"PATH": ""})
    assert len({each.place for each in found}) > 5
    for each in found:
        assert each.problem, each
        json.dumps(each.to_map(1)).encode()


def test_a_database_that_an_editor_has_open(home):
    import sqlite3

    path = plant(home, SHAPES["auth.db with a log"])
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("INSERT INTO oauth_tokens VALUES ('acme.ghe.com', 'later', 1)")
    assert Path(f"{path}-wal").stat().st_size > 0
    (found,) = look({})
    assert (found.host, found.problem) == ("github.com", "")
    assert "close the editor" in found.warning
    path.write_bytes(b"")
    (found,) = look({})
    assert found.problem.startswith("no database of logins; its newest entries are in a log")
    base.close()


def test_a_python_without_sqlite(home, monkeypatch):
    import sys

    plant(home, SHAPES["auth.db"])
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    (found,) = look({})
    assert found.problem == "this Python has no SQLite"


def test_a_database_that_runs_for_ever_is_ended(home):
    import sqlite3

    base = sqlite3.connect(":memory:")
    base.execute(
        "CREATE VIEW oauth_tokens AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT 'github.com' AS auth_authority, max(i) AS token_ciphertext FROM n"
    )
    plant(home, Shape(".config/github-copilot/auth.db", base.serialize()))
    base.close()
    (found,) = look({})
    assert found.problem == "no database of logins"


@pytest.mark.parametrize(("path", "mib"), [(APPS, 1), (".config/github-copilot/auth.db", 16)])
def test_huge_files_are_not_read(home, path, mib):
    file = plant(home, Shape(path, b""))
    os.truncate(file, mib * 1024 * 1024 + 1)
    (found,) = look({})
    assert found.problem == f"larger than {mib} MiB"


@pytest.mark.parametrize(
    ("token", "kind", "problem"),
    [
        (gho(), Kind.OAUTH, ""),
        (PAT, Kind.FINE_GRAINED, ""),
        ("ghs_canary", Kind.INSTALLATION, ""),
        ("0123456789abcdef" * 2 + "01234567", Kind.OLD, ""),
        (
            "ghp_canary",
            Kind.CLASSIC,
            "a classic personal access token, which Copilot does not accept",
        ),
        ("ghr_canary", Kind.REFRESH, "a refresh token: only the tool's own app can use it"),
        ("tid=1;exp=2", Kind.COPILOT, "a short-lived token only, nothing to take"),
        ("sk-canary", Kind.UNKNOWN, "not a GitHub token"),
        ("gho_two words", Kind.UNKNOWN, "not a GitHub token"),
        ("gho_" + "a" * 2000, Kind.UNKNOWN, "not a GitHub token"),
        ("", Kind.UNREAD, "no login in it"),
    ],
)
def test_kinds(home, token, kind, problem):
    plant(home, Shape(APPS, js({"github.com:Iv1.x": {"oauth_token": token}})))
    (found,) = look({})
    assert (found.kind, found.problem) == (kind, problem)


# -- the environment -------------------------------------------------------------------------------


def test_variables_in_their_order_unusable_ones_told_of(home):
    environ = {
        "GITHUB_TOKEN": ghu("g"),
        "GH_TOKEN": "ghp_canary",
        "COPILOT_GITHUB_TOKEN": PAT,
        "GH_COPILOT_TOKEN": gho("z"),
        "GITHUB_COPILOT_TOKEN": "",
        "GH_HOST": "acme.ghe.com",
    }
    found = look(environ)
    assert [(each.tool, each.place, each.host, bool(each.problem)) for each in found] == [
        ("environment", "$COPILOT_GITHUB_TOKEN", "acme.ghe.com", False),
        ("environment", "$GH_TOKEN", "acme.ghe.com", True),
        ("environment", "$GITHUB_TOKEN", "acme.ghe.com", False),
        ("environment", "$GH_COPILOT_TOKEN", "github.com", False),
    ]
    assert [(each.age, each.mode) for each in found] == [(None, None)] * 4
    assert look({"CODESPACES": "true", "GITHUB_TOKEN": ghu()})[0].tool == "codespaces"


def test_without_a_home_there_is_nothing(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    assert look({}) == []
