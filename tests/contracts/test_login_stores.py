"""What every store promises, whichever it is (`brokerd.ports.LoginStore`)."""

from __future__ import annotations

import asyncio
import os

import pytest

from brokerd.core.tokens import AccountKey, Pat
from brokerd.dbus.bus import SessionBus
from brokerd.dbus.secret_service import SecretServiceStore
from brokerd.stores.file import FileStore
from contracts.conftest import make_login
from fakes.store import FakeStore


pytestmark = pytest.mark.filterwarnings("ignore:DynamicImporter:ImportWarning")


async def test_nothing_is_kept_at_first(store):
    assert await store.load(AccountKey("github.com", 1)) is None
    assert list(await store.keys()) == []


async def test_it_can_say_that_it_would_keep_one(store):
    if not isinstance(store, FakeStore):  # the fake has what the broker asks for, not the ladder
        await store.check()
    assert list(await store.keys()) == []


async def test_what_was_saved_comes_back_whole(store):
    login = make_login(refresh_token="ghr_canary_value", expires_in=28800.0, scope="read:user é")
    await store.save(login)
    assert await store.load(login.key) == login


async def test_a_new_login_replaces_the_old_one(store):
    await store.save(make_login(token="gho_first"))
    await store.save(make_login(token="gho_second"))
    assert (await store.load(make_login().key)).token.value == "gho_second"
    assert len(await store.keys()) == 1


async def test_accounts_do_not_mix(store):
    logins = [
        make_login(7),
        make_login(70),
        make_login(7, "octo.ghe.com"),
        make_login(7, "localhost:8080"),
    ]
    for login in logins:
        await store.save(login)
    assert {login.key for login in logins} == set(await store.keys())
    assert [await store.load(login.key) for login in logins] == logins


async def test_deleting_forgets_that_one_alone(store):
    mine, other = make_login(1), make_login(2)
    await store.save(mine)
    await store.save(other)
    await store.delete(mine.key)
    assert await store.load(mine.key) is None
    assert await store.load(other.key) == other
    assert list(await store.keys()) == [other.key]


async def test_deleting_what_is_not_there_is_no_error(store):
    await store.delete(AccountKey("github.com", 404))
    await store.save(make_login(1))
    await store.delete(AccountKey("github.com", 404))
    assert await store.load(make_login(1).key) == make_login(1)


async def test_of_saves_at_once_one_whole_login_is_left(store):
    logins = [make_login(token=f"gho_{number}" * 50) for number in range(20)]
    await asyncio.gather(*(store.save(login) for login in logins))
    assert await store.load(logins[0].key) in logins
    assert len(await store.keys()) == 1


async def test_saves_of_many_accounts_at_once_are_all_kept(store):
    logins = [make_login(number + 1) for number in range(20)]
    await asyncio.gather(*(store.save(login) for login in logins))
    assert [await store.load(login.key) for login in logins] == logins


async def test_a_saved_login_outlives_the_process_that_saved_it(tmp_path, keyring):
    login = make_login()
    pat = Pat("github_pat_x")
    await FileStore(tmp_path / "logins").save(login)
    await FileStore(tmp_path / "logins").save_pat(login.key, pat)
    assert await FileStore(tmp_path / "logins").load(login.key) == login
    assert await FileStore(tmp_path / "logins").load_pat(login.key) == pat

    bus = SessionBus(keyring.address)
    await SecretServiceStore(bus).save(login)
    await SecretServiceStore(bus).save_pat(login.key, pat)
    bus.close()
    keyring.kill_keyring()  # with SIGKILL: what save() left to be written later is lost
    keyring.start_keyring()
    bus = SessionBus(keyring.address)
    assert await SecretServiceStore(bus).load(login.key) == login
    assert await SecretServiceStore(bus).load_pat(login.key) == pat
    bus.close()


async def test_a_personal_access_token_comes_back(store):
    key = make_login().key
    assert await store.load_pat(key) is None
    await store.save_pat(key, Pat("github_pat_é"))
    assert await store.load_pat(key) == Pat("github_pat_é")
    await store.save_pat(key, Pat("github_pat_second"))
    assert await store.load_pat(key) == Pat("github_pat_second")
    await store.delete_pat(key)
    assert await store.load_pat(key) is None


async def test_personal_access_tokens_do_not_mix(store):
    keys = [
        AccountKey("github.com", 7),
        AccountKey("github.com", 70),
        AccountKey("octo.ghe.com", 7),
    ]
    for number, key in enumerate(keys):
        await store.save_pat(key, Pat(f"github_pat_{number}"))
    await store.delete_pat(AccountKey("github.com", 404))
    await store.delete_pat(keys[1])
    pats = [await store.load_pat(key) for key in keys]
    assert pats == [Pat("github_pat_0"), None, Pat("github_pat_2")]


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_login_and_its_personal_access_token_never_shadow_each_other(store, is_first):
    login, pat = make_login(), Pat("github_pat_x")
    if is_first:
        await store.save_pat(login.key, pat)
        assert await store.load(login.key) is None
        assert list(await store.keys()) == [], "an account is where a login is"
    await store.save(login)
    await store.save_pat(login.key, pat)
    assert (await store.load(login.key), await store.load_pat(login.key)) == (login, pat)
    assert list(await store.keys()) == [login.key]
    await store.delete(login.key)
    assert (await store.load(login.key), await store.load_pat(login.key)) == (None, pat)
    await store.save(login)
    await store.delete_pat(login.key)
    assert (await store.load(login.key), await store.load_pat(login.key)) == (login, None)


async def test_no_host_name_makes_one_kind_look_like_the_other(store):
    await store.save_pat(AccountKey("github.com", 7), Pat("github_pat_x"))
    for host in ("github.com.pat", "github.com.json", "pat"):
        assert await store.load(AccountKey(host, 7)) is None
        assert await store.load_pat(AccountKey(host, 7)) is None
    assert list(await store.keys()) == []


async def test_nothing_printable_shows_a_token(store):
    login = make_login(refresh_token="ghr_canary_value")
    await store.save(login)
    await store.save_pat(login.key, Pat("github_pat_canary"))
    loaded = (await store.load(login.key), await store.load_pat(login.key))
    assert "canary" not in f"{loaded!r} {await store.keys()!r} {vars(store)!r}"
    assert all("canary" not in value for value in os.environ.values())
