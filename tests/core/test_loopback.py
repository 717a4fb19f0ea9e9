"""Where the HTTP door may listen by TCP: loopback, in digits."""

from __future__ import annotations

import pytest

from brokerd.core.loopback import address_of, host_and_port
from brokerd.core.setting_checks import NotAllowedError, tcp_listener


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:4141", "127.0.0.1", 4141, "127.0.0.1:4141"),
        ("127.255.255.254:1", "127.255.255.254", 1, "127.255.255.254:1"),
        ("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535"),
        ("[::1]:4141", "::1", 4141, "[::1]:4141"),
        ("[0:0::0:1]:80", "::1", 80, "[::1]:80"),
        ("[::0.0.0.1]:80", "::1", 80, "[::1]:80"),
    ],
)
def test_addresses(text, host, port, shown):
    assert host_and_port(text) == (host, port)
    assert address_of(host, port) == shown
    assert tcp_listener(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "4141",
        ":4141",
        "*:4141",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:04141",
        "127.0.0.1:65536",
        "127.0.0.1:+1",
        "127.0.0.1:\uff11",  # a digit, but none of ours
        "127.0.0.1:4141 ",
        " 127.0.0.1:4141",
        "127.0.0.1:4141\n",
        "http://127.0.0.1:4141",
        "user@127.0.0.1:4141",
        "127.1:4141",
        "127.0.0.01:4141",
        "127.0.0.256:1",
        "2130706433:1",
        "localhost:4141",
        "ip6-localhost:4141",
        "0.0.0.0:4141",
        "128.0.0.1:4141",
        "192.168.1.2:4141",
        "169.254.169.254:80",
        "255.255.255.255:1",
        "::1:4141",
        "[::1]",
        "[::1]:0",
        "[127.0.0.1]:4141",
        "[::]:4141",
        "[::2]:4141",
        "[fe80::1]:4141",
        "[::1%lo]:4141",
        "[::ffff:127.0.0.1]:4141",
        "127.0.0.1:4141,[::1]:4141",
    ],
)
def test_what_is_none(text):
    with pytest.raises(ValueError):
        host_and_port(text)
    with pytest.raises(NotAllowedError, match=r"loopback address in digits.*\[::1\]:4141"):
        tcp_listener(text)


def test_empty_is_nowhere():
    assert tcp_listener("") == ""
