"""Who tells what is left of a plan, and why others do not, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.display import account_words, say, wrapped
from copilot_broker.cli.report import PROGRAM, Refusal, words
from copilot_broker.cli.times import duration
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["command", "in_vain", "tell_more", "who_says", "whose", "why"]

SOURCES = {
    "billing": "GitHub's billing pages",
    "seat": "the account's Copilot seat",
    "headers": "Copilot, beside its last answers",
    "token": "the account's Copilot token",
}
"""By their names on the wire (PROTOCOL.md, quota.get)."""

TOLD = frozenset({"used", "added"})
"""Outcomes of sources that told something."""


def whose(answer: Mapping[str, Any]) -> str:
    """Return whose plan it is: `octocat on github.com (account default), plan pro`."""
    account = {**answer, "name": answer.get("account") or "default"}
    said = account_words(account) if answer.get("login") else str(account["name"])
    plan = answer.get("plan") or answer.get("sku")
    return f"{said}, plan {plan}" if plan else said


def who_says(answer: Mapping[str, Any]) -> str:
    """Return who told it and when, and what is from elsewhere."""
    said = f"told by {_source(answer['source'])}"
    age = answer.get("age")
    if isinstance(age, int | float):
        said += f" {duration(age)} ago" if age > 1 else " just now"
    added = [each["source"] for each in _tried(answer) if each.get("outcome") == "added"]
    if added:
        said += f"; the rest by {' and '.join(map(_source, added))}"
    if answer.get("tier"):
        said += f"; that the plan is {answer['tier']} is only your own word"
    return said


def _source(name: object) -> str:
    return SOURCES.get(str(name), str(name))


def _tried(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tried = answer.get("tried")
    for attempt in tried if isinstance(tried, list) else []:
        if isinstance(attempt, Mapping) and attempt.get("source"):
            yield attempt


def in_vain(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the sources that did not tell anything."""
    return (each for each in _tried(answer) if each.get("outcome") not in TOLD)


def tell_more(answer: Mapping[str, Any]) -> None:
    """Say what each model has used, and which sources told nothing and why."""
    models = answer.get("models")
    if isinstance(models, Mapping) and models:
        used = [f"{name} {_count(count)}" for name, count in models.items()]
        say(wrapped(f"by model: {', '.join(used)}", hanging="  "))
    for attempt in in_vain(answer):
        say(why(attempt))


def _count(used: object) -> str:
    """Return a number without the fraction that it does not have."""
    return f"{used:.2f}".rstrip("0").rstrip(".") if isinstance(used, int | float) else str(used)


def why(attempt: Mapping[str, Any]) -> str:
    """Return why a source told nothing, and what mends that."""
    name = str(attempt["source"])
    told = str(attempt.get("outcome") or "told nothing").replace("_", " ")
    error = Refusal.from_map(attempt) or Refusal(ErrorClass.TEMPORARY, "", told, "")
    return "\n".join(words(error, name))


def command(action: str, account: str | None) -> str:
    """Return the command line that does this for the same account."""
    named = [] if account is None else ["--account", account]
    return " ".join([PROGRAM, "quota", *filter(None, [action]), *named])
