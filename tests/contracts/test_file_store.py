"""The file store against hostile and failing disks: nothing half, nothing shared, nothing lost."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from brokerd.core import login_record
from brokerd.core.tokens import Pat
from brokerd.errors import ErrorClass, PermanentError
from brokerd.stores import private_files
from brokerd.stores.file import FileStore
from contracts.conftest import make_login


LOGIN = make_login()
TESTS = str(Path(__file__).parent.parent)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "logins"


@pytest.fixture
def file_store(folder):
    return FileStore(folder)


@pytest.fixture
async def path(file_store, folder):
    await file_store.save(LOGIN)
    return folder / "583231@github.com.json"


def python(code, *arguments, prefix=()):
    head = "import asyncio, os, signal, sys\nfrom pathlib import Path\nfrom contracts.conftest import make_login\n"
    head += "from brokerd.errors import BrokerError\nfrom brokerd.stores.file import FileStore\nfolder = Path(sys.argv[1])\n"
    return subprocess.run(
        [*prefix, sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": TESTS},
    )


async def test_files_are_ours_alone_whatever_the_umask(file_store, folder):
    before = os.umask(0)
    try:
        await file_store.save(LOGIN)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (folder, folder.parent)}
    assert modes == {0o700}
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
async def test_a_file_open_to_others_is_refused(file_store, path, mode):
    path.chmod(mode)
    with pytest.raises(PermanentError, match=f"chmod 600 {path}") as caught:
        await file_store.load(LOGIN.key)
    assert caught.value.failure.error_class is ErrorClass.STORE_UNAVAILABLE
    path.chmod(0o600)
    assert await file_store.load(LOGIN.key) == LOGIN


async def test_a_folder_open_to_others_is_refused(file_store, folder, path):
    folder.chmod(0o750)
    for operation in (
        file_store.save(LOGIN),
        file_store.load(LOGIN.key),
        file_store.keys(),
        file_store.check(),
    ):
        with pytest.raises(PermanentError, match=f"chmod 700 {folder}"):
            await operation


async def test_a_symlinked_file_is_refused_and_saving_replaces_the_link(
    file_store, path, tmp_path
):
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(PermanentError, match="symbolic link"):
        await file_store.load(LOGIN.key)
    before = elsewhere.read_bytes()
    await file_store.save(make_login(token="gho_new"))
    assert elsewhere.read_bytes() == before
    assert not path.is_symlink()


async def test_a_symlinked_folder_is_refused(folder, tmp_path):
    folder.parent.mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermanentError, match="not a folder of its own"):
        await FileStore(folder).save(LOGIN)
    assert not list((tmp_path / "elsewhere").iterdir())


async def test_a_folder_in_its_place_is_refused(file_store, path):
    path.unlink()
    path.mkdir(mode=0o700)
    with pytest.raises(PermanentError, match="not a regular file"):
        await file_store.load(LOGIN.key)


async def test_a_fifo_and_a_huge_file_do_not_hold_or_fill_us(file_store, path):
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(PermanentError, match="not a regular file"):
        await file_store.load(LOGIN.key)
    path.unlink()
    path.touch(0o600)
    os.truncate(path, 1 << 40)
    with pytest.raises(PermanentError, match="too large"):
        await file_store.load(LOGIN.key)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_somebody_else_is_refused(file_store, path):
    os.chown(path, 65534, 65534)
    with pytest.raises(PermanentError, match="belongs to uid 65534"):
        await file_store.load(LOGIN.key)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe canary",
        b"[" * 100_000,
        b'["gho_canary"]',
        b'{"version": 1, "kind": "login", "token": "gho_canary"}',
        login_record.encode(make_login(1, token="gho_canary")),
        login_record.encode(make_login(token="gho_canary"))[:-40],
    ],
    ids=["empty", "binary", "deep", "list", "incomplete", "another account's", "half"],
)
async def test_garbage_is_set_aside_and_not_lost(file_store, folder, path, content):
    path.write_bytes(content)
    with pytest.raises(PermanentError, match="copilot-cred login") as caught:
        await file_store.load(LOGIN.key)
    assert caught.value.failure.code == "store_broken"
    assert caught.value.failure.error_class is ErrorClass.LOGIN_REQUIRED
    assert "canary" not in str(caught.value)
    (aside,) = folder.iterdir()
    assert ".broken-" in aside.name
    assert str(aside) in str(caught.value)
    assert aside.read_bytes() == content
    assert await file_store.load(LOGIN.key) is None
    assert await file_store.keys() == []
    await file_store.save(LOGIN)
    assert await file_store.load(LOGIN.key) == LOGIN
    assert aside.exists()


async def test_what_a_newer_broker_wrote_is_left_alone(file_store, path):
    path.write_bytes(b'{"version": 2, "kind": "login", "token": "gho_canary"}')
    with pytest.raises(PermanentError, match="version 2") as caught:
        await file_store.load(LOGIN.key)
    assert caught.value.failure.code == "store_newer"
    assert path.read_bytes().startswith(b'{"version": 2')


async def test_a_broken_personal_access_token_is_set_aside_and_the_login_works_on(
    file_store, folder, path
):
    pat = folder / "583231@github.com.pat"
    await file_store.save_pat(LOGIN.key, Pat("github_pat_x"))
    assert stat.S_IMODE(pat.stat().st_mode) == 0o600
    for content, code in [
        (b'{"version": 1, "kind": "pat", "value": "canary"}', "pat_broken"),
        (login_record.encode_pat(make_login(1).key, Pat("canary")), "pat_broken"),
        (login_record.encode(make_login(token="canary")), "pat_broken"),
        (b'{"version": 2, "kind": "pat", "value": "canary"}', "store_newer"),
    ]:
        pat.touch(0o600)  # it was set aside in the round before
        pat.write_bytes(content)
        with pytest.raises(PermanentError, match="copilot-cred quota set-pat") as caught:
            await file_store.load_pat(LOGIN.key)
        assert caught.value.failure.code == code
        assert caught.value.failure.error_class is ErrorClass.STORE_UNAVAILABLE
        assert "canary" not in str(caught.value)
        assert pat.exists() is (code == "store_newer")
        assert await file_store.load(LOGIN.key) == LOGIN
        assert await file_store.keys() == [LOGIN.key]
    await file_store.save_pat(LOGIN.key, Pat("github_pat_y"))
    assert await file_store.load_pat(LOGIN.key) == Pat("github_pat_y")


async def test_a_personal_access_token_open_to_others_is_refused(file_store, folder, path):
    await file_store.save_pat(LOGIN.key, Pat("github_pat_x"))
    pat = folder / "583231@github.com.pat"
    pat.chmod(0o640)
    with pytest.raises(PermanentError, match=f"chmod 600 {pat}"):
        await file_store.load_pat(LOGIN.key)


@pytest.mark.parametrize(
    "host", ["../../etc", "a/b", "", ".hidden", "GitHub.com", "a\nb", "x" * 300]
)
async def test_a_host_is_never_a_path(file_store, host):
    for operation in (
        file_store.save(make_login(host=host)),
        file_store.load(make_login(host=host).key),
        file_store.save_pat(make_login(host=host).key, Pat("github_pat_x")),
        file_store.load_pat(make_login(host=host).key),
    ):
        with pytest.raises(PermanentError) as caught:
            await operation
        assert caught.value.failure.error_class is ErrorClass.USAGE


@pytest.mark.shows_secrets("its child has its source in argv")
@pytest.mark.parametrize("moment", ["os.fsync", "os.rename"])
async def test_killed_before_the_rename_the_old_login_stands(file_store, folder, path, moment):
    killed = python(
        f"""
        {moment} = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(FileStore(folder).save(make_login(token="gho_new_canary")))
        """,
        folder,
    )
    assert killed.returncode == -9, killed.stderr
    assert len(list(folder.iterdir())) == 2, "the kill came at the wrong moment"
    assert await file_store.load(LOGIN.key) == LOGIN
    assert list(await file_store.keys()) == [LOGIN.key]
    await file_store.save(make_login(2))  # any writer sweeps: the left-over holds a token
    assert {p.name for p in folder.iterdir()} == {path.name, "2@github.com.json"}


async def test_logging_out_sweeps_too(file_store, folder, path):
    (folder / f".{path.name}.999999999.0123456789abcdef.tmp").write_bytes(b"gho_canary")
    await file_store.delete(LOGIN.key)
    assert list(folder.iterdir()) == []


async def test_a_living_writers_temporary_file_is_left_to_it(file_store, folder, path):
    theirs = folder / f".{path.name}.1.0123456789abcdef.tmp"
    theirs.touch(0o600)
    await file_store.save(LOGIN)
    assert theirs.exists()


async def test_processes_that_save_at_once_leave_one_whole_login(file_store, folder, path):
    code = """
        async def main():
            await asyncio.gather(*(FileStore(folder).save(make_login(token=f"gho_{n}" * 99)) for n in range(30)))
        asyncio.run(main())
    """
    head = f"import sys; sys.path.insert(0, {TESTS!r})\n"
    head += "import asyncio\nfrom pathlib import Path\nfrom contracts.conftest import make_login\n"
    head += f"from brokerd.stores.file import FileStore\nfolder = Path({str(folder)!r})\n"
    writers = [
        subprocess.Popen([sys.executable, "-c", head + textwrap.dedent(code)]) for _ in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    value = (await file_store.load(LOGIN.key)).token.value
    assert value in {f"gho_{n}" * 99 for n in range(30)}
    assert [p.name for p in folder.iterdir()] == [path.name]


@pytest.fixture
def own_mounts():
    """Run in a mount namespace of its own, where a small or read-only disk can be made."""
    prefix = (
        ["unshare", "--mount"]
        if os.geteuid() == 0
        else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], check=False).returncode
    ):
        reason = "needs unshare(1) and the right to use it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return [*prefix, "sh", "-c", 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@"']


@pytest.mark.shows_secrets("its child has its source in argv")
def test_a_full_disk_is_transient_and_keeps_the_old_login(own_mounts, tmp_path):
    done = python(
        """
        store = FileStore(folder / "logins")
        asyncio.run(store.save(make_login()))
        try:
            with open(folder / "ballast", "wb", 0) as ballast:
                while True:
                    ballast.write(bytes(4096))
        except OSError:
            pass
        for operation in (lambda: store.save(make_login(token="gho_new_canary" * 999)), store.check):
            try:
                asyncio.run(operation())
            except BrokerError as error:
                print(type(error).__name__, error.failure.error_class.name, error)
        assert asyncio.run(store.load(make_login().key)) == make_login()
        assert len(os.listdir(folder / "logins")) == 1
        (folder / "ballast").unlink()
        asyncio.run(store.save(make_login(token="gho_second")))
        assert asyncio.run(store.load(make_login().key)).token.value == "gho_second"
        """,
        tmp_path,
        prefix=[*own_mounts, str(tmp_path)],
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines
    for line in lines:
        assert line.startswith("TransientError TEMPORARY store_io_failed: cannot write ")
        assert "No space left on device" in line
        assert "canary" not in line


def test_a_read_only_disk_says_so(own_mounts, tmp_path):
    done = python(
        """
        import subprocess
        store = FileStore(folder / "logins")
        asyncio.run(store.save(make_login()))
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        for operation in (store.check, lambda: store.save(make_login(2)), lambda: store.delete(make_login().key)):
            try:
                asyncio.run(operation())
            except BrokerError as error:
                print(type(error).__name__, error.failure.error_class.name, error)
        assert asyncio.run(store.load(make_login().key)) == make_login()
        """,
        tmp_path,
        prefix=[*own_mounts, str(tmp_path)],
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("PermanentError STORE_UNAVAILABLE store_unwritable: cannot ")
        assert "Read-only file system" in line


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/copilot-broker"),
        ({"XDG_STATE_HOME": "x", "HOME": "/h"}, "/h/.local/state/copilot-broker"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/copilot-broker"),
    ],
)
def test_where_the_state_is(environ, expected):
    assert str(private_files.state_dir(environ)) == expected
