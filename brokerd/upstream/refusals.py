"""What GitHub means when it does not say 200: one table from answers to failures.

The order is the official client's: 401 first, then the shape of the body (an ErrorEnvelope speaks
of entitlement), then limits, then the status. Before all that comes the question whose answer it
is: a captive portal's 401 must never cost a login. GitHub's own sentences are not passed on: they
name the person, and they end up in logs. Its codes are, where they are known.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.core import retry_after, single_sign_on
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream.bodies import bears_request_id, fields_of, is_intercepted
from brokerd.upstream.notifications import no_entitlement


if TYPE_CHECKING:
    from brokerd.upstream.hosts import OriginAllowList
    from brokerd.upstream.http import Answer


__all__ = ["RETRY_HINT", "bad_answer", "refusal", "server_time", "with_proxy_hint"]

LOGIN_HINT = "Run: copilot-cred login"
RETRY_HINT = "A kept login is tried again by itself, a new one by: copilot-cred login"
AGAIN_HINT = "When that is settled, run: copilot-cred refresh"
UPDATE_HINT = (
    "Update copilot-broker, or wait: GitHub has done this by mistake before. Then: "
    "copilot-cred refresh"
)
TOO_OLD = ("client_not_supported", "GitHub no longer supports this client's version", UPDATE_HINT)
# GitHub locks all logins of a person out "for a while" after several bad ones.
LOCKOUT_RETRY_AFTER = 900.0
# A portal is signed in to, or a proxy mended, by a person.
INTERCEPTED_RETRY_AFTER = 60.0
# Beginnings of GitHub's sentences, in lower case, that tell what the status does not.
LOCKED_OUT = ("login attempts exceeded", "maximum number of login attempts")
SAML = ("saml enforcement", "organization saml")


def refusal(answer: Answer, permitted: OriginAllowList) -> BrokerError:
    """Turn an answer that is not what was asked for into the error to raise."""
    if answer.status < 300:
        return bad_answer(answer, f"has a status that says nothing here: {answer.status}")
    if is_intercepted(answer):
        return _intercepted(answer)
    fields = fields_of(answer) or {}
    message = fields.get("message")
    message = message.lower() if isinstance(message, str) else ""
    if answer.status == 401:
        return _permanent(
            answer,
            ErrorClass.LOGIN_REQUIRED,
            "bad_credentials",
            "GitHub does not accept the login any more",
            LOGIN_HINT,
        )
    details = fields.get("error_details")
    if 400 <= answer.status < 500 and isinstance(details, dict):
        failure = no_entitlement(details, permitted)
        return PermanentError(replace(failure, hint=with_proxy_hint(answer, failure.hint)))
    if answer.status == 403 and _says(message, LOCKED_OUT):
        return _transient(
            "login_locked_out",
            "GitHub locks out this account's logins for a while after too many bad ones, "
            "those of other tools too",
            f"Stop whatever signs in with a dead login, and wait. {RETRY_HINT}",
            _wait(answer, LOCKOUT_RETRY_AFTER),
        )
    if answer.status in (403, 404):
        error = _single_sign_on(answer, message, permitted)
        if error is not None:
            return error
    if _is_limited(answer, message):
        wait = _wait(answer, retry_after.UNNAMED) or retry_after.UNNAMED
        # No duration in the sentence: it is read again when much of it is over.
        text = "GitHub limits the rate of requests"
        return _transient("rate_limited", text, RETRY_HINT, wait)
    return _by_status(answer, message)


def _by_status(answer: Answer, message: str) -> BrokerError:
    status, origin = answer.status, answer.origin
    if status in (408, 425) or status >= 500:
        return _transient(
            "upstream_error",
            f"{origin} answers {status}",
            with_proxy_hint(answer, RETRY_HINT),
            _wait(answer, None),
        )
    if 300 <= status < 400:
        return _transient(
            "redirect_refused",
            f"{origin} redirects, which is never followed",
            f"The network may want you to sign in on a web page first. {AGAIN_HINT}",
        )
    hint = AGAIN_HINT
    match status:
        case 403:
            code, text = "forbidden", f"{origin} forbids it"
        case 404:
            code, text = "not_found", f"{origin} does not know what it was asked for"
        case 421:
            return _transient("misdirected", f"{origin} is the wrong host for it", RETRY_HINT)
        # Whether a withdrawn version of the API is answered with 466 or 400 is not known.
        case 466 | 410:
            code, text, hint = TOO_OLD
        case 400 if "version" in message and "support" in message:
            code, text, hint = TOO_OLD
        case 451:
            code, text = "legally_unavailable", f"{origin} may not serve it for legal reasons"
        case _:
            code, text = "upstream_refused", f"{origin} refuses with {status}"
    return _permanent(answer, ErrorClass.DENIED, code, text, hint)


def _intercepted(answer: Answer) -> TransientError:
    return _transient(
        "intercepted",
        f"a proxy or firewall in between answered ({answer.status}) in {answer.origin}'s place",
        "Sign in to this network if it wants that, or have its administrator let "
        f"{answer.origin} through, then: copilot-cred refresh",
        _wait(answer, INTERCEPTED_RETRY_AFTER),
    )


def _single_sign_on(
    answer: Answer, message: str, permitted: OriginAllowList
) -> PermanentError | None:
    """Return the error for a login that an organization's SAML keeps out, None for others."""
    named = single_sign_on.page_of(answer.headers.get(single_sign_on.HEADER, ""))
    # A 404 that hides what is protected has the sentence only.
    if named is None and not _says(message, SAML):
        return None
    page = permitted.shown_page(named or "")
    step = (
        "Open the page and authorize the login: its link lives one hour"
        if page
        else "Sign in to the organization on GitHub and authorize the login there, under "
        "Applications or, for a personal token, Configure SSO"
    )
    return _permanent(
        answer,
        ErrorClass.DENIED,
        "sso_required",
        "an organization wants this login authorized by single sign-on",
        f"{step}. Then: copilot-cred refresh",
        url=page,
    )


