"""Each account from the broker's side: what login it is, what it is entitled to, who counts.

That it is signed in at all, and where the login is kept, the broker's own examination tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.cli.imports.found import APP_NAMES
from copilot_broker.cli.login import WHY_DIRECT
from copilot_broker.cli.quota_words import SOURCES, in_vain
from copilot_broker.cli.report import Refusal
from copilot_broker.errors import CopilotBrokerError, ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copilot_broker import Client


__all__ = ["accounts"]

MOST = 8
"""Accounts that are asked about; each may take a request to GitHub."""

NO_LOGIN = frozenset({"signed_out", "awaiting_user"})

UNTOLD = {
    "not_configured": "not configured",
    "not_needed": "not needed",
    "nothing": "has told nothing yet",
    "failed": "failed",
}
"""Outcomes of sources that were of no use (PROTOCOL.md, quota.get)."""


def accounts(client: Client) -> Iterator[Finding]:
    """Yield three findings for each account that is signed in; nothing without a broker."""
    try:
        found = client.status().get("accounts")
    except CopilotBrokerError:  # which the broker's own line says
        return
    known = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    for account in [each for each in known if each.get("state") not in NO_LOGIN][:MOST]:
        yield _login_kind(account)
        error = Refusal.from_map(account.get("error"))
        if error is not None and error.code == "broker_locked":
            continue  # nothing is asked for it now, and the lock has its line
        yield _entitlement(account, error)
        if error is None:
            yield _quota_source(client, str(account.get("name")))


def _login_kind(account: Mapping[str, Any]) -> Finding:
    """Say what login it is. GitHub Apps have client ids that begin with Iv, and no scopes."""
    app = str(account.get("client_id") or "")
    reason = str(account.get("mode_reason") or "")
    if reason == "token_kind":
        told = "a personal or installation token"
    elif app.startswith("Iv"):
        told = f"a login with the GitHub App {APP_NAMES.get(app, app)}"
    else:
        told = f"a login with the OAuth app {APP_NAMES.get(app, app or 'of an unknown client id')}"
    scopes = account.get("scopes")
    told += f", scopes {scopes}" if scopes else ", GitHub named no scopes"
    if account.get("mode") == "direct":
        told += f"; used directly: {WHY_DIRECT.get(reason, 'this account is set to that')}"
    else:
        told += "; exchanged for short-lived tokens"
    return Finding(f"login-kind-{account.get('name')}", Verdict.OK, told)


def _entitlement(account: Mapping[str, Any], error: Refusal | None) -> Finding:
    name = f"entitlement-{account.get('name')}"
    if error is not None:
        is_final = error.error_class == ErrorClass.DENIED
        verdict = Verdict.ERROR if is_final else Verdict.WARNING
        told = error.message if is_final else f"not known: {error.message}"
        return Finding(name, verdict, told, error.hint)
    plan = account.get("sku")
    if plan:
        return Finding(name, Verdict.OK, f"Copilot is there to be used, plan {plan}")
    told = "GitHub names no plan" if account.get("state") == "ready" else "GitHub is being asked"
    return Finding(name, Verdict.OK, told)


def _quota_source(client: Client, account: str) -> Finding:
    name = f"quota-source-{account}"
    try:
        answer = client.quota(account)
    except CopilotBrokerError as error:
        told = f"what is left of the plan cannot be asked: {error.message}"
        return Finding(name, Verdict.WARNING, told, error.hint)
    vain = list(in_vain(answer))
    others = ", ".join(f"{each['source']} {_outcome(each)}" for each in vain)
    source = answer.get("source")
    failure = next(filter(None, (_failure(each) for each in vain)), None)
    if not source:
        told = f"nobody tells what is left of the plan: {others or 'nobody was asked'}"
        mend = "let GitHub tell: copilot-cred quota set-pat"
        return Finding(name, Verdict.WARNING, told, failure.hint if failure else mend)
    told = f"{SOURCES.get(str(source), str(source))} tells what is left"
    told += f"; the others: {others}" if others else ""
    if failure is None:
        return Finding(name, Verdict.OK, told)
    return Finding(name, Verdict.WARNING, told, failure.hint)


def _outcome(attempt: Mapping[str, Any]) -> str:
    said = str(attempt.get("outcome") or "told nothing")
    failure = _failure(attempt)
    return f"failed ({failure.message})" if failure else UNTOLD.get(said, said.replace("_", " "))


def _failure(attempt: Mapping[str, Any]) -> Refusal | None:
    return Refusal.from_map(attempt) if attempt.get("outcome") == "failed" else None
