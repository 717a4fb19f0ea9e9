"""What was learned of an account, written into the index: worth having, never worth failing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.errors import BrokerError


if TYPE_CHECKING:
    from brokerd.core.tokens import IndexEntry
    from brokerd.ports import AccountIndex


__all__ = ["remember"]

log = logging.getLogger(__name__)


def remember(index: AccountIndex, name: str, entry: IndexEntry, else_log: str) -> None:
    """Put it into the index, or log `else_log`: it is found out again, by a request more."""
    try:
        index.put(name, entry)
    except BrokerError as error:
        log.warning(else_log, extra={"ACCOUNT": name, "ERROR_CODE": error.failure.code})
