"""An account in `status`: one row for how it is, and below all that a person may have to know.

What is as it should be takes one line; what ails it, and what is held back, is said in the words
that the error would have where it ends a verb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.display import print_table, wrapped
from copilot_broker.cli.quota_bars import print_quota
from copilot_broker.cli.report import Refusal, printable, words
from copilot_broker.cli.times import duration, pause


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


__all__ = ["print_accounts"]

HEADINGS = ("account", "user", "host", "state", "token", "valid")
SPARE = ("token", "host")
"""What a narrow terminal has to do without."""

WORTH = {"file": " (not encrypted)", "memory": " (until the broker stops)"}
"""What a store that is less than a keyring does not do."""

GIVEN = {"environment": "the broker's environment", "credential": "a credential of the service"}
"""Where logins come from that the broker keeps in no store."""

MODELS_SHOWN = 8
"""Models that are held back; a limit of all of them would fill the screen."""

_TO_HERE = re.compile(r"(?:^|[.;] )[^.;]*\bcopilot-cred status(?: --account \S+)?$")
"""The end of a hint that leads to what its reader is looking at."""


def print_accounts(accounts: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the accounts and, below it, each one's particulars."""
    if not accounts:
        print("no accounts; to sign in: copilot-cred login")
        return
    print_table(HEADINGS, [_row(account) for account in accounts], SPARE)
    for account in accounts:
        print()
        _print_particulars(account)


def _row(account: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{account.get('name')}{' (default)' if account.get('default') else ''}",
        str(account.get("login") or "-"),
        str(account.get("host") or "-"),
        _state(account),
        str(account.get("token_id") or "-"),
        duration(account.get("expires_in")),
    )


def _state(account: Mapping[str, Any]) -> str:
    """Say the state; the wire's `exchanging` also holds those that have been told no for good."""
    state = str(account.get("state", "?")).replace("_", " ")
    error = account.get("error")
    if isinstance(error, Mapping) and error.get("code") == "broker_locked":
        return "locked"
    is_over = error and account.get("refresh_in") is None
    return "refused" if state == "exchanging" and is_over else state


def _print_particulars(account: Mapping[str, Any]) -> None:
    name = str(account.get("name"))
    print(wrapped(f"{name}: {', '.join(_facts(account))}", hanging="  "))
    print_quota(account.get("quota"))
    if account.get("unsaved"):
        print("  login not saved yet: its store fails; the broker goes on trying")
    for line in _held_back(account.get("pacing")):
        print(line)
    _print_error(account.get("error"), "error")
    refusal = account.get("refusal")
    if isinstance(refusal, Mapping):
        _print_error(refusal, f"{duration(refusal.get('ago'))} ago")


def _print_error(error: object, speaker: str) -> None:
    found = Refusal.from_map(error)
    if found is None:
        return
    found.retry_after = None  # counted from then; what is due when is said by other lines
    found.hint = _TO_HERE.sub("", found.hint)
    for line in words(found, speaker):
        print(f"  {line}")


def _facts(account: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is known of the login and its token."""
    yield f"mode {account.get('mode') or '-'}"
    for label, key in (("plan", "sku"), ("scopes", "scopes")):
        if account.get(key):
            yield f"{label} {account[key]}"
    if store := str(account.get("store") or ""):
        place = GIVEN.get(store)
        yield f"login from {place}" if place else f"kept in {store}{WORTH.get(store, '')}"
    if account.get("refresh_in") is not None:
        yield f"next refresh in {duration(account['refresh_in'])}"
    if account.get("login_expires_in") is not None:
        yield f"login renewed within {duration(account['login_expires_in'])}"
    if account.get("api_base"):
        yield f"Copilot at {account['api_base']}"


def _held_back(pacing: Any) -> Iterator[str]:
    """Yield what the pacing gate holds back and why; nothing when requests just pass."""
    held = list(_pauses(pacing)) if isinstance(pacing, Mapping) else []
    reason = Refusal.from_map(pacing.get("reason")) if held else None
    for position, line in enumerate(held):
        yield wrapped(line, "  ", "    ")
        if position == 0 and reason is not None:
            yield wrapped(reason.message, "    ")
    if reason is not None and reason.url:
        yield f"    see: {printable(reason.url)}"


def _pauses(pacing: Mapping[str, Any]) -> Iterator[str]:
    if pacing.get("cooldown_in") is not None:
        yield f"asks again in {pause(pacing['cooldown_in'])}"
    models = pacing.get("models")
    cooling = sorted(models.items()) if isinstance(models, Mapping) else []
    for model, seconds in cooling[:MODELS_SHOWN]:
        yield f"asks {model or 'what names no model'} again in {pause(seconds)}"
    if len(cooling) > MODELS_SHOWN:
        yield f"and {len(cooling) - MODELS_SHOWN} more models later"
    if pacing.get("circuit") == "open":
        yield "asks nothing for a moment, since one request after another failed"
    elif pacing.get("circuit") == "half_open":
        yield "tries with one request, since one after another failed"
    limit, queued = pacing.get("limit"), pacing.get("queued")
    if limit is not None or queued:
        under_way = f"{pacing.get('in_flight', 0)} under way, {queued or 0} waiting their turn"
        yield under_way if limit is None else f"asks at most {limit} at a time: {under_way}"
