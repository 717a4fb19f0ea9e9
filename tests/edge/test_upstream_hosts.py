"""Which origins belong to a host, and where a credential may go."""

from __future__ import annotations

from dataclasses import replace

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


GITHUB = Urls(
    "https://github.com",
    "https://api.github.com",
    "https://api.githubcopilot.com",
    "https://copilot-proxy.githubusercontent.com",
)
ACME = Urls(
    "https://acme.ghe.com",
    "https://api.acme.ghe.com",
    "https://copilot-api.acme.ghe.com",
    "https://copilot-proxy.acme.ghe.com",
)


def test_the_origins_of_github_and_of_a_tenant():
    assert urls_for("github.com", PLAIN) == GITHUB
    assert urls_for("acme.ghe.com", PLAIN) == ACME


@pytest.mark.parametrize("plan", ["individual", "business", "enterprise"])
def test_a_plan_has_hosts_of_its_own_except_at_a_tenant(plan):
    assert urls_for("github.com", PLAIN).for_plan(plan) == replace(
        GITHUB,
        copilot=f"https://api.{plan}.githubcopilot.com",
        completions=f"https://proxy.{plan}.githubcopilot.com",
    )
    assert urls_for("acme.ghe.com", PLAIN).for_plan(plan) == ACME


@pytest.mark.parametrize("plan", ["auto", "", "free", "evil.example/", "Business"])
def test_what_is_no_plan_changes_nothing(plan):
    assert urls_for("github.com", PLAIN).for_plan(plan) == GITHUB


@pytest.mark.parametrize("key", ["copilot", "completions"])
@pytest.mark.parametrize("origin", ["http://127.0.0.1:4000", GITHUB.copilot])
def test_a_configured_origin_wins_over_the_plan(key, origin):
    urls = urls_for("github.com", UpstreamSettings(**{key: origin})).for_plan("business")
    other = {"copilot": "completions", "completions": "copilot"}[key]
    assert getattr(urls, key) == origin
    assert "business" in getattr(urls, other)


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


@pytest.mark.parametrize("key", ["login", "api", "copilot", "completions"])
def test_configured_origins_are_used_and_permitted(key):
    settings = UpstreamSettings(**{key: "http://127.0.0.1:4000/"})
    assert getattr(urls_for("github.com", settings), key) == "http://127.0.0.1:4000"
    permitted = OriginAllowList("github.com", settings)
    assert permitted.copilot_origin("http://127.0.0.1:4000") == "http://127.0.0.1:4000"
    assert permitted.completions_origin("http://127.0.0.1:4000/") == "http://127.0.0.1:4000"
    assert not permitted.allows("http://127.0.0.1:4001")
    with pytest.raises(PermanentError, match=f"urls.{key}"):
        urls_for("github.com", UpstreamSettings(**{key: "http://192.0.2.1"}))


@pytest.mark.parametrize(
    ("host", "url", "allowed"),
    [
        ("github.com", "https://githubcopilot.com", True),
        ("github.com", "https://api.githubcopilot.com", True),
        ("github.com", "https://api.enterprise.githubcopilot.com", True),
        ("github.com", "https://copilot-proxy.githubusercontent.com", True),
        ("github.com", "https://raw.githubusercontent.com", False),
        ("github.com", "https://copilot-api.acme.ghe.com", False),
        ("github.com", "https://acme.ghe.com", False),
        ("github.com", "https://evil-githubcopilot.com", False),
        ("github.com", "https://.githubcopilot.com", False),
        ("github.com", "https://api..githubcopilot.com", False),
        ("github.com", "https://api.githubcopilot.com.", False),
        ("github.com", "https://api.githubcopilot.com:8443", False),
        ("github.com", "http://api.githubcopilot.com", False),
        ("github.com", "http://127.0.0.1:4000", False),
        ("acme.ghe.com", "https://acme.ghe.com", True),
        ("acme.ghe.com", "https://api.acme.ghe.com", True),
        ("acme.ghe.com", "https://copilot-api.acme.ghe.com", True),
        ("acme.ghe.com", "https://copilot-proxy.acme.ghe.com", True),
        ("acme.ghe.com", "https://else.acme.ghe.com", False),
        ("acme.ghe.com", "https://copilot-api.other.ghe.com", False),
        ("acme.ghe.com", "https://githubcopilot.com", False),
        ("acme.ghe.com", "https://api.githubcopilot.com", False),
        ("acme.ghe.com", "https://api.business.githubcopilot.com", False),
        ("acme.ghe.com", "https://api.enterprise.githubcopilot.com", False),
        ("acme.ghe.com", "https://copilot-proxy.githubusercontent.com", False),
        ("acme.ghe.com", "https://github.com", False),
        ("acme.ghe.com", "https://api.github.com", False),
    ],
)
def test_where_a_credential_may_go(host, url, allowed):
    permitted = OriginAllowList(host, PLAIN)
    assert permitted.completions_origin(url) == (url if allowed else None)
    if allowed:
        assert permitted.copilot_origin(url) == url
    else:
        with pytest.raises(PermanentError) as caught:
            permitted.copilot_origin(url)
        assert caught.value.failure.code == "api_base_refused"
        assert host in caught.value.failure.message


