"""Where keys rest: the fake and the file keep the same, and the file is never written over blindly."""

from __future__ import annotations

import json
import stat

import pytest

from brokerd.core.keys import KEYS_MAX, KeptKeys, Key, Spent, digest_of, text_of
from brokerd.errors import BrokerError, ErrorClass, PermanentError
from brokerd.stores import private_files
from brokerd.stores.keys import VERSION, KeyFile
from fakes.key_store import FakeKeyStore


def digest(number: int) -> str:
    return digest_of(text_of(number.to_bytes(32, "big")))


PLAIN = Key("plain", digest(1), 1_700_000_000)
LIMITED = Key(
    "ci.runner-1",
    digest(2),
    1_700_000_001,
    expires=1_800_000_000,
    models=("gpt-*", "ö*"),
    account="work",
    requests_per_minute=60,
    budget=10**6,
)
KEPT = KeptKeys(
    (PLAIN, LIMITED),
    {"plain": Spent(19_675, 4_711)},
    {digest(3): "old"},
    {"unit app-*.scope": Spent(19_676, 12), "everybody": Spent(19_676, 1)},
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "keys.json"


@pytest.fixture(params=["fake", "file"])
def opened(request, path):
    """Open the store anew, as the next broker would."""
    if request.param == "file":
        return lambda: KeyFile(path)
    fake = FakeKeyStore()
    return lambda: fake


def test_nothing_kept_is_no_keys(opened):
    assert opened().load() == KeptKeys()


@pytest.mark.parametrize("kept", [KEPT, KeptKeys(), KeptKeys((PLAIN,))])
def test_what_was_saved_is_there_after_a_restart(opened, kept):
    opened().save(KeptKeys((LIMITED,), {"ci.runner-1": Spent(1, 2)}, {digest(4): "x"}))
    opened().save(kept)
    again = opened().load()
    assert again == kept
    assert list(again.revoked.items()) == list(kept.revoked.items())
    assert [key.digest for key in again.keys] == [key.digest for key in kept.keys]


def test_the_file_is_ours_alone_and_holds_no_key(path):
    text = text_of(b"x" * 32)
    KeyFile(path).save(KeptKeys((Key("ci", digest_of(text), 1),)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert text not in path.read_text()
    assert json.loads(path.read_text())["version"] == VERSION
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def record(**changes) -> dict:
    return {"name": "ci", "digest": digest(1), "created": 1, **changes}


def a_file(*keys: object, **changes: object) -> str:
    return json.dumps({"version": VERSION, "keys": list(keys), "revoked": {}, **changes})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "it is not a file of keys"),
        ('{"keys": []}', "it is not a file of keys"),
        (a_file(version=True), "it is not a file of keys"),
        (a_file(version=0), "it is not a file of keys"),
        (a_file(keys={}), "it has no list of keys"),
        (a_file(revoked=[]), "it has no list of keys"),
        (a_file(revoked={"x": "y"}), "what was revoked is incomplete"),
        (a_file(revoked={digest(1): 1}), "what was revoked is incomplete"),
        (a_file(record(), "x"), "key number 2 is no key"),
        (a_file({"name": "ci"}), "key number 1 is no key"),
        (a_file(record(name="a b")), "key number 1 is no key"),
        (a_file(record(digest="cpb_x")), "key number 1 is no key"),
        (a_file(record(digest=digest(1).upper())), "key number 1 is no key"),
        (a_file(record(created="1")), "key number 1 is no key"),
        (a_file(record(expires=-1)), "key number 1 is no key"),
        (a_file(record(expires=float("inf"))), "key number 1 is no key"),
        (a_file(record(models=[])), "key number 1 is no key"),
        (a_file(record(models="gpt-*")), "key number 1 is no key"),
        (a_file(record(account="")), "key number 1 is no key"),
        (a_file(record(account=7)), "key number 1 is no key"),
        (a_file(record(requests_per_minute=0)), "key number 1 is no key"),
        (a_file(record(budget=0)), "key number 1 is no key"),
        (a_file(record(budget=True)), "key number 1 is no key"),
        (a_file(record(spent=7)), "key number 1 is no key"),
        (a_file(record(spent={"day": 1})), "key number 1 is no key"),
        (a_file(record(), record(digest=digest(2))), "it has a key twice"),
        (a_file(record(), record(name="other")), "it has a key twice"),
        (a_file(*[record()] * (KEYS_MAX + 1)), f"it has more than {KEYS_MAX} keys"),
    ],
)
def test_a_file_that_is_broken_is_told_of_and_never_written_over(path, text, what):
    store = KeyFile(path)
    store.save(KEPT)
    path.write_text(text)
    for attempt in (store.load, lambda: store.save(KEPT), lambda: KeyFile(path).save(KEPT)):
        with pytest.raises(PermanentError) as caught:
            attempt()
        failure = caught.value.failure
        assert (failure.error_class, failure.code) == (
            ErrorClass.STORE_UNAVAILABLE,
            "keys_broken",
        )
        assert failure.message == f"{path} cannot be understood: {what}"
        assert failure.hint.endswith(f": mv {path} {path}.old")
        assert path.read_text() == text


def test_a_file_of_a_newer_broker_stays_as_it_is(path):
    KeyFile(path).save(KEPT)
    text = a_file(version=VERSION + 1)
    path.write_text(text)
    for attempt in (KeyFile(path).load, lambda: KeyFile(path).save(KEPT)):
        with pytest.raises(PermanentError, match="store_newer"):
            attempt()
    assert path.read_text() == text


def test_what_a_newer_broker_adds_is_no_fault(path):
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    path.write_text(a_file(record(colour="red"), more=1))
    assert KeyFile(path).load() == KeptKeys((Key("ci", digest(1), 1),))


def test_a_file_that_others_can_read_is_refused(path):
    KeyFile(path).save(KEPT)
    path.chmod(0o644)
    with pytest.raises(PermanentError, match=f"chmod 600 {path}"):
        KeyFile(path).load()


def test_more_than_can_be_read_again_is_not_written(path):
    store = KeyFile(path)
    store.save(KEPT)
    before = path.read_bytes()
    wide = tuple("x" * 250 for _ in range(100))
    many = tuple(Key(f"k{n}", digest(n), 1, models=wide) for n in range(20))
    with pytest.raises(PermanentError, match="keys_full"):
        store.save(KeptKeys(many))
    assert path.read_bytes() == before


def test_every_key_there_can_be_fits_with_all_that_was_revoked(path):
    keys = tuple(
        Key("n" * 61 + f"{n:03}", digest(n), 2**40, 2**40, None, "a" * 64, 10**6, 10**12)
        for n in range(KEYS_MAX)
    )
    spent = {key.name: Spent(20_000, 10**12) for key in keys}
    kept = KeptKeys(keys, spent, {digest(1000 + n): "n" * 64 for n in range(256)})
    KeyFile(path).save(kept)
    assert KeyFile(path).load() == kept
    assert path.stat().st_size < private_files.MAX_BYTES


def test_a_disk_that_fails_leaves_the_old_file(path, monkeypatch):
    store = KeyFile(path)
    store.save(KEPT)

    def fail(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", fail)
    with pytest.raises(BrokerError, match="store_io_failed"):
        store.save(KeptKeys())
    monkeypatch.undo()
    assert KeyFile(path).load() == KEPT
