"""Which way leads to an origin: proxies of the configuration and the environment, NO_PROXY."""

from __future__ import annotations

import pytest

from brokerd.core.completions import UpstreamCall
from brokerd.errors import BrokerError, ErrorClass, PermanentError
from brokerd.upstream import Upstream, UpstreamSettings
from brokerd.upstream.routes import Proxy, route_to
from fakes.upstream_server import TunnelProxy


ORIGIN = "https://api.githubcopilot.com"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for word in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(word, raising=False)
        monkeypatch.delenv(word.upper(), raising=False)


def proxy_for(origin=ORIGIN, configured=None):
    proxy = route_to(origin, configured).proxy
    return None if proxy is None else proxy.url


@pytest.mark.parametrize(
    ("origin", "host", "port", "tls", "authority"),
    [
        (ORIGIN, "api.githubcopilot.com", 443, True, "api.githubcopilot.com:443"),
        ("https://a.example:8443", "a.example", 8443, True, "a.example:8443"),
        ("http://127.0.0.1:4000", "127.0.0.1", 4000, False, "127.0.0.1:4000"),
        ("http://localhost", "localhost", 80, False, "localhost:80"),
        ("https://[2001:db8::1]", "2001:db8::1", 443, True, "[2001:db8::1]:443"),
    ],
)
def test_where_an_origin_is(origin, host, port, tls, authority):
    route = route_to(origin, None)
    assert (route.host, route.port, route.tls, route.authority) == (host, port, tls, authority)
    assert (route.origin, route.proxy) == (origin, None)


def test_configured_then_https_then_all(monkeypatch):
    assert proxy_for() is None
    monkeypatch.setenv("HTTP_PROXY", "http://plain:1")
    assert proxy_for() is None
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    assert proxy_for() == "http://all:1"
    monkeypatch.setenv("HTTPS_PROXY", "https.example:1")
    assert proxy_for() == "http://https.example:1"
    assert proxy_for(configured="https://mine:1") == "https://mine:1"


@pytest.mark.parametrize(
    ("no_proxy", "spared"),
    [
        ("githubcopilot.com", True),
        (".githubcopilot.com", True),
        ("x.example , API.githubcopilot.com", True),
        ("api.githubcopilot.com:443", True),
        ("*", True),
        ("x.example,*", True),
        ("copilot.com", False),
        ("api.githubcopilot.com:8443", False),
        ("com.example", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("configured", [False, True])
def test_no_proxy_spares_names(no_proxy, spared, configured, monkeypatch):
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    found = proxy_for(configured="http://mine:1" if configured else None)
    assert (found is None) is spared


def test_no_proxy_spares_addresses(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "192.0.2.1,2001:db8::1")
    assert proxy_for("https://192.0.2.1") is None
    assert proxy_for("https://[2001:db8::1]") is None
    assert proxy_for("https://[2001:db8::2]") == "http://proxy:1"


@pytest.mark.parametrize("origin", ["http://127.0.0.1:1", "https://127.8.8.8", "http://localhost:1", "http://[::1]:1"])  # fmt: skip
def test_loopback_is_reached_straight(origin, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy:1")
    assert proxy_for(origin, "http://mine:1") is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy", ("proxy", 80, False, None)),
        ("https://proxy:3129/", ("proxy", 3129, True, None)),
        ("http://[2001:db8::9]:3128", ("2001:db8::9", 3128, False, None)),
        ("http://me:p%40ss@proxy:1", ("proxy", 1, False, "Basic bWU6cEBzcw==")),
        ("http://me@proxy:1", ("proxy", 1, False, "Basic bWU6")),
        ("http://b%C3%BCro:x@proxy:1", ("proxy", 1, False, "Basic YsO8cm86eA==")),
    ],
)
def test_what_a_proxys_address_says(url, expected):
    proxy = route_to(ORIGIN, url).proxy
    assert proxy == Proxy(url, *expected)
    assert "p%40ss" not in repr(proxy)
    assert "bWU6" not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    ["socks5://proxy", "http://", "http://:80", "http://a b", "http://proxy:x", "http://[::"],
)
def test_unusable_proxy_is_a_matter_of_configuration(url):
    with pytest.raises(PermanentError) as caught:
        route_to(ORIGIN, url)
    failure = caught.value.failure
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "proxy_unusable")
    assert caught.value.__context__ is None
    assert "network.proxy" in failure.hint


@pytest.mark.parametrize(
    ("environment", "configured", "asked"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"HTTPS_PROXY": "PROXY"}, False, True),
        ({"all_proxy": "PROXY"}, False, True),
        ({"HTTP_PROXY": "PROXY"}, False, False),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}, True, True),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "nowhere.invalid"}, False, False),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "elsewhere.invalid"}, False, True),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "*"}, False, False),
        ({"NO_PROXY": ".nowhere.invalid"}, True, False),
    ],
)
async def test_both_clients_go_the_same_way(environment, configured, asked, monkeypatch):
    url = "https://copilot.nowhere.invalid"
    refusal = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    codes = []
    async with TunnelProxy(refusal=refusal) as proxy:
        for name, value in environment.items():
            monkeypatch.setenv(name, value.replace("PROXY", proxy.url))
        settings = UpstreamSettings(copilot=url, proxy=proxy.url if configured else None)
        upstream = Upstream(settings)
        call = UpstreamCall("github.com", url, "t", "/chat/completions", b"{}", {})
        for question in (
            upstream.copilot.open(call),
            upstream.copilot.models("github.com", url, "t"),
        ):
            with pytest.raises(BrokerError) as caught:
                await question
            codes.append(caught.value.failure.code)
        await upstream.aclose()
    assert codes == ["proxy_failed" if asked else "dns_failed"] * 2
    assert [lines[0] for lines in proxy.asked] == [
        "CONNECT copilot.nowhere.invalid:443 HTTP/1.1"
    ] * (2 * asked)
