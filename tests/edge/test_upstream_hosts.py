"""Which origins belong to a host, and where a credential may go."""

from __future__ import annotations

import pytest

from brokerd.core.settings import IdentitySettings
from brokerd.core.tokens import GitHubToken
from brokerd.errors import ErrorClass, PermanentError
from brokerd.upstream import (
    PRESETS,
    Identity,
    OriginAllowList,
    Upstream,
    UpstreamSettings,
    Urls,
    preset_for,
    urls_for,
)
from brokerd.upstream.hosts import origin_of
from brokerd.upstream.identity import VERSION


PLAIN = UpstreamSettings()


def test_the_origins_of_github_and_of_a_tenant():
    assert urls_for("github.com", PLAIN) == Urls(
        "https://github.com", "https://api.github.com", "https://api.githubcopilot.com"
    )
    assert urls_for("acme.ghe.com", PLAIN) == Urls(
        "https://acme.ghe.com", "https://api.acme.ghe.com", "https://copilot-api.acme.ghe.com"
    )


@pytest.mark.parametrize(
    "host",
    ["", "github.example", "ghe.com", ".ghe.com", "a.b.ghe.com", "-a.ghe.com", "A.ghe.com",
     "acme.ghe.com.evil.example", "acme.ghe.com\n", "https://github.com", "github.com:443"],
)  # fmt: skip
def test_other_hosts_have_no_copilot(host):
    with pytest.raises(PermanentError) as caught:
        Upstream()(host)
    failure = caught.value.failure
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "host_unknown")
    assert "config.toml" in failure.hint


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.githubcopilot.com/", "https://api.githubcopilot.com"),
        ("https://api.githubcopilot.com:443", "https://api.githubcopilot.com"),
        ("https://api.example:8443", "https://api.example:8443"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://127.8.8.8:1", "http://127.8.8.8:1"),
        ("http://localhost:4000/", "http://localhost:4000"),
        ("http://[::1]:4000", "http://[::1]:4000"),
        ("http://192.0.2.1", None),
        ("http://localhost.evil.example", None),
        ("https://u:p@api.example", None),
        ("https://api.example/path", None),
        ("https://api.example?q", None),
        ("https://api.example#f", None),
        ("https://api.example:99999", None),
        ("https://", None),
        ("https://a b", None),
        ("https://a\\b", None),
        ("https://ünicode.example", None),
        ("ftp://api.example", None),
        ("api.example", None),
    ],
)
def test_normal_form_of_an_origin(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize("key", ["login", "api", "copilot"])
def test_configured_origins_are_used_and_permitted(key):
    settings = UpstreamSettings(**{key: "http://127.0.0.1:4000/"})
    assert getattr(urls_for("github.com", settings), key) == "http://127.0.0.1:4000"
    permitted = OriginAllowList("github.com", settings)
    assert permitted.copilot_origin("http://127.0.0.1:4000") == "http://127.0.0.1:4000"
    assert not permitted.allows("http://127.0.0.1:4001")
    with pytest.raises(PermanentError, match=f"urls.{key}"):
        urls_for("github.com", UpstreamSettings(**{key: "http://192.0.2.1"}))


@pytest.mark.parametrize(
    ("host", "api", "allowed"),
    [
        ("github.com", "https://githubcopilot.com", True),
        ("github.com", "https://api.githubcopilot.com", True),
        ("github.com", "https://api.enterprise.githubcopilot.com", True),
        ("github.com", "https://copilot-proxy.githubusercontent.com", True),
        ("github.com", "https://raw.githubusercontent.com", False),
        ("github.com", "https://copilot-api.acme.ghe.com", False),
        ("github.com", "https://evil-githubcopilot.com", False),
        ("github.com", "https://.githubcopilot.com", False),
        ("acme.ghe.com", "https://copilot-api.acme.ghe.com", True),
        ("acme.ghe.com", "https://copilot-proxy.acme.ghe.com", True),
        ("acme.ghe.com", "https://copilot-api.other.ghe.com", False),
        ("acme.ghe.com", "https://api.business.githubcopilot.com", True),
    ],
)
def test_where_a_copilot_token_may_go(host, api, allowed):
    permitted = OriginAllowList(host, PLAIN)
    if allowed:
        assert permitted.copilot_origin(api) == api
    else:
        with pytest.raises(PermanentError):
            permitted.copilot_origin(api)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://github.com/login/device", True),
        ("https://docs.github.com/x", True),
        ("https://acme.ghe.com/login/device", True),
        ("https://other.ghe.com/login/device", False),
        ("https://github.com:444/x", False),
        ("https://notgithub.com/x", False),
        ("https://x@github.com/", False),
        ("https://github.com/\x1b[0m", False),
        ("https://github.com/a b", False),
        ("https://github.com\\@evil.example", False),
        ("https://github.com/" + "x" * 300, False),
        ("javascript:alert(1)", False),
        ("http://github.com/", False),
    ],
)
def test_which_pages_a_person_is_sent_to(url, shown):
    assert OriginAllowList("acme.ghe.com", PLAIN).shown_page(url) == (url if shown else None)


def test_presets_have_names_ids_and_an_app():
    assert preset_for("vscode").client_id == "01ab8ac9400c4e429b23"
    assert preset_for("Iv1.b507a08c87ecfe98") is PRESETS["copilot"]
    literal = preset_for("Ov23something")
    assert (literal.client_id, literal.scope) == ("Ov23something", "read:user")
    assert "Ov23something" in literal.app


def test_headers_for_clients_hold_no_credential():
    upstream = Upstream()
    headers = upstream.headers_for_client()
    assert "Authorization" not in headers
    assert headers["Copilot-Integration-Id"] == "vscode-chat"
    assert headers["User-Agent"].startswith("copilot-broker/")
    headers["User-Agent"] = "changed"
    assert upstream.headers_for_client()["User-Agent"] != "changed"


def test_identity_is_configured_header_by_header():
    ours = IdentitySettings(
        user_agent="me/{version}",
        editor_version="",
        integration_id="copilot-developer-cli",
        copilot_api_version="2026-06-01",
        exchange_api_version="2026-01-09",
    )
    upstream = Upstream(UpstreamSettings(identity=ours))
    assert upstream.headers_for_client() == {
        "User-Agent": f"me/{VERSION}",
        "Editor-Plugin-Version": f"copilot-broker/{VERSION}",
        "Copilot-Integration-Id": "copilot-developer-cli",
        "X-GitHub-Api-Version": "2026-06-01",
    }
    assert Identity(ours).for_exchange(GitHubToken("t")) == {
        "User-Agent": f"me/{VERSION}",
        "Accept": "application/json",
        "Authorization": "token t",
        "Editor-Plugin-Version": f"copilot-broker/{VERSION}",
        "Copilot-Integration-Id": "copilot-developer-cli",
        "X-GitHub-Api-Version": "2026-01-09",
    }


@pytest.mark.parametrize("bad", ["", "a b", "a\n", "é", "\x7f", "x" * 10_000])
def test_what_is_no_token_is_never_put_in_a_header(bad):
    with pytest.raises(PermanentError, match="copilot-cred login"):
        Identity().for_exchange(GitHubToken(bad))
    with pytest.raises(PermanentError):
        Identity().for_copilot(bad, "model-access")
