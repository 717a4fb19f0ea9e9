"""The login host's three questions: start a device grant, poll it, renew what came of it.

Errors come with 200 as well as 400 (RFC 6749 §5.2 says 400, GitHub sends 200), so the body is
looked at for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.retry_after import UNNAMED
from brokerd.core.tokens import GitHubToken
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream import parsing
from brokerd.upstream.bodies import fields_of, is_intercepted
from brokerd.upstream.refusals import LOGIN_HINT, RETRY_HINT, with_proxy_hint


if TYPE_CHECKING:
    from brokerd.core.machine.device_grant import NotGranted
    from brokerd.core.tokens import DeviceCode
    from brokerd.upstream.http import Answer
    from brokerd.upstream.side import Side


__all__ = ["poll_device_grant", "renew", "request_device_code"]

# RFC 8628 §3.4
DEVICE_GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
UNKNOWN_CLIENT = "GitHub does not know this client id"
CLIENT_HINT = (
    "Correct --client-id, or client_id of the account in config.toml (vscode and copilot are "
    "known to work), then: copilot-cred login"
)
# Words that say "later" and not "no" (RFC 6749 §4.1.2.1, RFC 8628 §3.5).
LATER = frozenset(
    {"slow_down", "authorization_pending", "server_error", "temporarily_unavailable"}
)
# GitHub's word for a refresh token that is spent or expired, and RFC 6749's (§5.2).
SPENT = frozenset({"bad_refresh_token", "invalid_grant"})


async def request_device_code(side: Side, client_id: str, scope: str) -> DeviceCode:
    """Start the device authorization grant (RFC 8628 §3.1)."""
    form = {"client_id": client_id} | ({"scope": scope} if scope else {})
    answer = await side.http.post_form(
        side.urls.login, "/login/device/code", side.identity.for_login(), form
    )
    if is_intercepted(answer):
        raise side.refusal(answer)
    error = (fields_of(answer) or {}).get("error")
    if error in ("device_flow_disabled", "unauthorized_client"):
        raise _client_refused(answer, "device_flow_disabled", "this app may not sign in devices")
    if answer.status in (401, 404, 422) or (answer.status == 200 and isinstance(error, str)):
        raise _client_refused(answer, "client_id_unknown", UNKNOWN_CLIENT)
    side.demand_success(answer)
    return parsing.device_code(answer, side.permitted)


async def poll_device_grant(
    side: Side, client_id: str, code: DeviceCode
) -> GitHubToken | NotGranted:
    """Ask once whether the user has decided (RFC 8628 §3.4)."""
    answer = await _ask_for_token(
        side,
        {
            "client_id": client_id,
            "device_code": code.device_code,
            "grant_type": DEVICE_GRANT_TYPE,
        },
    )
    if answer.status == 404:
        raise _client_refused(answer, "client_id_unknown", UNKNOWN_CLIENT)
    if answer.status != 400 or fields_of(answer) is None:
        side.demand_success(answer)
    return parsing.grant(answer)


async def renew(side: Side, client_id: str, token: GitHubToken) -> GitHubToken:
    """Replace an expiring token by its refresh token (RFC 6749 §6); the old pair then is dead.

    Without the app's secret: tokens of the device flow need none. Raises PermanentError
    LOGIN_REQUIRED for every word of GitHub's that only a new login answers.
    """
    if token.refresh_token is None:
        raise _login_again("bad_refresh_token", "the login has no refresh token")
    answer = await _ask_for_token(
        side,
        {
            "client_id": client_id,
            "grant_type": "refresh_token",
            "refresh_token": token.refresh_token,
        },
    )
    found = parsing.grant(answer) if answer.status == 200 else None
    if isinstance(found, GitHubToken):
        return GitHubToken(
            value=found.value,
            # GitHub always sends a new one; RFC 6749 §6 keeps the old one where none is sent.
            refresh_token=found.refresh_token or token.refresh_token,
            expires_in=found.expires_in,
            scope=found.scope or token.scope,
        )
    word = parsing.error_word(answer) if answer.status in (200, 400, 401) else ""
    if word in LATER:
        raise TransientError(
            Failure(
                ErrorClass.TEMPORARY,
                "renewal_delayed",
                f"GitHub does not renew the login just now ({word})",
                RETRY_HINT,
                retry_after=UNNAMED,
            )
        )
    if word in SPENT:
        text = "GitHub does not take the login's refresh token: it has expired or was used"
        raise _login_again("bad_refresh_token", text)
    if word:
        raise _login_again("renewal_refused", f"GitHub does not renew the login ({word})")
    if answer.status == 404:
        raise _login_again("client_id_unknown", UNKNOWN_CLIENT, CLIENT_HINT)
    raise side.refusal(answer)


async def _ask_for_token(side: Side, form: dict[str, str]) -> Answer:
    answer = await side.http.post_form(
        side.urls.login, "/login/oauth/access_token", side.identity.for_login(), form
    )
    if is_intercepted(answer):
        raise side.refusal(answer)
    return answer


def _client_refused(answer: Answer, code: str, message: str) -> PermanentError:
    hint = with_proxy_hint(answer, CLIENT_HINT)
    return PermanentError(Failure(ErrorClass.USAGE, code, message, hint))


def _login_again(code: str, message: str, hint: str = LOGIN_HINT) -> PermanentError:
    return PermanentError(Failure(ErrorClass.LOGIN_REQUIRED, code, message, hint))
