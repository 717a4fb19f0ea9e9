"""The index of accounts: not secret, never half written, never lost."""

from __future__ import annotations

import logging
import stat
from dataclasses import replace

import pytest

from brokerd.core.tokens import IndexEntry, KeptCooldown
from brokerd.errors import BrokerError, ErrorClass, PermanentError
from brokerd.stores.index import AccountIndex


WORK = IndexEntry("github.com", 1, "octocat", "secret-service", "Iv1.x")
HOME = IndexEntry("octo.ghe.com", 2, "hubot", "file", "Iv1.y", "token")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "accounts.json"


def opened(path):
    index = AccountIndex(path)
    index.load()
    return index


def test_no_file_is_an_empty_index(path):
    index = opened(path)
    assert index.entries() == {}
    assert index.default is None
    assert not path.exists()


def test_what_was_put_is_there_after_a_restart(path):
    index = opened(path)
    index.put("work", WORK)
    index.put("home", HOME)
    index.default = "home"
    again = opened(path)
    assert again.entries() == {"work": WORK, "home": HOME}
    assert again.default == "home"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_account_becomes_the_default_by_itself(path):
    index = opened(path)
    index.put("work", WORK)
    index.put("home", HOME)
    assert index.default is None
    assert opened(path).default is None
    index.default = "work"
    index.remove("work")
    assert index.default is None, "home is another person"
    assert opened(path).default is None
    index.remove("home")
    index.remove("home")
    assert opened(path).entries() == {}


def test_an_unknown_default_is_refused(path):
    index = opened(path)
    with pytest.raises(PermanentError, match="copilot-cred account list") as caught:
        index.default = "nobody"
    assert caught.value.failure.error_class is ErrorClass.USAGE


def test_what_was_learned_of_a_login_is_remembered(path):
    index = opened(path)
    direct = replace(WORK, is_direct=True)
    index.put("work", direct)
    assert opened(path).entries() == {"work": direct}


@pytest.mark.parametrize("learned", ["1", '"yes"', "null", "[]"])
def test_nonsense_in_what_was_learned_is_learned_again(path, learned):
    index = opened(path)
    index.put("work", WORK)
    path.write_text(path.read_text().replace("false", learned))
    assert opened(path).entries() == {"work": WORK}


def test_an_index_of_an_earlier_version_is_read(path):
    opened(path).put("work", WORK)
    path.write_text(path.read_text().replace('"is_direct"', '"unknown"'))
    assert opened(path).entries() == {"work": WORK}


COOLING = replace(
    WORK, cooldown=KeptCooldown(1_800_000_000, "rate_limited", "slow down", "https://gh.io/x")
)


def test_a_cooldown_is_remembered_and_none_leaves_no_trace(path):
    index = opened(path)
    index.put("work", COOLING)
    assert opened(path).entries() == {"work": COOLING}
    index.put("work", WORK)
    assert "cooldown" not in path.read_text()


def test_what_a_later_version_says_of_a_cooldown_is_ignored(path):
    opened(path).put("work", COOLING)
    path.write_text(path.read_text().replace('"until"', '"added": [], "until"'))
    assert opened(path).entries() == {"work": COOLING}


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("1800000000", '"1800000000"'),
        ("1800000000", "true"),
        ("1800000000", "1.5"),
        ("1800000000", "-1"),
        ("1800000000", "1" + 400 * "0"),
        ('"slow down"', "null"),
        ('"rate_limited"', "[]"),
        ('"until"', '"till"'),
    ],
)
def test_a_cooldown_that_makes_no_sense_is_none(path, good, bad):
    opened(path).put("work", COOLING)
    path.write_text(path.read_text().replace(good, bad))
    assert opened(path).entries() == {"work": WORK}


def test_a_refusal_is_remembered_and_none_leaves_no_trace(path):
    index = opened(path)
    refused = replace(WORK, refused="0123456789abcdef")
    index.put("work", refused)
    assert opened(path).entries() == {"work": refused}
    index.put("work", WORK)
    assert "refused" not in path.read_text()


@pytest.mark.parametrize("bad", ["null", "7", "[]", "true"])
def test_a_refusal_that_makes_no_sense_is_none(path, bad):
    opened(path).put("work", replace(WORK, refused="0123"))
    path.write_text(path.read_text().replace('"0123"', bad))
    assert opened(path).entries() == {"work": WORK}


def test_entries_are_a_copy(path):
    index = opened(path)
    index.put("work", WORK)
    index.entries().clear()
    assert index.entries() == {"work": WORK}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"version": 1}',
        b'{"accounts": {}}',
        b'{"version": 1, "accounts": {"work": {"host": "github.com"}}}',
        b'{"version": 1, "accounts": {"work": {"host": 1, "user_id": 1, "login": "", "store": "", "client_id": ""}}}',
        b'{"version": 1, "accounts": {"work": {"host": "h", "user_id": "1", "login": "", "store": "", "client_id": ""}}}',
    ],
)
def test_a_broken_file_is_set_aside_and_not_lost(path, content, caplog):
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        index = opened(path)
    assert index.entries() == {}
    assert "copilot-cred login" in caplog.text
    index.put("work", WORK)
    (aside,) = [p for p in path.parent.iterdir() if p != path]
    assert aside == index.set_aside
    assert ".broken-" in aside.name
    assert aside.read_bytes() == content
    assert opened(path).entries() == {"work": WORK}


def test_a_newer_index_is_left_alone(path):
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    path.write_text('{"version": 2, "accounts": {}}')
    with pytest.raises(PermanentError, match="version 2"):
        opened(path)
    assert list(path.parent.iterdir()) == [path]


def test_what_could_not_be_read_is_never_written_over(path):
    opened(path).put("work", WORK)
    path.chmod(0o644)
    index = AccountIndex(path)
    for attempt in (index.load, lambda: index.put("home", HOME), lambda: index.remove("work")):
        with pytest.raises(PermanentError, match="chmod 600"):
            attempt()
    path.chmod(0o600)  # mended: the next write keeps what is there
    index.put("home", HOME)
    assert opened(path).entries() == {"work": WORK, "home": HOME}


def test_unknown_keys_and_a_lost_default_do_no_harm(path):
    index = opened(path)
    index.put("work", WORK)
    index.default = "work"
    text = path.read_text().replace('"default": "work"', '"default": "gone", "later": 1')
    path.write_text(text.replace('"host"', '"added": [], "host"'))
    again = opened(path)
    assert again.entries() == {"work": WORK}
    assert again.default is None


def test_a_failed_write_changes_nothing(path):
    index = opened(path)
    index.put("work", WORK)
    path.parent.chmod(0o755)
    with pytest.raises(BrokerError):
        index.put("home", HOME)
    assert index.entries() == {"work": WORK}
    path.parent.chmod(0o700)
    assert opened(path).entries() == {"work": WORK}
