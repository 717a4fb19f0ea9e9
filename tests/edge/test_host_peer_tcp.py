"""Whose the other end of a loopback connection is, by real sockets and by tables made up."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from brokerd.core.peer import Peer
from brokerd.host.peers import tcp
from brokerd.host.peers.tcp import peer_of_tcp


SECOND_UID = 65534

ENDS = ["127.0.0.1", "127.3.2.1"]
if os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
    ENDS.append("::1")


def listening(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family)
    server.settimeout(30)
    return server


@pytest.fixture(params=ENDS)
def server(request):
    with listening(request.param) as server:
        yield server


@pytest.fixture
def connection():
    """(client's end, ours)."""
    with listening() as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        with ours:
            yield client, ours


def test_who_it_is(server):
    with socket.create_connection(server.getsockname()[:2]) as client:
        ours, _ = server.accept()
        with ours:
            client.send(b"x")
            assert peer_of_tcp(ours) == Peer(0, os.geteuid(), os.getegid(), weak=True)
            ours.settimeout(30)
            assert ours.recv(10) == b"x"  # nothing was read


def test_what_it_does_not_tell_stays_unknown(connection):
    peer = peer_of_tcp(connection[1])
    assert (peer.pidfd, peer.weak, peer.gone) == (None, True, False)
    assert (peer.unit, peer.label, peer.sandbox, peer.comm, peer.exe) == ("",) * 5
    assert peer.is_alive()
    peer.close()


@pytest.mark.skipif("::1" not in ENDS, reason="needs a kernel with IPv6")
def test_an_ipv6_socket_that_connects_by_ipv4():
    with listening() as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        ours, _ = server.accept()
        with ours:
            assert peer_of_tcp(ours).uid == os.geteuid()


CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sys.stdin.readline()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_user(server):
    host, port = server.getsockname()[:2]
    command = ["setpriv", f"--reuid={SECOND_UID}", f"--regid={SECOND_UID}", "--clear-groups"]
    command += [sys.executable, "-I", "-c", CONNECT, host, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        ours, _ = server.accept()
        with ours:
            peer = peer_of_tcp(ours)
            group = pwd.getpwuid(SECOND_UID).pw_gid
            assert (peer.uid, peer.gid) == (SECOND_UID, group)
        process.communicate(b"\n", timeout=30)


def test_only_the_socket_that_connected_is_asked():
    """Many connections to one port: each row is one of them."""
    with listening() as server:
        held = []
        try:
            for _ in range(40):
                client = socket.create_connection(server.getsockname())
                held += [client, server.accept()[0]]
            assert all(peer_of_tcp(ours).uid == os.geteuid() for ours in held[1::2])
        finally:
            for each in held:
                each.close()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_who_has_gone_is_nobody(connection, how, monkeypatch):
    """Its row would say uid 0 by now."""
    client, ours = connection
    if how == "half":
        client.shutdown(socket.SHUT_WR)
    else:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
    with pytest.raises(OSError):
        peer_of_tcp(ours)
    if how != "reset":  # nor by its row
        monkeypatch.setattr(tcp, "_is_open", lambda _: True)
        with pytest.raises(OSError) as caught:
            peer_of_tcp(ours)
        assert caught.value.errno == errno.ENOTCONN


@pytest.mark.parametrize("closing", [socket.socket.close, lambda s: s.shutdown(socket.SHUT_WR)])
def test_who_comes_and_goes_does_not_have_us_read_tables(connection, monkeypatch, closing):
    read = []
    monkeypatch.setattr(tcp, "_uid_of", lambda path, _: read.append(path))
    closing(connection[0])
    with pytest.raises(OSError):
        peer_of_tcp(connection[1])
    assert read == []


def test_a_socket_that_is_not_connected():
    with listening() as server, pytest.raises(OSError):
        peer_of_tcp(server)


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def row(local, remote, *, state="01", uid=1001, inode=77):
    return (
        f" 123: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 {uid:5}"
        f"        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
    )


def hexed(name, *, mapped=False):
    host, port = name[:2]
    raw = socket.inet_aton(host)
    word = int.from_bytes(raw, sys.byteorder)
    middle = int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder)
    prefix = f"{0:08X}{0:08X}{middle:08X}" if mapped else ""
    return f"{prefix}{word:08X}:{port:04X}"


class Table:
    """A /proc of our own making."""

    def __init__(self, folder, ours):
        self.folder = folder / "net"
        self.folder.mkdir()
        self.proc = str(folder)
        self.peer, self.own = ours.getpeername(), ours.getsockname()
        self.ends = hexed(self.peer), hexed(self.own)

    def write(self, text, name="tcp"):
        (self.folder / name).write_text(HEAD + text)


@pytest.fixture
def table(tmp_path, connection):
    return Table(tmp_path, connection[1])


def test_the_row_of_the_other_end(table, connection):
    local, remote = table.ends
    table.write(row(remote, local, uid=7) + row(local, remote, uid=0))
    assert peer_of_tcp(connection[1], proc=table.proc).uid == 0  # the real root's


def test_a_uid_of_ten_digits_takes_its_column(table, connection, monkeypatch):
    monkeypatch.setattr(tcp, "_group_of", lambda uid: uid + 1)
    table.write(row(*table.ends, uid=4294967294))
    peer = peer_of_tcp(connection[1], proc=table.proc)
    assert (peer.uid, peer.gid) == (4294967294, 4294967295)


@pytest.mark.parametrize("name", ["tcp", "tcp6"])
def test_both_tables_are_read(table, connection, name):
    ends = [hexed(end, mapped=name == "tcp6") for end in (table.peer, table.own)]
    table.write(row(*ends, uid=os.geteuid()), name)
    assert peer_of_tcp(connection[1], proc=table.proc).uid == os.geteuid()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda local, remote: row(remote, local),  # our own end
        lambda local, remote: row(local, remote, inode=0),  # nobody has it any more
        lambda local, remote: row(local, remote, state="06", inode=0, uid=0),  # TIME_WAIT
        lambda local, remote: row(local, remote, state="04"),  # FIN_WAIT1
        lambda local, remote: row(local, remote, state="05"),  # FIN_WAIT2
        lambda local, remote: row(local, remote, state="08"),  # CLOSE_WAIT
        lambda local, remote: row(local, remote, state="02"),  # SYN_SENT
        lambda local, remote: row(local, remote, state="0A"),  # LISTEN
        lambda local, remote: row(local[:-1] + "_", remote),
        lambda local, remote: row("0" + local, remote),
        lambda local, remote: row(local, remote).rstrip("\n"),  # cut
        lambda local, remote: "",
    ],
)
def test_rows_that_are_not_it(table, connection, wrong):
    table.write(wrong(*table.ends))
    with pytest.raises(OSError) as caught:
        peer_of_tcp(connection[1], proc=table.proc)
    assert caught.value.errno == errno.ENOTCONN


