"""The refusal of a small call, as an error: it also tells the pacing gate what upstream said.

A completion's refusal is an answer that passes through the proxy. A list of models or a policy
comes as a value, so what stands in its place has to be raised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from brokerd.errors import BrokerError, ErrorClass, PermanentError, TransientError


if TYPE_CHECKING:
    from brokerd.core.refusals import Refusal


__all__ = ["RefusedCallError", "refused_call"]


class RefusedCallError(BrokerError):
    """Copilot answered, and not with what was asked for; TransientError or PermanentError too."""

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.failure)
        self.status = status
        """HTTP status."""
        self.refusal = refusal


class _RefusedForNowError(RefusedCallError, TransientError):
    pass


class _RefusedError(RefusedCallError, PermanentError):
    pass


def refused_call(status: int, refusal: Refusal, code: str | None = None) -> RefusedCallError:
    """Return the error for it; `code` where who asked calls it otherwise."""
    if code is not None:
        refusal = replace(refusal, failure=replace(refusal.failure, code=code))
    is_temporary = refusal.failure.error_class is ErrorClass.TEMPORARY
    return (_RefusedForNowError if is_temporary else _RefusedError)(status, refusal)
