"""What a person has used this month: GitHub's billing pages, read with a personal access token.

Documented ("Billing usage", REST API). Fine-grained tokens need the account permission Plan
(read-only). Use that an organization or enterprise pays for is not on these pages. GitHub's reset
is on the 1st, 00:00 UTC, so the month is named: one that is left out is the server's word.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from brokerd.core.quota import billing as reader
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError, TransientError
from brokerd.upstream.bodies import fields_of
from brokerd.upstream.refusals import bad_answer
from brokerd.upstream.seat import AGAIN_HINT, MANNER, about_quota


if TYPE_CHECKING:
    from brokerd.core.quota import Report
    from brokerd.core.tokens import Pat
    from brokerd.upstream.side import Side


__all__ = ["billing"]

PREMIUM = "premium_request"
CREDIT = "ai_credit"
UNKNOWN = "pat_user_unknown"
VERSIONS = {PREMIUM: "2022-11-28", CREDIT: "2026-03-10"}
"""X-GitHub-Api-Version by page. The second page is of 2026 and known from one source only: its
refusals are nobody's business while the first page answers."""

SETTINGS = "/settings/personal-access-tokens"
"""On the account's own host: a tenant's tokens are made there."""

NEW_HINT = (
    "Make a new fine-grained one with the account permission Plan (read-only), then: "
    "copilot-cred quota set-pat"
)


async def billing(side: Side, pat: Pat, login: str, now: float) -> Report:
    """Ask both pages; see `brokerd.ports.GitHub.billing`."""
    month = time.gmtime(now)
    premium = await _page(side, PREMIUM, pat, login, month)
    if isinstance(premium, BrokerError) and premium.failure.code != UNKNOWN:
        raise premium
    # Accounts that were never billed by requests might lack the first page only.
    credit = await _page(side, CREDIT, pat, login, month)
    if isinstance(premium, BrokerError) and isinstance(credit, BrokerError):
        raise premium
    report = reader.read(
        None if isinstance(premium, BrokerError) else premium,
        None if isinstance(credit, BrokerError) else credit,
        month.tm_year,
        month.tm_mon,
    )
    if report.is_bare and isinstance(credit, TransientError):
        raise credit
    return report


async def _page(
    side: Side, page: str, pat: Pat, login: str, month: time.struct_time
) -> dict[str, Any] | BrokerError:
    """Ask one page; return it, or why it was refused. Raises TransientError without an answer."""
    period = f"year={month.tm_year}&month={month.tm_mon}"
    path = f"/users/{quote(login, safe='')}/settings/billing/{page}/usage?{period}"
    headers = side.identity.for_billing(pat, VERSIONS[page])
    answer = await side.http.get(side.urls.api, path, headers, MANNER)
    if answer.status != 200:
        return _refusal(side.refusal(answer), login, side.urls.login + SETTINGS)
    fields = fields_of(answer)
    return bad_answer(answer, "is not JSON", AGAIN_HINT) if fields is None else fields


def _refusal(error: BrokerError, login: str, settings: str) -> BrokerError:
    """Say what to change about the token (at `settings`); the login is not in question."""
    match error.failure.code:
        case "bad_credentials":
            return _wrong(
                "pat_refused",
                "GitHub does not accept the personal access token any more: it has expired or "
                "was revoked",
                NEW_HINT,
            )
        case "forbidden":
            return _wrong(
                "pat_permission",
                "the personal access token lacks the account permission Plan (read-only)",
                f"Add it at {settings}, or make a new one, then: copilot-cred quota set-pat",
            )
        case "not_found":
            return _wrong(
                UNKNOWN,
                f"GitHub shows this token no bill of {login}: it is another person's token, the "
                "user name is wrong, or an organization pays for Copilot (this is personal "
                "billing only)",
                f"Make one while signed in as {login}, then: copilot-cred quota set-pat. Without "
                "one the seat is asked: copilot-cred quota forget-pat",
            )
        case _:
            return about_quota(error)


def _wrong(code: str, message: str, hint: str) -> PermanentError:
    # DENIED, never LOGIN_REQUIRED: signing in would not help.
    return PermanentError(Failure(ErrorClass.DENIED, code, message, hint))
