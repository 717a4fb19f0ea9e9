"""The life of a GitHub token: whose it is, its renewal, its end."""

from __future__ import annotations

import pytest

from brokerd.core.tokens import GitHubToken, User
from brokerd.errors import ErrorClass, PermanentError, TransientError
from fakes.canned_github import CANARY, TOKEN, canned, failure_of, said


NEW = f"ghu_new-{CANARY}"
NEXT = f"ghr_next-{CANARY}"
GRANTED = {
    "access_token": NEW,
    "expires_in": 28800,
    "refresh_token": NEXT,
    "refresh_token_expires_in": 15811200,
    "scope": "",
    "token_type": "bearer",
}
INSTALLATION = GitHubToken(f"ghs_{CANARY}")


# Renewal.


async def test_a_refresh_token_is_traded_for_a_new_pair_without_a_secret():
    github, http = canned(said(200, GRANTED))
    token = await github.renew("Iv1.mine", TOKEN)
    assert token == GitHubToken(NEW, refresh_token=NEXT, expires_in=28800)
    (asked,) = http.asked
    assert (asked.method, asked.url) == ("FORM", "https://github.com/login/oauth/access_token")
    assert asked.sent == {
        "client_id": "Iv1.mine",
        "grant_type": "refresh_token",
        "refresh_token": TOKEN.refresh_token,
    }
    assert "Authorization" not in asked.headers


async def test_a_tenants_login_is_renewed_at_the_tenant():
    github, http = canned(said(200, GRANTED), host="acme.ghe.com")
    await github.renew("Iv1.mine", TOKEN)
    assert http.urls == ["https://acme.ghe.com/login/oauth/access_token"]


@pytest.mark.parametrize("refresh", [None, "", 7, "two words"])
async def test_the_old_refresh_token_stays_where_no_new_one_comes(refresh):
    old = GitHubToken("ghu_old", refresh_token="ghr_old", scope="read:user")
    github, _ = canned(said(200, {"access_token": NEW, "refresh_token": refresh}))
    assert await github.renew("c", old) == GitHubToken(NEW, "ghr_old", None, None, "read:user")


@pytest.mark.parametrize("status", [200, 400, 401])
@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("bad_refresh_token", "bad_refresh_token"),
        ("invalid_grant", "bad_refresh_token"),
        ("incorrect_client_credentials", "renewal_refused"),
        ("unsupported_grant_type", "renewal_refused"),
        ("access_denied", "renewal_refused"),
        ("a_word_of_tomorrow", "renewal_refused"),
    ],
)
async def test_a_no_asks_for_a_new_login(status, word, code):
    github, http = canned(said(status, {"error": word, "error_description": CANARY}))
    failure = await failure_of(github.renew("c", TOKEN), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.LOGIN_REQUIRED, code)
    assert failure.hint == "Run: copilot-cred login"
    assert len(http.asked) == 1


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("word", ["slow_down", "server_error", "temporarily_unavailable"])
async def test_a_later_is_no_no(status, word):
    github, _ = canned(said(status, {"error": word}))
    failure = await failure_of(github.renew("c", TOKEN), TransientError)
    assert (failure.code, failure.retry_after) == ("renewal_delayed", 60)


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (said(404, {"error": "Not Found"}), PermanentError, "client_id_unknown"),
        (said(401, {"message": "Bad credentials"}), PermanentError, "bad_credentials"),
        (said(429, b"", retry_after="9"), TransientError, "rate_limited"),
        (said(500, b"<html>"), TransientError, "upstream_error"),
        (said(200, b"<html>"), TransientError, "bad_answer"),
        (said(200, {"error": "Two Words"}), TransientError, "bad_answer"),
        (said(200, {}), TransientError, "bad_answer"),
        (said(401, b"<html>", x_github_request_id=None), TransientError, "intercepted"),
    ],
)
async def test_other_answers_to_a_renewal(answer, kind, code):
    github, _ = canned(answer)
    failure = await failure_of(github.renew("c", TOKEN), kind)
    assert failure.code == code
    if kind is PermanentError:
        assert failure.error_class is ErrorClass.LOGIN_REQUIRED


async def test_without_a_refresh_token_nothing_is_asked():
    github, http = canned(said(200, GRANTED))
    failure = await failure_of(github.renew("c", GitHubToken(f"ghu_{CANARY}")), PermanentError)
    assert (failure.code, http.asked) == ("bad_refresh_token", [])


# Revocation.

SETTINGS = "https://github.com/settings/applications"


