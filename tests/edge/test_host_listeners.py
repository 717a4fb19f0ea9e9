"""Sockets of our own: private at every instant, one owner, nothing unlinked blindly."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from brokerd.errors import ErrorClass
from brokerd.host.listeners import ListenError, bind_own


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "copilot-broker"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def refusal(path) -> ListenError:
    with pytest.raises(ListenError) as caught:
        bind_own(path).close()
    assert caught.value.failure.error_class is ErrorClass.USAGE
    assert caught.value.failure.hint
    return caught.value


def connects(path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_the_socket_and_its_folder_are_private(folder):
    before = os.umask(0)
    try:
        with bind_own(folder / "broker.sock") as sock:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "broker.sock").stat().st_mode) == 0o600
            assert not sock.getblocking()
            assert not sock.get_inheritable()
            assert connects(folder / "broker.sock")
            assert names(folder) == ["broker.sock", "broker.sock.lock"]
            assert stat.S_IMODE((folder / "broker.sock.lock").stat().st_mode) == 0o600
    finally:
        assert os.umask(before) == 0  # bind_own put it back


def test_closing_takes_the_file_along(folder):
    path = folder / "broker.sock"
    sock = bind_own(path)
    sock.close()
    sock.close()
    assert not path.exists()
    bind_own(path).close()


def test_closing_leaves_another_owners_file(folder):
    path = folder / "broker.sock"
    with bind_own(path):
        path.unlink()
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"


def test_a_stale_socket_is_replaced(folder):
    path = folder / "broker.sock"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    inode = path.stat().st_ino
    assert not connects(path)
    with bind_own(path):
        assert connects(path)
        assert path.stat().st_ino != inode


def test_what_a_killed_starter_left_is_replaced(folder):
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / ".broker.sock.new"))
    (folder / "broker.sock.lock").touch(mode=0o600)
    with bind_own(folder / "broker.sock"):
        assert names(folder) == ["broker.sock", "broker.sock.lock"]


def test_a_live_owner_is_named_and_left_alone(folder):
    """An owner without our lock: systemd, or anything else that listens there."""
    path = folder / "broker.sock"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(path))
        owner.listen()
        failure = refusal(path).failure
        assert failure.code == "socket_busy"
        assert failure.message.startswith(f"{path} is served by pid {os.getpid()} (")
        assert "systemctl --user stop" in failure.hint
        assert connects(path)


def test_a_live_owner_with_a_full_backlog_is_alive(folder):
    path = folder / "broker.sock"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as owner, socket.socket(socket.AF_UNIX) as client:
        owner.bind(str(path))
        owner.listen(0)
        client.connect(str(path))
        assert refusal(path).failure.code == "socket_busy"
        assert path.is_socket()


STARTER = textwrap.dedent(
    """
    import sys
    from brokerd.host.listeners import ListenError, bind_own
    sys.stdin.readline()
    try:
        sock = bind_own(sys.argv[1])
    except ListenError as error:
        print("no", error.failure.message, flush=True)
    else:
        print("yes", flush=True)
        sys.stdin.readline()
        sock.close()
    """
)


def test_of_starters_that_race_one_wins_and_the_others_name_it(folder):
    path = folder / "broker.sock"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for starter in starters:  # all are waiting for the line
            starter.stdin.write("go\n")
            starter.stdin.flush()
        answers = {starter.pid: starter.stdout.readline().strip() for starter in starters}
        (winner,) = [pid for pid, answer in answers.items() if answer == "yes"]
        for pid, answer in answers.items():
            if pid != winner:
                assert answer.startswith(f"no {path} is served by pid {winner} (")
        assert connects(path)
    finally:
        for starter in starters:
            starter.communicate("end\n", timeout=30)
    assert not path.exists()


def test_a_starter_that_does_not_listen_yet_is_named(folder):
    """It has the lock and nothing else: a probe alone would take its place."""
    path = folder / "broker.sock"
    folder.mkdir(mode=0o700)
    with (folder / "broker.sock.lock").open("w") as held:
        (folder / "broker.sock.lock").chmod(0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        failure = refusal(path).failure
        assert failure.code == "socket_busy"
        assert failure.message.startswith(f"{path} is served by pid {os.getpid()} (")
        assert not path.exists()
    bind_own(path).close()


def test_the_lock_of_a_killed_owner_is_free(folder):
    path = folder / "broker.sock"
    owner = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        owner.stdin.write("go\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "yes\n"
        owner.kill()
        owner.wait(30)
        assert path.is_socket()
        with bind_own(path):
            assert connects(path)


def test_there_is_no_window(folder):
    """Somebody who looks all the time never sees another mode, a refusal, or no file at all."""
    path = folder / "broker.sock"
    wrong: list[str] = []
    seen = [0]
    looked = threading.Semaphore(0)
    stop = threading.Event()
    taking_down = threading.Lock()

    def look():
        while not stop.is_set():
            try:
                found = names(folder)
            except FileNotFoundError:
                found = []
            for name in found:
                try:
                    mode = os.lstat(folder / name).st_mode
                except FileNotFoundError:
                    continue
                if stat.S_IMODE(mode) != 0o600:
                    wrong.append(f"{name} {mode:o}")
                if name == path.name:
                    seen[0] += 1
                    with taking_down:
                        if path.exists() and not connects(path):
                            wrong.append("refused")
            looked.release()

    folder.mkdir(mode=0o700)
    before = os.umask(0)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            sock = bind_own(path)
            while looked.acquire(blocking=False):
                pass
            assert looked.acquire(timeout=30)
            with taking_down:  # only the coming up is tested
                sock.close()
    finally:
        stop.set()
        thread.join(30)
        os.umask(before)
    assert wrong == []
    assert seen[0] >= 50


def test_a_symbolic_link_for_a_folder_is_refused(tmp_path, folder):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    failure = refusal(folder / "broker.sock").failure
    assert failure.message == f"{folder} is a symbolic link"
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o701, 0o755, 0o1777])
def test_a_folder_open_to_others_is_refused(folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    failure = refusal(folder / "broker.sock").failure
    assert f"(mode {mode:04o}, must be 0700)" in failure.message
    assert failure.hint == f"Run: chmod 700 {folder}"
    assert names(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_uids_folder_is_refused(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    assert "belongs to uid 65534, not to you" in refusal(folder / "broker.sock").failure.message


def test_no_folder(folder):
    failure = refusal(folder / "no" / "broker.sock").failure
    assert failure.code == "socket_folder_unusable"
    assert failure.hint == f"Run: mkdir -p -m 700 {folder}/no"
    folder.touch()
    assert refusal(folder / "broker.sock").failure.code == "socket_folder_unusable"


def test_something_else_at_the_path_is_not_touched(folder):
    path = folder / "broker.sock"
    folder.mkdir(mode=0o700)
    path.write_text("precious")
    assert refusal(path).failure.message == f"{path} exists and is not a socket"
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to(folder / "target")
    assert "is not a socket" in refusal(path).failure.message


def test_a_symbolic_link_for_a_lock_is_refused(folder, tmp_path):
    folder.mkdir(mode=0o700)
    (folder / "broker.sock.lock").symlink_to(tmp_path / "target")
    assert refusal(folder / "broker.sock").failure.code == "socket_folder_unusable"
    assert not (tmp_path / "target").exists()


def test_a_path_that_is_too_long(tmp_path):
    failure = refusal(tmp_path / ("x" * 120) / "broker.sock").failure
    assert failure.code == "socket_path_too_long"
    assert not (tmp_path / ("x" * 120)).exists()


def test_a_refusal_leaks_no_descriptor(folder):
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    folder.mkdir(mode=0o700)
    (folder / "broker.sock").touch(mode=0o600)
    before = count()
    refusal(folder / "broker.sock")
    assert count() == before
