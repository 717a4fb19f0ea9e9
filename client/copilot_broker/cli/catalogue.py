"""Reading GitHub's list of models: what a person wants to know of each, and which is the default.

The entries are GitHub's own and anything in them may be missing or odd: what cannot be read is
left out, an entry without an id is skipped, and of entries with the same id the first one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


__all__ = [
    "CHAT_PATH",
    "MESSAGES_PATH",
    "MODELS_TIMEOUT",
    "RESPONSES_PATH",
    "Model",
    "Vision",
    "default_model",
    "read_models",
]

MODELS_TIMEOUT = 30.0
"""Seconds: the broker asks Copilot for its list, perhaps after it has fetched a token."""

CHAT_PATH = "/chat/completions"
"""What a model for chat speaks that names no endpoints."""
RESPONSES_PATH = "/responses"
MESSAGES_PATH = "/v1/messages"

SPOKEN = (CHAT_PATH, RESPONSES_PATH, MESSAGES_PATH)
"""What copilot-cred can ask on, the one that says most first."""


@dataclass(frozen=True)
class Vision:
    """What pictures a model takes; None or empty: GitHub does not say."""

    count: int | None = None
    """At most, in one prompt."""
    size: int | None = None
    """Bytes of each at most."""
    types: tuple[str, ...] = ()
    """Media types."""


@dataclass(frozen=True)
class Model:
    """One model; None or empty: GitHub does not say."""

    id: str
    name: str = ""
    vendor: str = ""
    type: str = ""
    """`chat`, `embeddings` or `completion`."""
    context: int | None = None
    """Tokens of prompt and answer together."""
    prompt: int | None = None
    """Tokens of the prompt at most."""
    output: int | None = None
    """Tokens of the answer at most."""
    multiplier: float | None = None
    """Premium requests that one turn of the person costs."""
    endpoints: tuple[str, ...] = ()
    vision: Vision | None = None
    """None: it takes no pictures."""
    tools: bool = False
    policy: str = ""
    """`enabled`, or what keeps it from being used; empty: nothing does."""
    terms: str = ""
    """What accepting the policy means, in GitHub's words."""
    preview: bool = False
    in_picker: bool = True
    """Whether GitHub wants it offered to people."""
    is_default: bool = False
    is_fallback: bool = False

    @property
    def is_for_people(self) -> bool:
        """Whether it chats and is meant to be chosen by hand."""
        return self.in_picker and self.type in {"", "chat"}

    @property
    def is_enabled(self) -> bool:
        """Whether no policy keeps it from being used."""
        return self.policy in {"", "enabled"}

    @property
    def is_usable(self) -> bool:
        """Whether `copilot-cred chat` and `complete` can have it answer."""
        return self.type in {"", "chat"} and self.is_enabled and self.endpoint is not None

    @property
    def endpoint(self) -> str | None:
        """The one that copilot-cred asks it on; None: it speaks none that is known here."""
        return next((path for path in SPOKEN if path in self.endpoints), None)


def read_models(entries: Iterable[object]) -> list[Model]:
    """Return the models in GitHub's order, each id once."""
    models: dict[str, Model] = {}
    for entry in entries:
        model = _read(entry)
        if model is not None:
            models.setdefault(model.id, model)
    return list(models.values())


def default_model(models: Sequence[Model]) -> Model | None:
    """Return the model that answers when none is named; None when none can.

    GitHub's default for chat, else its fallback (the base model), else the first to choose from.
    """
    usable = [model for model in models if model.is_usable]
    for fits in (
        lambda model: model.is_default,
        lambda model: model.is_fallback,
        lambda model: model.in_picker,
        lambda _: True,
    ):
        for model in usable:
            if fits(model):
                return model
    return None


def _read(entry: object) -> Model | None:
    if not isinstance(entry, Mapping) or not _text(entry.get("id")):
        return None
    billing, capabilities = _map(entry, "billing"), _map(entry, "capabilities")
    limits, supports = _map(capabilities, "limits"), _map(capabilities, "supports")
    policy, kind = _map(entry, "policy"), _text(capabilities.get("type"))
    return Model(
        id=_text(entry["id"]),
        name=_text(entry.get("name")),
        vendor=_text(entry.get("vendor")),
        type=kind,
        context=_count(limits.get("max_context_window_tokens")),
        prompt=_count(limits.get("max_prompt_tokens")),
        output=_count(limits.get("max_output_tokens")),
        multiplier=_number(billing.get("multiplier")),
        endpoints=_endpoints(entry.get("supported_endpoints"), kind),
        vision=_vision(_map(limits, "vision")) if supports.get("vision") is True else None,
        tools=supports.get("tool_calls") is True,
        policy=_text(policy.get("state")),
        terms=_text(policy.get("terms")),
        preview=entry.get("preview") is True,
        in_picker=entry.get("model_picker_enabled") is not False,
        is_default=entry.get("is_chat_default") is True,
        is_fallback=entry.get("is_chat_fallback") is True,
    )


def _vision(limits: Mapping[str, object]) -> Vision:
    types = limits.get("supported_media_types")
    return Vision(
        _count(limits.get("max_prompt_images")),
        _count(limits.get("max_prompt_image_size")),
        tuple(text for text in map(_text, types) if text) if isinstance(types, list) else (),
    )


def _map(parent: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = parent.get(key)
    return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: object) -> int | None:
    found = _number(value)
    return int(found) if found is not None and 0 < found < float("inf") else None


def _endpoints(value: object, kind: str) -> tuple[str, ...]:
    named = tuple(text for text in map(_text, value) if text) if isinstance(value, list) else ()
    return named or ((CHAT_PATH,) if kind in {"", "chat"} else ())
