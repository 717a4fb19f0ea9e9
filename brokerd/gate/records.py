"""One line in the audit log about one connection, always with the same fields (`core.audit`)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from brokerd.core.setting_checks import NotAllowedError, account_name


if TYPE_CHECKING:
    from brokerd.core.access import Rights
    from brokerd.core.audit import AuditEvent
    from brokerd.core.peer import Peer


__all__ = ["loggable_account", "note", "warn"]

log = logging.getLogger(__name__)


def note(
    event: AuditEvent, peer: Peer, listener: str, rights: Rights | None, **more: object
) -> None:
    """Write down what happened; `more` are the event's own fields."""
    log.info(event.message, extra=_fields(event, peer, listener, rights) | more)


def warn(
    event: AuditEvent, peer: Peer, listener: str, rights: Rights | None, **more: object
) -> None:
    """Write down what was refused."""
    log.warning(event.message, extra=_fields(event, peer, listener, rights) | more)


def loggable_account(word: object) -> str:
    """Return a peer's word as it may stand in a log: a name that an account can have."""
    if word is None:
        return "(default)"
    try:
        return account_name(word) if isinstance(word, str) else "(invalid)"
    except NotAllowedError:
        return "(invalid)"


def _fields(
    event: AuditEvent, peer: Peer, listener: str, rights: Rights | None
) -> dict[str, object]:
    return {
        "MESSAGE_ID": event.message_id,
        "LISTENER": listener,
        "SCOPE": "none" if rights is None else rights.scope.label,
        "PEER_PID": peer.pid,
        "PEER_UID": peer.uid,
        "KEY": peer.key,
        "PEER_UNIT": peer.unit,
        "PEER_LABEL": peer.label,
        "PEER_SANDBOX": peer.sandbox,
        "PEER_COMM": peer.comm,
        "PEER_EXE": peer.exe,
        "PEER_WEAK": int(peer.weak),
    }
