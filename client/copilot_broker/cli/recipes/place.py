"""What a recipe is written for: where the broker listens, whose account, which models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from copilot_broker.cli.catalogue import CHAT_PATH, Model, default_model


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["EXAMPLES", "Place", "is_plain", "models_for"]

CLAUDE = "Anthropic"
"""The vendor of Claude models, in GitHub's list."""

MESSAGES_PATH = "/v1/messages"
RESPONSES_PATH = "/responses"
ENDPOINTS = frozenset({CHAT_PATH, MESSAGES_PATH, RESPONSES_PATH})
"""A model that speaks one of these is to be had through each of them: the door translates."""

EXAMPLES = tuple(
    Model(name, vendor=vendor, type="chat", tools=True, endpoints=endpoints)
    for name, vendor, endpoints in (
        ("gpt-4.1", "", (CHAT_PATH,)),
        ("claude-sonnet-4.5", CLAUDE, (CHAT_PATH, MESSAGES_PATH)),
        ("claude-haiku-4.5", CLAUDE, (CHAT_PATH, MESSAGES_PATH)),
        ("gpt-5-codex", "", (RESPONSES_PATH,)),
    )
)
"""What is named where nobody can tell what the account has."""


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
"""What is the same word in a shell, JSON, YAML, TOML, Lua and Lisp."""


def is_plain(name: str) -> bool:
    """Whether a name of a model or an account can stand in every sort of file."""
    return _PLAIN.fullmatch(name) is not None


@dataclass(frozen=True)
class Place:
    """All that a recipe's text depends on."""

    address: str
    """Of the TCP door: `127.0.0.1:4141`."""
    models: tuple[Model, ...]
    """Those that chat and may be used, in GitHub's order; at least one."""
    chat: Model
    """The one that is named where any will do."""
    claude: Model
    """For tools made for Claude; `chat` where there is no Claude."""
    small: Model
    """For the little things that such tools do besides."""
    responses: Model
    """For tools that speak `/responses` only."""
    account: str | None = None
    """None: the default one."""

    @property
    def root(self) -> str:
        """The base URL for Anthropic's API."""
        return f"http://{self.address}"

    @property
    def v1(self) -> str:
        """The base URL for OpenAI's API."""
        return f"{self.root}/v1"

    def new_key(self, name: str) -> str:
        """Return the command that makes a key to be kept."""
        return f"copilot-cred key create {name}{self._whose}"

    def passing_key(self, label: str) -> list[str]:
        """Return the command that prints a key which soon ends, as words; no shell sees them."""
        words = ["copilot-cred", "get", "--model", "*", "--label", label]
        return [*words, *self._whose.split()]

    def passing_key_line(self, label: str) -> str:
        """Return the same as a shell takes it."""
        return " ".join("'*'" if word == "*" else word for word in self.passing_key(label))

    @property
    def run(self) -> str:
        """The beginning of a command that runs a tool with a door and a key of its own."""
        return f"copilot-cred exec{self._whose} --"

    @property
    def _whose(self) -> str:
        return "" if self.account is None else f" --account {self.account}"


def models_for(
    listed: Sequence[Model], address: str, account: str | None = None, wanted: str | None = None
) -> Place | None:
    """Choose from a list of models; None: it has none that chats.

    `wanted` is the one that is to be named in all places, whether it is listed or not. It and
    `account` have to be plain.
    """
    usable = tuple(each for each in listed if _is_usable(each))
    if wanted is not None:
        one = next((each for each in listed if each.id == wanted), Model(wanted, tools=True))
        rest = tuple(each for each in usable if each.id != wanted)
        return Place(address, (one, *rest), one, one, one, one, account)
    if not usable:
        return None
    chat = default_model(usable) or usable[0]
    claudes = [each for each in usable if each.vendor == CLAUDE]
    speakers = [each for each in usable if RESPONSES_PATH in each.endpoints]
    claude = _named("sonnet", claudes) or chat
    return Place(
        address=address,
        models=usable,
        chat=chat,
        claude=claude,
        small=next((each for each in claudes if "haiku" in each.id), claude),
        responses=_named("codex", speakers) or chat,
        account=account,
    )


def _is_usable(model: Model) -> bool:
    """Whether the door lists it, and people are meant to choose it."""
    is_chat = model.type == "chat" and not ENDPOINTS.isdisjoint(model.endpoints)
    return is_chat and model.is_for_people and model.is_enabled and is_plain(model.id)


def _named(part: str, models: Sequence[Model]) -> Model | None:
    """Return the first whose id has `part`, else the first."""
    return next((each for each in models if part in each.id), models[0] if models else None)
