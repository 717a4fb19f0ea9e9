"""What is written down for good: one kind of event, one MESSAGE_ID, one set of fields.

`journalctl --user MESSAGE_ID=…` finds one kind; the ids never change (systemd.journal-fields(7)).
`systemd/copilot-broker.catalog` explains each to a person, `copilot-cred audit` shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["BY_MESSAGE_ID", "EVENTS", "PEER_FIELDS", "AuditEvent", "flaws", "microseconds"]

PEER_FIELDS: Final = (
    "LISTENER",
    "SCOPE",
    "PEER_PID",
    "PEER_UID",
    "PEER_UNIT",
    "PEER_LABEL",
    "PEER_SANDBOX",
    "PEER_COMM",
    "PEER_EXE",
    "PEER_WEAK",
    "KEY",
)
"""Who it was; in every event about a connection. KEY is the name of the key that the request has
shown, "" for none."""


@dataclass(frozen=True)
class AuditEvent:
    """One kind of event."""

    name: str
    """Stable word for filters: `token-granted`."""
    message_id: str
    message: str
    """MESSAGE of the record: constant, lower-case."""
    fields: tuple[str, ...]
    """The fields it has besides MESSAGE_ID; those of a peer come with `is_of_peer`."""
    is_of_peer: bool = True

    def extra(
        self, peer: Mapping[str, object] | None = None, /, **fields: object
    ) -> dict[str, object]:
        """Return what goes with the message: `log.info(EVENT.message, extra=EVENT.extra(…))`.

        `peer` are the fields of `PEER_FIELDS`. Whether all are there, and no others, is checked by
        the tests (`flaws`): a record too much or too little must not stop what it tells of.
        """
        return {"MESSAGE_ID": self.message_id, **(peer or {}), **fields}


PEER_DENIED: Final = AuditEvent(
    "peer-denied", "99a15f50ce644a25b1a6e3e1129bcfef", "peer denied", ("REASON", "COUNT")
)
OPERATION_DENIED: Final = AuditEvent(
    "operation-denied",
    "6fc075125b7d4b56ad68edcc147ba400",
    "operation denied",
    ("OPERATION", "REASON", "COUNT"),
)
OPERATION_GRANTED: Final = AuditEvent(
    "operation-granted",
    "0c2f1d498ebd40c0bc89896b02c63405",
    "operation granted",
    ("OPERATION", "ACCOUNT", "COUNT"),
)
TOKEN_GRANTED: Final = AuditEvent(
    "token-granted",
    "7ed95af41db94594b55b8798d8a0d5f0",
    "token granted",
    ("OPERATION", "ACCOUNT", "TOKEN_FP"),
)
TOKEN_TOTAL: Final = AuditEvent(
    "token-total",
    "052856beac184803897b42c3ebcb9485",
    "token lent",
    ("ACCOUNT", "TOKEN_FP", "COUNT"),
)
COMPLETION_GRANTED: Final = AuditEvent(
    "completion-granted",
    "6cbdf8eff66e44849f310612f546f85d",
    "completion granted",
    ("OPERATION", "ACCOUNT"),
)
COMPLETION_TOTAL: Final = AuditEvent(
    "completion-total",
    "66e2860f68084921bc37f931bf8c45a9",
    "completions made",
    ("ACCOUNT", "COUNT"),
)
GRANTS_CHANGED: Final = AuditEvent(
    "grants-changed",
    "192f5cc8edb1488faf40d3a70dd4bd05",
    "grants changed",
    ("COUNT",),
    is_of_peer=False,
)
REFRESHED: Final = AuditEvent(
    "refreshed",
    "1cdb96acdf68433ca1cacaf20d996df1",
    "token refreshed",
    ("ACCOUNT", "TOKEN_FP", "MODE", "LIFETIME", "LATENCY_USEC"),
    is_of_peer=False,
)
REFRESH_FAILED: Final = AuditEvent(
    "refresh-failed",
    "c5ab357dcf7d49d2a767adc47d38ebc0",
    "token not refreshed",
    ("ACCOUNT", "ERROR_CODE", "LATENCY_USEC"),
    is_of_peer=False,
)
PROMPTED: Final = AuditEvent(
    "prompted",
    "d65d1a8ce6ba4ee0bcb2cb8e0aae875f",
    "person asked to approve a login",
    ("ACCOUNT", "HOST", "CLIENT"),
    is_of_peer=False,
)
PROMPT_ENDED: Final = AuditEvent(
    "prompt-ended",
    "060ca433a97a4f46968e9de9b7743811",
    "login prompt ended",
    ("ACCOUNT", "HOST", "RESULT", "LATENCY_USEC"),
    is_of_peer=False,
)
SIGNED_IN: Final = AuditEvent(
    "signed-in",
    "26be14bbdb9a4212b892e256ff53461f",
    "signed in",
    ("ACCOUNT", "HOST", "STORE"),
    is_of_peer=False,
)
SIGNED_OUT: Final = AuditEvent(
    "signed-out",
    "fd66e639866642139853c2774521adb4",
    "signed out",
    ("ACCOUNT", "HOST"),
    is_of_peer=False,
)
LOGIN_RENEWED: Final = AuditEvent(
    "login-renewed",
    "ff388a0e0ad243ec8797425ad897942f",
    "login renewed",
    ("ACCOUNT", "LATENCY_USEC"),
    is_of_peer=False,
)
RENEWAL_FAILED: Final = AuditEvent(
    "renewal-failed",
    "8dc1a0c2825c4e6db34783cf2ffd47af",
    "login not renewed",
    ("ACCOUNT", "ERROR_CODE", "LATENCY_USEC"),
    is_of_peer=False,
)
LOGIN_REVOKED: Final = AuditEvent(
    "login-revoked",
    "530f2133b5c547c69c2a9b7d691190dd",
    "login revoked",
    ("ACCOUNT", "HOST"),
    is_of_peer=False,
)
LOGIN_REFUSED: Final = AuditEvent(
    "login-refused",
    "9c90062593e042f7ac4527ce0efa3285",
    "login refused by GitHub",
    ("ACCOUNT", "ERROR_CODE"),
    is_of_peer=False,
)
CONFINED: Final = AuditEvent(
    "confined",
    "b6655388b7114059bf687a929f9e6696",
    "confined",
    ("HOLDS", "LACKS"),
    is_of_peer=False,
)
TOKENS_DROPPED: Final = AuditEvent(
    "tokens-dropped",
    "bfb4cf9d4b8d4b89804524e65351ee64",
    "all tokens dropped",
    ("REASON", "COUNT"),
    is_of_peer=False,
)
LOCKED: Final = AuditEvent(
    "locked", "f68bc843683d4c5190ac2402b1bf0878", "locked", ("REASON",), is_of_peer=False
)
UNLOCKED: Final = AuditEvent(
    "unlocked",
    "2feaaa41e34746ed93c57581e1705f60",
    "unlocked",
    ("RESULT",),
    is_of_peer=False,
)
KEY_CREATED: Final = AuditEvent(
    "key-created",
    "1c8a49824b504500a784bf74dba51dd8",
    "key created",
    ("KEY", "LIFETIME"),
    is_of_peer=False,
)
KEY_REVOKED: Final = AuditEvent(
    "key-revoked",
    "9e0e7d53c14e4ad3ae51bd6198ae659b",
    "key revoked",
    ("KEY", "COUNT"),
    is_of_peer=False,
)
RUN_LEASED: Final = AuditEvent(
    "run-leased", "acac8747d38b4a2492a2817fdd7f4617", "run leased", ("ADDRESS",)
)
RUN_ENDED: Final = AuditEvent(
    "run-ended",
    "fb9583ecc25f423f8ea31d6d2a437ec9",
    "run ended",
    ("KEY", "REASON", "LIFETIME", "COUNT"),
    is_of_peer=False,
)
KEY_MINTED: Final = AuditEvent(
    "key-minted", "1e32f8945d3c40f1a2f701108ac1ece0", "key minted", ("LIFETIME",)
)

EVENTS: Final = tuple(event for event in globals().values() if isinstance(event, AuditEvent))
"""All of them, in the order above."""

BY_MESSAGE_ID: Final = {event.message_id: event for event in EVENTS}
"""To recognise a record: it passes every sink, whatever level is configured."""


def microseconds(seconds: float) -> int:
    """Return what goes into a field named `…_USEC`."""
    return max(0, round(seconds * 1_000_000))


def flaws(message: str, fields: Mapping[str, object]) -> list[str]:
    """Return what is wrong with a record that has one of our ids; none if it has not.

    `fields` are all of its fields whose names are in capitals.
    """
    event = BY_MESSAGE_ID.get(str(fields.get("MESSAGE_ID", "")))
    if event is None:
        return []
    wanted = {"MESSAGE_ID", *event.fields, *(PEER_FIELDS if event.is_of_peer else ())}
    found = [f"{event.name}: says {message!r}"] if message != event.message else []
    found += [f"{event.name}: lacks {name}" for name in sorted(wanted - fields.keys())]
    return found + [f"{event.name}: has {name}" for name in sorted(fields.keys() - wanted)]