def bad_answer(answer: Answer, what: str, hint: str = RETRY_HINT) -> TransientError:
    """Make the error for an answer that cannot be used although its status is fine."""
    text = f"the answer of {answer.origin} {what}"
    return _transient("bad_answer", text, with_proxy_hint(answer, hint))


def server_time(answer: Answer) -> float | None:
    """Return upstream's clock at the answer in Unix seconds (RFC 9110 §6.6.1, §5.6.7)."""
    return retry_after.http_date(answer.headers.get("date", ""))


def _is_limited(answer: Answer, message: str) -> bool:
    """Whether it is one of the forms of a limit; 5xx tell their time under their own name."""
    if answer.status == 429 or (answer.status < 500 and "retry-after" in answer.headers):
        return True
    if answer.status != 403:
        return False
    spent = answer.headers.get("x-ratelimit-remaining", "").strip() == "0"
    return spent or _says(message, ("rate limit",))


def _says(message: str, words: tuple[str, ...]) -> bool:
    return any(each in message for each in words)


def _wait(answer: Answer, default: float | None) -> float | None:
    found = retry_after.seconds(answer.headers, server_time(answer) or time.time())
    return default if found is None else found


def with_proxy_hint(answer: Answer, hint: str) -> str:
    """Say so when an answer does not bear GitHub's request id, as all of GitHub's own do."""
    if bears_request_id(answer):
        return hint
    return f"A proxy or firewall may have answered in GitHub's place. {hint}"


def _transient(code: str, message: str, hint: str, wait: float | None = None) -> TransientError:
    return TransientError(Failure(ErrorClass.TEMPORARY, code, message, hint, retry_after=wait))


def _permanent(
    answer: Answer,
    error_class: ErrorClass,
    code: str,
    message: str,
    hint: str,
    *,
    url: str | None = None,
) -> PermanentError:
    return PermanentError(Failure(error_class, code, message, with_proxy_hint(answer, hint), url))
