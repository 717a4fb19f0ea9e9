"""What a configuration needs of the machine, and what a changed one needs beyond that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from brokerd.core.reach import Reach, Surroundings, needs_restart, reach_of
from brokerd.core.settings import Config, HttpSettings, NetworkSettings, UrlSettings


HOME = "/home/ada"
AROUND = Surroundings(
    home=HOME,
    state_dir=f"{HOME}/.local/state/copilot-broker",
    config_file=f"{HOME}/.config/copilot-broker/config.toml",
    code=("/usr/lib/python3", f"{HOME}/.venvs/broker"),
    authorities=("/usr/lib/ssl/certs",),
    names=("/run/systemd/resolve/stub-resolv.conf",),
)


def reach(config=Config(), around=AROUND, **environ):  # noqa: B008 - frozen
    return reach_of(config, environ, around)


def within(path, folders):
    return any(path == each or path.startswith(f"{each}/") for each in folders)


def test_the_home_folder_is_not_within_reach_but_what_is_listed_is():
    found = reach()
    for path in (HOME, "/home", "/", f"{HOME}/.ssh/id_ed25519", f"{HOME}/.config/gh/hosts.yml"):
        assert not within(path, found.readable | found.writable), path
    for path in (f"{HOME}/.venvs/broker/lib/x.py", f"{HOME}/.config/copilot-broker/config.toml"):
        assert within(path, found.readable), path
    assert found.writable == {AROUND.state_dir, "/dev/null"}


@pytest.mark.parametrize("folder", [HOME, "/home", "/"])
def test_a_module_path_that_is_the_home_folder_or_above_is_left_out(folder):
    assert folder not in reach(around=replace(AROUND, code=(folder,))).readable


def test_a_configuration_in_the_home_folder_itself_opens_that_file_alone():
    around = replace(AROUND, config_file=f"{HOME}/broker.toml", config_target="/srv/a/b/c.toml")
    found = reach(around=around)
    assert f"{HOME}/broker.toml" in found.readable
    assert HOME not in found.readable
    assert "/srv/a/b" in found.readable  # where the link leads, with its folder


def test_files_of_names_come_with_their_folder_as_they_are_exchanged_whole():
    assert "/run/systemd/resolve" in reach().readable
    found = reach(around=replace(AROUND, names=("/run/resolv.conf",)))
    assert "/run/resolv.conf" in found.readable
    assert "/run" not in found.readable


def test_the_socket_folder_is_writable_where_we_bind_ourselves():
    folder = "/run/user/1000/copilot-broker"
    assert folder not in reach().writable
    assert folder in reach(around=replace(AROUND, socket_dir=folder)).writable


def test_ports_without_anything_configured():
    assert reach().connect_ports == {443, 53}
    assert reach().bind_ports == {0}


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://127.0.0.1:8080", 8080),
        ("http://127.0.0.1", 80),
        ("https://localhost:8443", 8443),
        ("http://[::1]:99", 99),
    ],
)
@pytest.mark.parametrize("name", ["login", "api", "copilot", "completions"])
def test_ports_of_urls(name, url, port):
    assert reach(Config(urls=UrlSettings(**{name: url}))).connect_ports == {443, 53, port}


@pytest.mark.parametrize(
    ("proxy", "port"),
    [("http://u:p@proxy.example:3128", 3128), ("http://proxy.example", 80)],
)
def test_the_port_of_a_configured_proxy(proxy, port):
    assert port in reach(Config(network=NetworkSettings(proxy=proxy))).connect_ports


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["http://proxy.example:3128", "proxy.example:3128"])
def test_the_port_of_a_proxy_in_the_environment(name, value):
    assert reach(**{name: value}).connect_ports == {443, 53, 3128}


@pytest.mark.parametrize("value", ["http://proxy:x", "http://[", "http://proxy:99999", "", "://"])
def test_a_proxy_that_cannot_be_used_is_no_port(value):
    assert reach(HTTPS_PROXY=value).connect_ports <= {443, 53, 80}


def test_certificates_of_configuration_and_environment():
    config = Config(network=NetworkSettings(ca_file=Path(f"{HOME}/ca.pem")))
    found = reach(config, SSL_CERT_FILE="/srv/ca.pem", SSL_CERT_DIR="/srv/certs:/opt/certs")
    assert {f"{HOME}/ca.pem", "/srv/ca.pem", "/srv/certs", "/opt/certs"} <= found.readable
    assert "/usr/lib/ssl/certs" in found.readable


def test_relative_paths_and_the_root_are_never_opened():
    found = reach(SSL_CERT_DIR="certs:/:", CREDENTIALS_DIRECTORY="/run/user/1/credentials/x")
    assert "/" not in found.readable
    assert all(path.startswith("/") for path in found.readable)
    assert "/run/user/1/credentials/x" in found.readable


@pytest.mark.parametrize(
    ("environ", "needed"),
    [
        ({}, False),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus"}, False),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:abstract=/tmp/dbus-x,guid=1"}, True),
        ({"NOTIFY_SOCKET": "/run/user/1000/systemd/notify"}, False),
        ({"NOTIFY_SOCKET": "@notify"}, True),
    ],
)
def test_abstract_sockets_only_where_one_is_named(environ, needed):
    assert reach(**environ).abstract_sockets is needed


def test_a_bus_over_tcp_has_its_port():
    assert 9123 in reach(DBUS_SESSION_BUS_ADDRESS="tcp:host=localhost,port=9123").connect_ports


def test_covers_itself_and_less():
    assert reach().covers(reach())
    assert reach(HTTPS_PROXY="http://proxy:3128").covers(reach())
    assert Reach(readable=frozenset({"/etc"})).covers(Reach(readable=frozenset({"/etc/x"})))
    assert Reach(writable=frozenset({"/s"})).covers(Reach(readable=frozenset({"/s/a"})))


def test_more_is_named():
    more = Config(
        urls=UrlSettings(api="http://127.0.0.1:8080"),
        network=NetworkSettings(ca_file=Path(f"{HOME}/ca.pem")),
    )
    assert reach().lacks(reach(more)) == f"reading {HOME}/ca.pem, port 8080"
    assert reach().lacks(reach(Config(network=NetworkSettings(ca_file=Path("/etc/ca.pem"))))) == ""
    assert reach().lacks(reach(NOTIFY_SOCKET="@n")) == "abstract sockets"
    small, large = Reach(), Reach(writable=frozenset({"/s"}), bind_ports=frozenset({1}))
    assert small.lacks(large) == "writing /s, listening on 1"
    # a name that only begins alike
    assert not Reach(readable=frozenset({"/etc"})).covers(Reach(readable=frozenset({"/etcetera"})))


def listening(tcp):
    return Config(http=HttpSettings(tcp=tcp))


@pytest.mark.parametrize(
    ("tcp", "ports"), [("", set()), ("127.0.0.1:4141", {4141}), ("[::1]:8080", {8080})]
)
def test_the_http_door_binds_its_port_and_no_other(tcp, ports):
    found = reach(listening(tcp))
    assert found.bind_ports == ports | {0}


def test_runs_that_outlived_the_daemon_before_have_their_ports():
    found = reach(around=replace(AROUND, run_ports=(40001, 40002)))
    assert found.bind_ports == {0, 40001, 40002}
    assert found.connect_ports == {443, 53}  # nobody here connects to it


def test_a_port_to_bind_was_given_at_the_start_or_not():
    one, other = listening("127.0.0.1:4141"), listening("127.0.0.1:4142")
    assert reach().lacks(reach(one)) == "listening on 4141"
    assert reach(one).lacks(reach(other)) == "listening on 4142"
    assert reach(one).covers(reach())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", ""),
        ("127.0.0.1:4141", "127.0.0.1:4141", ""),
        ("", "127.0.0.1:4141", "listening on 127.0.0.1:4141"),
        ("127.0.0.1:4141", "[::1]:4141", "listening on [::1]:4141"),
        ("127.0.0.1:4141", "", "closing 127.0.0.1:4141"),
    ],
)
def test_listeners_do_not_move_in_a_running_daemon(old, new, told):
    assert needs_restart(listening(old), listening(new)) == told


def test_the_rest_of_the_door_can_change_while_it_runs():
    new = Config(http=HttpSettings("127.0.0.1:1", 0, {}))
    assert needs_restart(listening("127.0.0.1:1"), new) == ""
