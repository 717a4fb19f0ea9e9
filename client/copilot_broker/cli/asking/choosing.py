"""Which model is asked: the one that was named, as GitHub's list has it, or the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker import Client
from copilot_broker.cli.catalogue import (
    CHAT_PATH,
    MODELS_TIMEOUT,
    Model,
    Vision,
    default_model,
    read_models,
)
from copilot_broker.cli.report import PROGRAM, Refusal
from copilot_broker.errors import ErrorClass, Temporary


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["chosen", "named", "offered"]


def offered(account: str | None, *, needed: bool = True) -> list[Model]:
    """Return what Copilot offers the account.

    Where it is not needed, none when it cannot be had just now: it only says how a model is asked,
    and nearly all are asked in one way.
    """
    try:
        with Client(name=PROGRAM, timeout=MODELS_TIMEOUT) as client:
            return read_models(client.models(account))
    except Temporary:
        if needed:
            raise
        return []


def chosen(models: Sequence[Model], name: str | None) -> Model:
    """Return the one to ask. Raises Refusal (denied) where none is named and none can chat."""
    return _default(models) if name is None else named(name, models)


def named(name: str, models: Sequence[Model]) -> Model:
    """Return the model of that id; one that is not listed is asked as most are.

    What is wrong with such a name Copilot says, and the broker what mends it.
    """
    found = (model for model in models if model.id == name)
    return next(found, Model(name, endpoints=(CHAT_PATH,), vision=Vision()))


def _default(models: Sequence[Model]) -> Model:
    """Return the account's default model. Raises Refusal (denied)."""
    model = default_model(models)
    if model is None:
        raise Refusal(
            ErrorClass.DENIED,
            "no_model",
            "Copilot offers this account no model that can chat",
            "see what it offers: copilot-cred models --all",
        )
    return model
