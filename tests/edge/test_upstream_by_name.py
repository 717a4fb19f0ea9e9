"""GitHub under its real names, over TLS and a tunnel: the daemon's addresses as they are shipped."""

from __future__ import annotations

import pytest

from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, GitHubToken, User
from brokerd.errors import BrokerError, ErrorClass, PermanentError
from fakes.simulated import simulated_by_name


TENANT = "octo.ghe.com"
APP = "Iv1.0000000000000000"
HOSTS = {
    "github.com": (
        "github.com", "api.github.com", "https://api.business.githubcopilot.com",
        "https://proxy.business.githubcopilot.com",
    ),
    TENANT: (
        TENANT, f"api.{TENANT}", f"https://copilot-api.{TENANT}", f"https://copilot-proxy.{TENANT}"
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for word in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(word, raising=False)
        monkeypatch.delenv(word.upper(), raising=False)


def asked(it):
    return [f"{each.headers['host']}{each.path}" for each in it.simulator.world.requests]


def mint(it, kind, host, **more):
    return GitHubToken(it.simulator.world.mint(kind, host=host, **more))


@pytest.mark.parametrize("host", HOSTS)
async def test_from_a_code_to_a_copilot_token_and_its_models(tmp_path, host):
    login, api, copilot, completions = HOSTS[host]
    async with simulated_by_name(
        tmp_path, host=host, auto_approve=True, device_interval=0, plan="business"
    ) as (it, names):
        code = await it.github.request_device_code("Ov0", "read:user user:email")
        assert code.verification_uri == f"https://{login}/login/device"
        token = await it.github.poll_device_grant("Ov0", code)
        assert (token.scope, token.refresh_token) == ("read:user,user:email", None)
        user = await it.github.identify(token)
        assert (user, user.scopes) == (User(583231, "octocat"), "read:user,user:email")
        minted = await it.github.exchange(token)
        assert (minted.api_base, minted.completions_base) == (copilot, completions)
        assert await it.copilot.models(host, minted.api_base, minted.value)
        assert {name.removesuffix(":443") for name in names.asked} == {
            login, api, copilot.removeprefix("https://")
        }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "plan", "base"),
    [
        # The token of the exchange says which plan's it is, where the account does not.
        ("github.com", "auto", "https://api.enterprise.githubcopilot.com"),
        ("github.com", "enterprise", "https://api.enterprise.githubcopilot.com"),
        (TENANT, "auto", f"https://copilot-api.{TENANT}"),
        (TENANT, "individual", f"https://copilot-api.{TENANT}"),
    ],
)
async def test_without_endpoints_there_is_a_host_that_serves(tmp_path, host, plan, base):
    async with simulated_by_name(tmp_path, host=host, plan="enterprise", endpoints=False) as (
        it,
        _,
    ):
        minted = await it.github.exchange(mint(it, "ghu_", host), plan)
        assert minted.api_base == base
        assert await it.copilot.models(host, minted.api_base, minted.value)
        direct = await it.github.direct(mint(it, "gho_", host, client_id="Ov23mine"), plan)
        assert direct.api_base == base
        models = await it.copilot.models(host, direct.api_base, direct.value, is_direct=True)
        assert models


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", ["gho_", "github_pat_", "ghs_"])
async def test_a_token_of_each_kind_serves_directly(tmp_path, host, kind):
    async with simulated_by_name(tmp_path, host=host, plan="business") as (it, _):
        token = mint(it, kind, host, client_id="Ov23mine")
        found = await it.github.direct(token)
        assert isinstance(found, CopilotToken)
        assert (found.value, found.is_direct, found.api_base) == (
            token.value,
            True,
            HOSTS[host][2],
        )
        assert await it.copilot.models(host, found.api_base, found.value, is_direct=True)
        assert asked(it)[0] == f"{HOSTS[host][1]}/copilot_internal/user"
        assert len(asked(it)) == 2