async def test_both_tokens_are_revoked_without_a_credential():
    github, http = canned(said(202))
    await github.revoke(TOKEN)
    (asked,) = http.asked
    assert (asked.method, asked.url) == ("JSON", "https://api.github.com/credentials/revoke")
    assert asked.sent == {"credentials": [TOKEN.value, TOKEN.refresh_token]}
    assert asked.headers["Accept"] == "application/vnd.github+json"
    assert "Authorization" not in asked.headers


async def test_a_token_alone_is_revoked_alone():
    github, http = canned(said(202), host="acme.ghe.com")
    await github.revoke(GitHubToken("gho_x"))
    assert http.urls == ["https://api.acme.ghe.com/credentials/revoke"]
    assert http.asked[0].sent == {"credentials": ["gho_x"]}


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (said(422, {"message": "x"}), PermanentError, "revocation_refused"),
        (said(403, {"message": "x"}), PermanentError, "revocation_refused"),
        (said(404, {"message": "x"}), PermanentError, "revocation_refused"),
        (said(401, {"message": "x"}), PermanentError, "revocation_refused"),
        (said(403, {}, x_ratelimit_remaining="0"), TransientError, "rate_limited"),
        (said(429, {}), TransientError, "rate_limited"),
        (said(500, b""), TransientError, "upstream_error"),
        (said(200, b"<html>welcome to our network"), TransientError, "bad_answer"),
        (said(403, b"blocked", x_github_request_id=None), TransientError, "intercepted"),
    ],
)
async def test_every_refusal_to_revoke_names_the_page_to_do_it_by_hand(answer, kind, code):
    github, _ = canned(answer)
    failure = await failure_of(github.revoke(TOKEN), kind)
    assert (failure.code, failure.url) == (code, SETTINGS)
    assert failure.error_class is not ErrorClass.LOGIN_REQUIRED
    assert SETTINGS in failure.hint


@pytest.mark.parametrize(
    ("host", "token", "page"),
    [
        ("acme.ghe.com", "ghu_x", "https://acme.ghe.com/settings/applications"),
        ("github.com", "github_pat_x", "https://github.com/settings/personal-access-tokens"),
    ],
)
async def test_the_page_is_of_the_tokens_host_and_kind(host, token, page):
    github, _ = canned(said(422, {"message": "x"}), host=host)
    assert (await failure_of(github.revoke(GitHubToken(token)))).url == page


async def test_an_installation_token_cannot_be_revoked():
    github, http = canned(said(202))
    failure = await failure_of(github.revoke(INSTALLATION), PermanentError)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "not_revocable")
    assert http.asked == []


# Whose it is, and what it may do.

OCTOCAT = {"id": 583231, "login": "octocat"}


@pytest.mark.parametrize(
    ("header", "scopes"),
    [
        (None, None),
        ("", ""),
        ("read:user", "read:user"),
        ("read:user, repo,  gist", "read:user,repo,gist"),
        ("read:user,repo", "read:user,repo"),
        ("\x1b[0m", None),
        ("a" * 2000, None),
    ],
)
async def test_scopes_are_told_by_the_answer(header, scopes):
    github, _ = canned(said(200, OCTOCAT, x_oauth_scopes=header))
    user = await github.identify(TOKEN)
    assert (user, user.scopes) == (User(583231, "octocat"), scopes)


@pytest.mark.parametrize("number", [0, -1, 2**63, 10**400, 1.5, "1", None, True])
async def test_an_id_that_no_store_takes_is_none(number):
    github, _ = canned(said(200, OCTOCAT | {"id": number}))
    assert (await failure_of(github.identify(TOKEN), TransientError)).code == "bad_answer"


async def test_an_installation_token_is_nobodys():
    refused = said(403, {"message": "Resource not accessible by integration"})
    github, _ = canned(refused)
    assert await github.identify(INSTALLATION) == User(0, "installation")
    assert (await failure_of(github.identify(TOKEN), PermanentError)).code == "forbidden"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (said(401, {"message": "Bad credentials"}), "bad_credentials"),
        (said(403, {"message": "x"}, x_ratelimit_remaining="0"), "rate_limited"),
        (said(403, {"message": "x"}, x_github_sso="required"), "sso_required"),
        (said(403, b"<html>", x_github_request_id=None), "intercepted"),
    ],
)
async def test_other_refusals_hold_for_an_installation_token_too(answer, code):
    github, _ = canned(answer)
    assert (await failure_of(github.identify(INSTALLATION))).code == code


async def test_an_installation_token_that_is_somebodys_is_told_so():
    github, _ = canned(said(200, OCTOCAT))
    assert await github.identify(INSTALLATION) == User(583231, "octocat")
