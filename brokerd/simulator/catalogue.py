"""The simulated Copilot's models: one of each sort, with the blemishes of the real list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokerd.simulator import quirks


if TYPE_CHECKING:
    from collections.abc import Collection


__all__ = ["CHAT", "MODELS", "MODEL_QUIRKS", "available", "entry", "listed", "usable"]

CHAT = "/chat/completions"
VISION_LIMITS = {
    "max_prompt_images": 5,
    "max_prompt_image_size": 3145728,
    "supported_media_types": ["image/jpeg", "image/png", "image/webp", "image/gif"],
}
# What some models always do (names from `quirks.QUIRKS`).
MODEL_QUIRKS = {"sim-claude": ("bare",)}


def _model(
    model_id: str,
    kind: str = "chat",
    *,
    multiplier: float = 0,
    vision: bool = False,
    limits: dict[str, int] | None = None,
    supports: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    chat = {
        "max_context_window_tokens": 144000,
        "max_prompt_tokens": 128000,
        "max_output_tokens": 16384,
        "max_non_streaming_output_tokens": 16384,
    }
    capabilities: dict[str, Any] = {
        "type": kind,
        "object": "model_capabilities",
        "family": model_id,
        "tokenizer": "o200k_base" if kind == "chat" else "cl100k_base",
        "limits": {**(chat if kind == "chat" else {}), **(limits or {})},
        "supports": {"streaming": True, "tool_calls": True, "parallel_tool_calls": True}
        if kind == "chat"
        else {},
    }
    capabilities["supports"] |= supports or {}
    if vision:
        capabilities["supports"]["vision"] = True
        capabilities["limits"]["vision"] = VISION_LIMITS
    model = {
        "id": model_id,
        "object": "model",
        "name": f"{model_id} (simulated)",
        "vendor": "Simulator",
        "version": f"{model_id}-2026-01-01",
        "preview": False,
        "model_picker_enabled": kind == "chat",
        "is_chat_default": False,
        "is_chat_fallback": False,
        "capabilities": capabilities,
    }
    if kind == "chat":
        model["billing"] = {"is_premium": multiplier > 0, "multiplier": multiplier}
    return model | more


def _policy(state: str) -> dict[str, str]:
    return {"state": state, "terms": "Simulated terms"}


_DEFAULT = _model(
    "sim-chat", vision=True, is_chat_default=True, is_chat_fallback=True,
    model_picker_category="versatile",
)  # fmt: skip

MODELS: dict[str, Any] = {
    "object": "list",
    "data": [
        _DEFAULT,
        _DEFAULT | {"model_picker_enabled": False},  # the real list has duplicates
        _model(
            "sim-claude", multiplier=1, vision=True, vendor="Anthropic",
            policy=_policy("enabled"), supported_endpoints=[CHAT, "/v1/messages"],
            supports={"thinking": True, "max_thinking_budget": 32000},
        ),
        _model(
            "sim-enabled", multiplier=10, policy=_policy("enabled"), preview=True,
            model_picker_category="powerful",
            billing={"is_premium": True, "multiplier": 10, "restricted_to": ["pro_plus", "max"]},
            warning_messages=[{"code": "preview", "message": "Simulated warning"}],
        ),
        _model("sim-premium", multiplier=1, policy=_policy("unconfigured")),
        _model("sim-disabled", multiplier=0.33, policy=_policy("disabled")),
        _model("sim-small", multiplier=0.25, limits={"max_prompt_tokens": 100}),
        _model("sim-large", limits={"max_prompt_tokens": 16_000_000}),
        _model("sim-responses", multiplier=1,
               supported_endpoints=["/responses", "ws:/responses"]),
        _model("sim-embedding", "embeddings", limits={"max_inputs": 512},
               supports={"dimensions": True}),
        _model("sim-completion", "completion"),
        {"object": "model"},  # and entries that lack parts
        {"id": "sim-unfinished", "object": "model", "name": "no capabilities"},
    ],
}  # fmt: skip

_BY_ID: dict[str, dict[str, Any]] = {
    each["id"]: each for each in reversed(MODELS["data"]) if "capabilities" in each
}
# A quirk's alias stands for sim-chat, on every path.
_ALIAS = _DEFAULT | {"supported_endpoints": [CHAT, "/responses", "/v1/messages"]}


def listed(accepted: Collection[str]) -> dict[str, Any]:
    """Give the list for somebody who has accepted the terms of these models."""
    return {**MODELS, "data": [_as_seen(each, accepted) for each in MODELS["data"]]}


def entry(name: str) -> dict[str, Any] | None:
    """Give a model's entry, as it is for a newcomer."""
    return _BY_ID.get(name)


def usable(name: Any, accepted: Collection[str]) -> dict[str, Any] | None:
    """Give the entry of a model that may be used."""
    if not isinstance(name, str):
        return None
    if quirks.of_alias(name) is not None:
        return _ALIAS
    model = _BY_ID.get(name)
    if model is None:
        return None
    policy = _as_seen(model, accepted).get("policy", {})
    return model if policy.get("state", "enabled") == "enabled" else None


def available(accepted: Collection[str]) -> list[str]:
    """Name the models that a conversation may be had with, the default one first."""
    return [
        name
        for name, model in sorted(_BY_ID.items(), key=lambda each: not each[1]["is_chat_default"])
        if model["capabilities"]["type"] == "chat" and usable(name, accepted) is not None
    ]


def _as_seen(model: dict[str, Any], accepted: Collection[str]) -> dict[str, Any]:
    """Show a model's entry to somebody who has accepted the terms of these."""
    if model.get("id") not in accepted:
        return model
    return model | {"policy": model["policy"] | {"state": "enabled"}}