async def test_graphql_is_asked_for_what_the_first_place_leaves_out(tmp_path):
    async with simulated_by_name(tmp_path, endpoints=False, plan="business") as (it, _):
        found = await it.github.direct(mint(it, "gho_", "github.com"))
        assert found.api_base == "https://api.business.githubcopilot.com"
        assert asked(it) == ["api.github.com/copilot_internal/user", "api.github.com/graphql"]
        scheme = it.simulator.world.requests[-1].headers["authorization"]
        assert scheme.startswith("Bearer ")


@pytest.mark.parametrize("kind", ["github_pat_", "ghs_"])
async def test_kinds_that_are_never_exchanged(tmp_path, kind):
    async with simulated_by_name(tmp_path) as (it, _):
        with pytest.raises(PermanentError) as caught:
            await it.github.exchange(mint(it, kind, "github.com"))
        assert caught.value.failure.code == "exchange_not_found"


async def test_whose_each_kind_is(tmp_path):
    async with simulated_by_name(tmp_path) as (it, _):
        for kind, id_, scopes in (
            ("ghs_", 0, None),
            ("github_pat_", 583231, None),
            ("ghu_", 583231, ""),
        ):
            user = await it.github.identify(mint(it, kind, "github.com"))
            assert (user.id, user.scopes) == (id_, scopes)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_pair_is_renewed_once_and_the_old_one_is_dead(tmp_path, host):
    async with simulated_by_name(
        tmp_path, host=host, auto_approve=True, device_interval=0, github_token_expires_in=28800
    ) as (it, _):
        code = await it.github.request_device_code(APP, "")
        old = await it.github.poll_device_grant(APP, code)
        assert not isinstance(old, NotGranted)
        new = await it.github.renew(APP, old)
        assert new.value != old.value
        assert new.refresh_token not in (None, old.refresh_token)
        assert new.expires_in == 28800
        assert await it.github.exchange(new)
        for question in (it.github.exchange(old), it.github.renew(APP, old)):
            with pytest.raises(PermanentError) as caught:
                await question
            assert caught.value.failure.error_class is ErrorClass.LOGIN_REQUIRED
        assert caught.value.failure.code == "bad_refresh_token"


@pytest.mark.parametrize("host", HOSTS)
async def test_a_revoked_login_is_dead(tmp_path, host):
    async with simulated_by_name(tmp_path, host=host) as (it, _):
        token = mint(it, "gho_", host)
        await it.github.revoke(token)
        request = it.simulator.world.requests[-1]
        assert asked(it) == [f"{HOSTS[host][1]}/credentials/revoke"]
        assert "authorization" not in request.headers
        assert request.headers["content-type"] == "application/json"
        with pytest.raises(PermanentError) as caught:
            await it.github.identify(token)
        assert caught.value.failure.code == "bad_credentials"


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("github.com", f"https://copilot-api.{TENANT}"),
        (TENANT, "https://api.githubcopilot.com"),
        (TENANT, "https://api.enterprise.githubcopilot.com"),
        (TENANT, "https://copilot-api.other.ghe.com"),
    ],
)
async def test_a_credential_never_crosses_to_another_site(tmp_path, host, api):
    async with simulated_by_name(tmp_path, host=host, api_base=api) as (it, names):
        token = mint(it, "ghu_", host)
        for question in (
            it.github.exchange(token),
            it.github.direct(token),
            it.copilot.models(host, api, "a-token"),
        ):
            with pytest.raises(BrokerError) as caught:
                await question
            assert caught.value.failure.code == "api_base_refused"
        assert set(names.asked) == {f"{HOSTS[host][1]}:443"}


async def test_bad_credentials_are_shown_to_github_once(tmp_path):
    async with simulated_by_name(tmp_path, lockout_after=1) as (it, _):
        dead = GitHubToken("gho_dead")
        with pytest.raises(PermanentError) as caught:
            await it.github.direct(dead)
        assert caught.value.failure.code == "bad_credentials"
        assert len(asked(it)) == 1
        with pytest.raises(BrokerError) as caught:
            await it.github.exchange(dead)
        assert (caught.value.failure.code, caught.value.failure.retry_after) == (
            "login_locked_out", 900,
        )  # fmt: skip
