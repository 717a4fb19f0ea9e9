"""The models that Copilot offers an account, as the broker tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from copilot_broker.errors import CopilotBrokerError, InternalError, error_from
from copilot_broker.tokens import RESTART_HINT
from copilot_broker.wire.messages import ErrorInfo


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["ModelList"]


@dataclass(frozen=True)
class ModelList:
    """The models, and how old the list is."""

    models: Sequence[dict[str, Any]] = field(repr=False)
    """GitHub's own entries, untouched; any may lack anything but `id`."""
    account: str
    age: float = 0.0
    """Seconds since the broker got it from GitHub."""
    failure: CopilotBrokerError | None = field(default=None, compare=False)
    """Why it is an old one: the broker asked GitHub again in vain. None: it is not. A value."""

    @classmethod
    def from_result(cls, result: object) -> ModelList:
        """Read the result of `models.list`. Raises InternalError `bad_answer`."""
        found = result if isinstance(result, Mapping) else {}
        models, age, error = found.get("models"), found.get("age"), found.get("error")
        if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
            message = "the answer to models.list holds no models"
            raise InternalError("bad_answer", message, RESTART_HINT)
        return cls(
            models=models,
            account=str(found.get("account", "")),
            age=float(age) if isinstance(age, int | float) else 0.0,
            failure=None if error is None else error_from(ErrorInfo.from_wire(error)),
        )
