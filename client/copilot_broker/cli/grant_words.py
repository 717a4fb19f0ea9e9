"""What a grant means in words: one sentence, the verbs it allows, what a rule says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["rule_words", "summary", "verbs"]

SCOPES = ("status", "complete", "token", "admin")
"""Each holds all before it (PROTOCOL.md, Scopes)."""

MEANING = {
    "status": "see how the broker is",
    "complete": "have completions made",
    "token": "be lent Copilot tokens",
    "admin": "do everything, sign in and out included",
}

VERBS = {
    "status": ("status", "models", "quota", "usage", "doctor"),
    "complete": ("chat", "api"),
    "token": ("get", "watch"),
    "admin": (
        "login",
        "logout",
        "account",
        "refresh",
        "lock",
        "unlock",
        "models enable",
        "quota set-pat",
        "quota forget-pat",
        "grants --list",
        "key",
    ),
}
"""The verbs of `copilot-cred` by the scope that they need."""


def summary(answer: Mapping[str, Any], *, asked_for_caller: bool) -> str:
    """Return the explanation in a sentence or two, without a full stop at the end."""
    who = "This program" if asked_for_caller else "A program"
    who += _traits(_map(answer.get("peer")), asked_for_caller=asked_for_caller)
    if answer.get("listener"):
        who += f" that comes through the listener {answer['listener']}"
    if not answer.get("admitted"):
        reason = str(_map(answer.get("error")).get("message") or "no rule lets it in")
        return f"{who} is not admitted: {reason}"
    scope = str(answer.get("scope"))
    return f"{who} may {MEANING.get(scope, 'do something')} ({scope}){_limits(answer, scope)}"


def _traits(peer: Mapping[str, Any], *, asked_for_caller: bool) -> str:
    names = [str(peer["comm"])] if peer.get("comm") else []
    names += [f"pid {peer['pid']}"] if peer.get("pid") else []
    said = f" ({', '.join(names)})" if names else ""
    said += f" in {peer['unit']}" if peer.get("unit") else ""
    said += f" with the label {peer['label']}" if peer.get("label") else ""
    sandbox = peer.get("sandbox")
    if sandbox not in {None, "", "none"}:
        said += f" in a {sandbox}" if sandbox == "container" else f" in the {sandbox} sandbox"
    said += f" with the key {peer['key']}" if peer.get("key") else ""
    if peer.get("uid") is not None and not asked_for_caller:
        said += f" of uid {peer['uid']}"
    return said


def _limits(answer: Mapping[str, Any], scope: str) -> str:
    said = ""
    models = answer.get("models")
    if isinstance(models, list) and scope != "status":
        said += f", of the models {_listed(models) or '(none)'}"
    accounts = answer.get("accounts")
    if isinstance(accounts, list):
        relation = "about" if scope == "status" else "as"
        names = _listed(accounts)
        said += f", {relation} account {names}" if names else f", {relation} no account at all"
    rate = answer.get("requests_per_minute")
    if isinstance(rate, int):
        said += f", {rate} request{'' if rate == 1 else 's'} a minute"
    budget = answer.get("budget")
    if isinstance(budget, int):
        said += f", {budget} tokens a day"
    return said


def verbs(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield which verbs of copilot-cred that allows and which it does not."""
    scope = answer.get("scope") if answer.get("admitted") else None
    reach = SCOPES.index(scope) + 1 if scope in SCOPES else 0
    allowed = [verb for each in SCOPES[:reach] for verb in VERBS[each]]
    denied = [verb for each in SCOPES[reach:] for verb in VERBS[each]]
    yield f"may:      {', '.join(allowed) or 'nothing'}"
    yield f"may not:  {', '.join(denied) or '-'}"


def rule_words(part: object, nothing: str) -> str:
    """Return one half of a rule, who or what, as `config.toml` has it: `unit app-code-*`.

    `nothing` stands for a half that is empty.
    """
    words = []
    for key, value in _map(part).items():
        values = value if isinstance(value, list) else [value]
        words.append(f"{str(key).replace('_', ' ')} {' '.join(str(each) for each in values)}")
    return ", ".join(words) or nothing


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(values: list[Any]) -> str:
    """Return `a, b or c`."""
    names = [str(value) for value in values]
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