def test_no_table_at_all(tmp_path, connection):
    with pytest.raises(OSError):
        peer_of_tcp(connection[1], proc=str(tmp_path))


def test_a_user_whom_nobody_knows_has_no_group_to_go_by(table, connection):
    unknown = next(uid for uid in range(3_000_000_000, 3_000_000_100) if not is_known(uid))
    table.write(row(*table.ends, uid=unknown))
    with pytest.raises(OSError) as caught:
        peer_of_tcp(connection[1], proc=table.proc)
    assert caught.value.errno == errno.ENOENT


def is_known(uid):
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False


def many(count):
    return "".join(row(f"0100007F:{n % 65536:04X}", "0100007F:0001") for n in range(count))


@pytest.mark.parametrize("chunk", [1, 7, 150, 4096, 65536])
def test_a_row_is_found_however_the_table_is_read(table, connection, monkeypatch, chunk):
    monkeypatch.setattr(tcp, "_CHUNK", chunk)
    table.write(many(20) + row(*table.ends, uid=os.geteuid()) + many(20))
    assert peer_of_tcp(connection[1], proc=table.proc).uid == os.geteuid()


def test_a_hundred_thousand_rows_are_read_and_no_more_than_that(table, connection):
    wanted = row(*table.ends, uid=os.geteuid())
    rows = many(100_000)
    table.write(rows + wanted)
    assert peer_of_tcp(connection[1], proc=table.proc).uid == os.geteuid()
    table.write(rows + many(40_000) + wanted)
    with pytest.raises(OSError) as caught:
        peer_of_tcp(connection[1], proc=table.proc)
    assert caught.value.errno == errno.EFBIG


def test_what_comes_after_the_row_is_not_read(table, connection, monkeypatch):
    monkeypatch.setattr(tcp, "TABLE_MAX", 100_000)
    table.write(row(*table.ends, uid=os.geteuid()) + many(2_000))
    assert peer_of_tcp(connection[1], proc=table.proc).uid == os.geteuid()


def test_a_row_that_one_reading_missed_is_found_by_the_next(table, connection, monkeypatch):
    real, read = tcp._uid_of, []

    def missing_once(path, needle):
        read.append(path.rpartition("/")[2])
        return real(path, needle) if len(read) > 2 else None

    monkeypatch.setattr(tcp, "_uid_of", missing_once)
    table.write(row(*table.ends, uid=os.geteuid()))
    assert peer_of_tcp(connection[1], proc=table.proc).uid == os.geteuid()
    assert read == ["tcp", "tcp6", "tcp"]


def test_no_descriptor_is_left_open(connection):
    before = len(list(Path("/proc/self/fd").iterdir()))
    peer_of_tcp(connection[1]).close()
    connection[0].close()
    with pytest.raises(OSError):
        peer_of_tcp(connection[1])
    assert len(list(Path("/proc/self/fd").iterdir())) == before - 1


def test_two_thousand_sockets_in_the_table():
    """Not how long it takes, which is the machine's; but that the one is found among them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1_000, (most - 200) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    held = []
    try:
        with listening() as server:
            for _ in range(count):
                held.append(socket.create_connection(server.getsockname()))
                held.append(server.accept()[0])
            assert peer_of_tcp(held[1]).uid == peer_of_tcp(held[-1]).uid == os.geteuid()
    finally:
        for each in held:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


CONFINED = """
import os, socket, sys
from brokerd.core.reach import Surroundings, reach_of
from brokerd.core.settings import Config, HttpSettings
from brokerd.host.confinement import layers
from brokerd.host.peers.tcp import peer_of_tcp
from brokerd.host.tcp_listener import bind_tcp

layers.before_secrets()
config = Config(http=HttpSettings(tcp=sys.argv[1]))
around = Surroundings(home="/nonexistent", state_dir="/nonexistent", config_file="/nonexistent/x/c")
layers.confine(reach_of(config, {}, around))
with bind_tcp(config.http.tcp) as server:
    server.settimeout(30)
    print("ready", flush=True)
    ours, _ = server.accept()
    print(peer_of_tcp(ours).uid, flush=True)
    ours.close()
"""


def test_a_confined_daemon_can_bind_and_ask():
    with listening() as taken:
        address = "{}:{}".format(*taken.getsockname())
    command = [sys.executable, "-P", "-c", CONFINED, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout.readline() == "ready\n"
        with socket.create_connection(taken_at(address), timeout=30):
            assert process.stdout.readline() == f"{os.geteuid()}\n"
    assert process.returncode == 0


def taken_at(address):
    host, _, port = address.rpartition(":")
    return host, int(port)