@pytest.mark.parametrize(
    "url",
    ["HTTPS://API.Business.GitHubCopilot.com:443/", "https://api.business.githubcopilot.com"],
)
def test_one_origin_has_one_spelling(url):
    permitted = OriginAllowList("github.com", PLAIN)
    assert permitted.copilot_origin(url) == "https://api.business.githubcopilot.com"


def test_configured_origins_permit_themselves_and_nothing_else_to_a_tenant():
    permitted = OriginAllowList("acme.ghe.com", UpstreamSettings(copilot="http://127.0.0.1:4000"))
    assert permitted.allows("http://127.0.0.1:4000")
    assert permitted.allows("https://copilot-api.acme.ghe.com")
    assert not permitted.allows("https://api.githubcopilot.com")


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


# What a person approves.


def test_presets_have_names_ids_and_an_app():
    vscode, copilot = preset_for("vscode"), preset_for("Iv1.b507a08c87ecfe98")
    assert (vscode.client_id, vscode.scope) == ("01ab8ac9400c4e429b23", "user:email")
    assert (vscode.name, vscode.kind, vscode.app) == ("vscode", "OAuth App", "Visual Studio Code")
    assert copilot == preset_for("copilot")
    assert (copilot.name, copilot.kind, copilot.scope) == ("copilot", "GitHub App", "")
    assert set(PRESETS) == {"vscode", "copilot"}


@pytest.mark.parametrize(
    ("client_id", "kind", "scope"),
    [
        ("Ov23something", "OAuth App", "read:user"),
        ("0123456789abcdef0123", "OAuth App", "read:user"),
        ("Iv1.0123456789abcdef", "GitHub App", ""),
        ("Iv23liSomething", "GitHub App", ""),
    ],
)
def test_an_id_of_ones_own_is_taken_literally(client_id, kind, scope):
    preset = preset_for(client_id)
    assert (preset.client_id, preset.name, preset.kind) == (client_id, client_id, kind)
    assert (preset.scope, preset.exchanges) == (scope, None)
    assert client_id in preset.app
    assert "GitHub decides" in " ".join(preset.means)


def test_a_configured_scope_replaces_the_presets():
    preset = preset_for("vscode", "read:user repo strange:one")
    assert preset.scope == "read:user repo strange:one"
    told = " ".join(preset.means)
    assert "read:user (read your profile)" in told
    assert "private ones too" in told
    assert "strange:one (see GitHub)" in told
    assert "user:email" not in told


@pytest.mark.parametrize("client", ["vscode", "copilot", "Ov23li8tweQw6odWQebz", "Iv1.0", "mine"])
def test_what_approving_means_is_told_in_sentences(client):
    preset = preset_for(client, host="acme.ghe.com")
    assert len(preset.means) == 5
    names, asks, serves, shares, ends = preset.means
    assert preset.app in names
    assert preset.kind in names
    assert "scopes" in asks.lower()
    assert "exchange" in serves
    assert "at most ten" in shares
    assert ("sign each other out" in shares) is (client not in ("Iv1.0", "mine"))
    assert "https://acme.ghe.com/settings/applications" in ends
    assert ends.endswith("copilot-cred logout --revoke")


def test_which_logins_can_be_exchanged():
    assert preset_for("vscode").exchanges is preset_for("copilot").exchanges is True
    for direct in ("Ov23li8tweQw6odWQebz", "Ov23ctDVkRmgkPke0Mmm", "178c6fc778ccc68e1d6a"):
        preset = preset_for(direct)
        assert preset.exchanges is False
        assert "never leaves the broker" in preset.means[2]
        assert direct not in preset.app


# Who we say we are.


def test_headers_for_clients_hold_no_credential():
    upstream = Upstream()
    headers = upstream.headers_for_client()
    assert "Authorization" not in headers
    assert headers["Copilot-Integration-Id"] == "vscode-chat"
    assert headers["User-Agent"].startswith("copilot-broker/")
    headers["User-Agent"] = "changed"
    assert upstream.headers_for_client()["User-Agent"] != "changed"


def test_direct_mode_claims_no_integration():
    identity, token = Identity(), GitHubToken("gho_t")
    for headers in (
        identity.for_client(is_direct=True),
        identity.for_copilot("gho_t", "model-access", is_direct=True),
        identity.for_copilot_user(token),
        identity.for_graphql(token),
    ):
        assert "Copilot-Integration-Id" not in headers
        assert headers["User-Agent"].startswith("copilot-broker/")
    assert identity.for_client(is_direct=True)["Editor-Version"].startswith("copilot-broker/")
    assert identity.for_copilot_user(token)["Authorization"] == "token gho_t"
    assert identity.for_copilot_user(token)["X-GitHub-Api-Version"] == "2025-04-01"
    assert identity.for_graphql(token)["Authorization"] == "Bearer gho_t"
    assert identity.for_copilot("t", "x")["Copilot-Integration-Id"] == "vscode-chat"


def test_documented_endpoints_are_asked_as_documented():
    headers = Identity().for_user(GitHubToken("gho_t"))
    assert headers["Accept"] == "application/vnd.github+json"
    assert headers["X-GitHub-Api-Version"] == "2022-11-28"
    assert "Authorization" not in Identity().for_revocation()
    assert Identity().for_revocation()["Accept"] == "application/vnd.github+json"


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
