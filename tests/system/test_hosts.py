"""GitHub under its real names: which hosts are asked, which never, and what stands in between.

Every name is led to the simulator by a proxy; a daemon without that proxy would look them up, so
none is started here before its way out is settled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fakes.real_names import RealNamesThread
from system.github import EXCHANGE
from system.scripted import (
    AT_DEBUG,
    CHAT,
    CONFIG,
    account,
    fault,
    good,
    refused,
    stored,
    with_more,
)
from system.session import SERVICE


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.real_names import RealNames
    from system.github import GitHub
    from system.session import Session


SOCKET = "copilot-broker.socket"
TENANT = "acme.ghe.com"
HELLO = ("chat", "--model", "sim-chat", "hello")
DROP_IN = f".config/systemd/user/{SERVICE}.d/way-out.conf"


@pytest.fixture
def names(github: GitHub, tmp_path: Path) -> Iterator[RealNames]:
    with RealNamesThread(github.url, tmp_path) as names:
        yield names


def lead(session: Session, names: RealNames, more: str = "") -> None:
    """Configure the way out through `names`, with its authority and no other address."""
    session.write("authority.pem", names.ca_file.read_text())
    network = f'proxy = "{names.url}"\nca_file = "{session.home}/authority.pem"\n'
    session.write(CONFIG, f'[network]\n{network}[store]\nkind = "file"\n{AT_DEBUG}{more}')


@pytest.fixture
def daemon(session: Session, names: RealNames) -> Session:
    """It can be asked, and believes that it reaches GitHub."""
    lead(session, names)
    session.systemctl("start", SOCKET)
    return session


def hosts(names: RealNames) -> set[str]:
    """Return whom tunnels were wanted to since the last time."""
    asked = {each.removesuffix(":443") for each in names.asked}
    names.asked.clear()
    return asked


def asked_of(github: GitHub, path: str) -> list[tuple[str, int]]:
    return [
        (each.headers["host"], each.status)
        for each in list(github.world.requests)
        if each.path == path
    ]


def test_github_com_is_asked_under_its_own_names_only(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    done = daemon.cred("login")
    assert done.returncode == 0, done.stderr
    assert "https://github.com/login/device" in done.stderr
    assert "hello" in good(daemon, "chat", "hello")
    good(daemon, "models")
    lease = json.loads(good(daemon, "get", "--format", "json"))
    assert lease["api_base"] == "https://api.individual.githubcopilot.com"
    assert lease["completions_base"] == "https://proxy.individual.githubcopilot.com"
    assert hosts(names) == {
        "github.com",
        "api.github.com",
        "api.individual.githubcopilot.com",
    }
    done = daemon.cred("logout", "--revoke")
    assert done.returncode == 0, done.stderr
    assert hosts(names) == {"api.github.com"}


def test_a_tenant_is_asked_under_its_own_names_only(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    done = daemon.cred("login", "--host", TENANT)
    assert done.returncode == 0, done.stderr
    assert f"https://{TENANT}/login/device" in done.stderr
    assert f"https://{TENANT}/settings/applications" in done.stderr
    assert "hello" in good(daemon, "chat", "hello")
    lease = json.loads(good(daemon, "get", "--format", "json"))
    assert lease["api_base"] == f"https://copilot-api.{TENANT}"
    assert lease["completions_base"] == f"https://copilot-proxy.{TENANT}"
    assert account(daemon)["host"] == TENANT
    assert hosts(names) == {TENANT, f"api.{TENANT}", f"copilot-api.{TENANT}"}


def test_a_tenants_login_goes_nowhere_else_whatever_is_answered(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    for named in ("https://api.business.githubcopilot.com", "https://evil.test"):
        github.world.settings.change({"api_base": named})
        error = refused(daemon, "login", "--host", TENANT)
        assert (error["class"], error["code"]) == (5, "api_base_refused")
        assert named in error["message"]
        assert refused(daemon, *HELLO)["code"] == "api_base_refused"
        assert hosts(names) == {TENANT, f"api.{TENANT}"}
    github.world.settings.change({"api_base": None})
    good(daemon, "refresh")
    assert "hello" in good(daemon, *HELLO)


def test_a_public_login_goes_to_no_tenant(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    github.world.settings.change({"api_base": f"https://copilot-api.{TENANT}"})
    assert refused(daemon, "login")["code"] == "api_base_refused"
    assert hosts(names) == {"github.com", "api.github.com"}


def test_misdirected_means_a_new_token_and_its_new_host(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    good(daemon, "login")
    good(daemon, *HELLO)
    github.world.settings.change({"plan": "business"})  # the person got a seat
    fault(github, CHAT, "421")
    assert "hello" in good(daemon, *HELLO)
    assert asked_of(github, CHAT) == [
        ("api.individual.githubcopilot.com", 200),
        ("api.individual.githubcopilot.com", 421),
        ("api.business.githubcopilot.com", 200),
    ]
    assert github.asked(EXCHANGE) == 2
    assert account(daemon)["api_base"] == "https://api.business.githubcopilot.com"


def test_the_plan_chooses_the_host_where_github_names_none(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    github.forget(endpoints=False, plan="business")
    good(daemon, "login")
    told_by_token = account(daemon)["api_base"]
    with_more(daemon, '[accounts.default]\nplan = "enterprise"\n')
    daemon.systemctl("restart", SERVICE)
    github.world.settings.change({"plan": "enterprise"})
    good(daemon, "refresh")
    assert (told_by_token, account(daemon)["api_base"]) == (
        "https://api.business.githubcopilot.com",
        "https://api.enterprise.githubcopilot.com",
    )
    assert "hello" in good(daemon, *HELLO)
    github.world.settings.change({"endpoints": True, "plan": "individual"})
    good(daemon, "refresh")
    assert account(daemon)["api_base"] == "https://api.individual.githubcopilot.com", (
        "what GitHub names comes before what is configured"
    )


def test_a_login_used_directly_finds_its_host_by_name(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    github.forget(plan="business")
    good(daemon, "login", "--with-token", stdin=github.world.mint("github_pat_", "hubot"))
    assert "hello" in good(daemon, *HELLO)
    assert asked_of(github, CHAT) == [("api.business.githubcopilot.com", 200)]
    assert hosts(names) == {"api.github.com", "api.business.githubcopilot.com"}


# What may stand between.


def test_a_proxy_that_refuses_is_named_and_costs_no_login(
    daemon: Session, names: RealNames
) -> None:
    good(daemon, "login")
    kept = stored(daemon)
    for status, verb in (
        (407, ("refresh",)),
        (502, ("login", "--account", "other")),
        (407, HELLO),
    ):
        names.refuse = status
        if verb is HELLO:
            daemon.systemctl("restart", SERVICE)  # a tunnel that stands would go on serving
        error = refused(daemon, *verb)
        assert (error["class"], error["code"]) == (7, "proxy_failed")
        assert "the proxy opens no way to https://" in error["message"]
        assert error["message"].endswith(f": it answers {status}")
        assert "network.proxy" in error["hint"]
        assert "HTTPS_PROXY" in error["hint"]
    assert stored(daemon) == kept
    names.refuse = None
    good(daemon, "refresh")
    assert "hello" in good(daemon, *HELLO)


def test_a_foreign_authority_is_refused_with_the_setting_that_trusts_it(
    session: Session, names: RealNames, github: GitHub, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with RealNamesThread(github.url, other) as inspecting:
        lead(session, names)
        trusting = session.good("cat", CONFIG)
        session.write(CONFIG, trusting.replace(names.url, inspecting.url))
        session.systemctl("start", SOCKET)
        error = refused(session, "login")
        assert (error["class"], error["code"]) == (7, "tls_untrusted")
        assert "certificate of https://github.com is not trusted" in error["message"]
        assert "network.ca_file" in error["hint"]
        assert list(github.world.requests) == [], "nothing was said to it"
        session.write("authority.pem", inspecting.ca_file.read_text())
        session.systemctl("restart", SERVICE)
        good(session, "login")


def test_a_portal_that_says_401_costs_no_login(
    daemon: Session, names: RealNames, github: GitHub
) -> None:
    good(daemon, "login")
    kept = stored(daemon)
    for name in ("401_portal", "403_proxy_html", "404_proxy"):
        fault(github, EXCHANGE, name)
        error = refused(daemon, "refresh")
        assert (error["class"], error["code"]) == (7, "intercepted")
        assert f"a proxy or firewall in between answered ({name[:3]})" in error["message"]
        assert "https://api.github.com" in error["message"]
        assert stored(daemon) == kept
        assert account(daemon)["mode"] != "direct", "a foreign 404 says nothing of the exchange"
    good(daemon, "refresh")
    assert good(daemon, "get").startswith("tid=")


def test_a_blocked_completion_is_told_as_a_firewalls(daemon: Session, github: GitHub) -> None:
    good(daemon, "login")
    fault(github, CHAT, "proxy_403")
    error = refused(daemon, *HELLO)
    assert error["code"] == "intercepted"
    assert "a proxy or firewall in between answered 403" in error["message"]
    assert "hello" in good(daemon, *HELLO)


def test_the_proxy_may_come_from_the_services_environment(
    session: Session, names: RealNames
) -> None:
    session.write("authority.pem", names.ca_file.read_text())
    session.write(
        CONFIG,
        f'[network]\nca_file = "{session.home}/authority.pem"\n[store]\nkind = "file"\n{AT_DEBUG}',
    )
    spared = "NO_PROXY=example.org,.internal"  # nobody who is asked
    session.write(DROP_IN, f"[Service]\nEnvironment=HTTPS_PROXY={names.url} {spared}\n")
    session.systemctl("daemon-reload")
    session.systemctl("start", SERVICE)
    assert f"HTTPS_PROXY={names.url}" in session.proc("environ"), "else it would ask GitHub itself"
    good(session, "login")
    assert "hello" in good(session, *HELLO)
    assert hosts(names) == {
        "github.com",
        "api.github.com",
        "api.individual.githubcopilot.com",
    }


def test_loopback_is_never_asked_through_a_proxy(session: Session) -> None:
    nobody = "http://127.0.0.1:9"  # the discard port: connections are refused
    session.write(DROP_IN, f"[Service]\nEnvironment=HTTP_PROXY={nobody} ALL_PROXY={nobody}\n")
    session.systemctl("daemon-reload")
    session.systemctl("start", SERVICE)  # its addresses are the simulator's, on loopback
    good(session, "login")
    assert "hello" in good(session, *HELLO)
