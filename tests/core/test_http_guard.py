"""Which requests the HTTP door looks at, as a page in a browser or a proxy would try it."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerd.core.http_guard import SOCKET_HOSTS, hosts_of, refuse


TCP = hosts_of("127.0.0.1:4141")
TCP_6 = hosts_of("[::1]:4141")

GOOD = MappingProxyType({"host": "127.0.0.1:4141", "content-type": "application/json"})


def told(hosts=TCP, method="POST", has_body=True, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    found = {name: v for name, v in {**GOOD, **headers}.items() if v is not None}
    return refuse(method, found, hosts, has_body=has_body)


@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("127.0.0.1:4141", {"127.0.0.1:4141"}),
        ("127.1.2.3:1", {"127.1.2.3:1"}),
        ("[::1]:4141", {"[::1]:4141"}),
        ("[0:0:0:0:0:0:0:1]:4141", {"[::1]:4141"}),
        ("127.0.0.1:80", {"127.0.0.1:80", "127.0.0.1"}),
        ("[::1]:80", {"[::1]:80", "[::1]"}),
        ("127.0.0.1:8080", {"127.0.0.1:8080"}),
        ("", SOCKET_HOSTS),
        ("/run/user/1000/copilot-broker/http.sock", SOCKET_HOSTS),
    ],
)
def test_what_host_may_say(address, hosts):
    assert hosts_of(address) == hosts


def test_no_host_is_for_sockets_only():
    assert "" in SOCKET_HOSTS
    for hosts in (TCP, TCP_6, hosts_of("127.0.0.1:80")):
        assert "" not in hosts


@pytest.mark.parametrize("address", ["localhost:4141", "0.0.0.0:1", "127.0.0.1", "http.sock"])
def test_what_is_no_address_has_no_hosts(address):
    with pytest.raises(ValueError):
        hosts_of(address)


def test_a_plain_request_passes():
    assert told() is None
    assert told(hosts=TCP_6, host="[::1]:4141") is None


@pytest.mark.parametrize("host", ["localhost", "copilot-broker", "", None])
def test_hosts_of_the_socket(host):
    assert told(hosts=SOCKET_HOSTS, host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        "localhost",
        "localhost:4141",
        "copilot-broker",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:80",
        "127.0.0.1:4142",
        "127.0.0.1:04141",
        "127.0.0.1:4141.",
        "127.0.0.1.:4141",
        "127.1:4141",
        "127.0.0.2:4141",
        "2130706433:4141",
        "0x7f.0.0.1:4141",
        "0177.0.0.1:4141",
        "0.0.0.0:4141",
        "[::1]:4141",
        "[::ffff:127.0.0.1]:4141",
        "::1:4141",
        "evil.example:4141",
        "rebind.127.0.0.1.nip.example:4141",
        "127.0.0.1.evil.example:4141",
        "evil@127.0.0.1:4141",
        "127.0.0.1:4141@evil.example",
        "127.0.0.1:4141, evil.example",
        "evil.example, 127.0.0.1:4141",
        "127.0.0.1:4141, 127.0.0.1:4141",
        "127.0.0.1:4141\t",
        "127.0.0.1:4141\x00",
        "127.0.0.1:4141/",
        "http://127.0.0.1:4141",
        "127.0.0.1:414\uff11",  # a digit, but none of ours
    ],
)
def test_other_hosts_by_tcp(host):
    assert told(host=host) == "host"
    assert told(host=host, method="GET", has_body=False, content_type=None) == "host"


@pytest.mark.parametrize(
    "host",
    [
        "[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]:4141", "[::1%lo]:4141", "[::ffff:127.0.0.1]:4141",
        "[::]:4141", "127.0.0.1:4141", "::1:4141", "[::1]:4141.", "ip6-localhost:4141",
    ],
)  # fmt: skip
def test_other_hosts_by_ipv6(host):
    assert told(hosts=TCP_6, host=host) == "host"


@pytest.mark.parametrize(
    "host",
    [
        "LOCALHOST", "localhost.", "localhost:80", "user@localhost", "evil.example",
        "127.0.0.1", "[::1]", "copilot-broker.", "copilot-broker.evil.example", "localhost, x",
    ],
)  # fmt: skip
def test_other_hosts_by_the_socket(host):
    assert told(hosts=SOCKET_HOSTS, host=host) == "host"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("origin", "origin"),
        ("referer", "referer"),
        ("access-control-request-method", "origin"),
        ("access-control-request-headers", "origin"),
        ("access-control-request-private-network", "origin"),
        ("forwarded", "forwarded"),
        ("via", "forwarded"),
        ("x-real-ip", "forwarded"),
        ("x-forwarded", "forwarded"),
        ("x-forwarded-for", "forwarded"),
        ("x-forwarded-host", "forwarded"),
        ("x-forwarded-anything-else", "forwarded"),
        ("x-original-url", "forwarded"),
        ("x-rewrite-url", "forwarded"),
        ("x-client-ip", "forwarded"),
        ("true-client-ip", "forwarded"),
        ("cf-connecting-ip", "forwarded"),
    ],
)
@pytest.mark.parametrize("value", ["", "null", "http://127.0.0.1:4141", "127.0.0.1", "x"])
@pytest.mark.parametrize("hosts", [TCP, SOCKET_HOSTS], ids=["tcp", "socket"])
def test_headers_that_no_program_here_sends(name, reason, value, hosts):
    host = min(hosts)  # "" on the socket
    for method, has_body in (("POST", True), ("GET", False), ("HEAD", False), ("OPTIONS", False)):
        assert told(hosts, method, has_body, host=host, **{name: value}) == reason


@pytest.mark.parametrize(
    "site", ["cross-site", "same-site", "", "None", "none, cross-site", "same-origin,none", "x"]
)
def test_requests_of_other_pages(site):
    assert told(sec_fetch_site=site) == "cross_site"
    assert told(sec_fetch_site=site, method="GET", has_body=False) == "cross_site"


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_sites_that_pass(site):
    assert told(sec_fetch_site=site) is None


def test_node_says_how_it_fetches_and_not_from_where():
    assert told(sec_fetch_mode="cors") is None


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json ; charset=utf-8",
        "application/json;",
    ],
)
def test_json(kind):
    assert told(content_type=kind) is None


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/plain; application/json",
        "text/plain;charset=application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json-seq",
        "application/json+x",
        "application/ld+json",
        "application/json; x=\xe9",
        "application/json x",
        "application/json\n",
        " application/json",
        "application/json, text/plain",
        "text/plain, application/json",
        "application/json; charset=utf-8, text/plain",
        "application/json;\ntext/plain",
        "text/json",
        "*/*",
        "application/msgpack",
    ],
)
def test_other_bodies(kind):
    assert told(content_type=kind) == "content_type"
    assert told(content_type=kind, method="GET") == "content_type"
    assert told(content_type=kind, has_body=False) == "content_type"  # a form sends an empty one


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_sends_nothing_need_not_say_what_it_is(method):
    assert told(method=method, has_body=False, content_type=None) is None


@pytest.mark.parametrize("method", ["OPTIONS", "DELETE", "TRACE", "CONNECT", "get", "PUT"])
def test_other_methods_need_a_content_type(method):
    assert told(method=method, has_body=False, content_type=None) == "content_type"


def test_headers_of_real_clients_pass():
    sent = {
        "authorization": "Bearer cpb_x",
        "x-api-key": "x",
        "accept": "application/json, text/event-stream",
        "accept-encoding": "gzip, br",
        "accept-language": "*",
        "user-agent": "OpenAI/Python 1",
        "x-stainless-lang": "python",
        "anthropic-version": "2023-06-01",
        "anthropic-dangerous-direct-browser-access": "true",
        "connection": "keep-alive",
        "sec-fetch-mode": "cors",
        "originator": "codex_cli_rs",
        "expect": "100-continue",
        "x-session-id": "1",
    }
    assert told(**sent) is None


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=30), max_size=5))
def test_any_headers_are_told_by_a_word_and_none_pass_without_our_host(headers):
    words = {"host", "origin", "referer", "forwarded", "cross_site", "content_type"}
    assert refuse("POST", headers, TCP, has_body=True) in words
    headers.pop("host", None)
    assert refuse("GET", headers, TCP, has_body=False) == "host"
