"""What the broker writes down, as the client knows it: each id, its name, and words for people.

The ids are part of what the two sides share, like the wire; a test compares this table with the
broker's own. An id never changes; a newer broker may have more of them.
"""

from __future__ import annotations

from dataclasses import dataclass


__all__ = ["BY_ID", "BY_NAME", "DENIALS", "FIELDS", "NUMBERS", "Event"]


@dataclass(frozen=True)
class Event:
    """One kind of record."""

    name: str
    """As `--event` takes it and `--json` prints it."""
    message_id: str
    words: str
    """Two or three, for the table."""


_EVENTS = (
    Event("peer-denied", "99a15f50ce644a25b1a6e3e1129bcfef", "peer denied"),
    Event("operation-denied", "6fc075125b7d4b56ad68edcc147ba400", "denied"),
    Event("operation-granted", "0c2f1d498ebd40c0bc89896b02c63405", "granted"),
    Event("token-granted", "7ed95af41db94594b55b8798d8a0d5f0", "token granted"),
    Event("token-total", "052856beac184803897b42c3ebcb9485", "token lent"),
    Event("completion-granted", "6cbdf8eff66e44849f310612f546f85d", "asks Copilot"),
    Event("completion-total", "66e2860f68084921bc37f931bf8c45a9", "asked Copilot"),
    Event("grants-changed", "192f5cc8edb1488faf40d3a70dd4bd05", "rules changed"),
    Event("refreshed", "1cdb96acdf68433ca1cacaf20d996df1", "refreshed"),
    Event("refresh-failed", "c5ab357dcf7d49d2a767adc47d38ebc0", "not refreshed"),
    Event("prompted", "d65d1a8ce6ba4ee0bcb2cb8e0aae875f", "login prompt"),
    Event("prompt-ended", "060ca433a97a4f46968e9de9b7743811", "prompt ended"),
    Event("signed-in", "26be14bbdb9a4212b892e256ff53461f", "signed in"),
    Event("signed-out", "fd66e639866642139853c2774521adb4", "signed out"),
    Event("login-renewed", "ff388a0e0ad243ec8797425ad897942f", "login renewed"),
    Event("renewal-failed", "8dc1a0c2825c4e6db34783cf2ffd47af", "not renewed"),
    Event("login-revoked", "530f2133b5c547c69c2a9b7d691190dd", "login revoked"),
    Event("login-refused", "9c90062593e042f7ac4527ce0efa3285", "login refused"),
    Event("confined", "b6655388b7114059bf687a929f9e6696", "confined"),
    Event("tokens-dropped", "bfb4cf9d4b8d4b89804524e65351ee64", "all dropped"),
    Event("locked", "f68bc843683d4c5190ac2402b1bf0878", "locked"),
    Event("unlocked", "2feaaa41e34746ed93c57581e1705f60", "unlocked"),
    Event("key-created", "1c8a49824b504500a784bf74dba51dd8", "key created"),
    Event("key-revoked", "9e0e7d53c14e4ad3ae51bd6198ae659b", "key revoked"),
    Event("run-leased", "acac8747d38b4a2492a2817fdd7f4617", "run leased"),
    Event("run-ended", "fb9583ecc25f423f8ea31d6d2a437ec9", "run ended"),
    Event("key-minted", "1e32f8945d3c40f1a2f701108ac1ece0", "key minted"),
)

BY_ID = {event.message_id: event for event in _EVENTS}
BY_NAME = {event.name: event for event in _EVENTS}

DENIALS = frozenset({"peer-denied", "operation-denied"})
"""What `--denied` shows."""

NUMBERS = frozenset({"COUNT", "LATENCY_USEC", "LIFETIME", "PEER_PID", "PEER_UID", "PEER_WEAK"})
"""Fields that are numbers in JSON; all others are strings."""

FIELDS = NUMBERS | {
    "ACCOUNT",
    "ADDRESS",
    "CLIENT",
    "ERROR_CODE",
    "HOLDS",
    "HOST",
    "KEY",
    "LACKS",
    "LISTENER",
    "MODE",
    "OPERATION",
    "PEER_COMM",
    "PEER_EXE",
    "PEER_LABEL",
    "PEER_SANDBOX",
    "PEER_UNIT",
    "REASON",
    "RESULT",
    "SCOPE",
    "STORE",
    "TOKEN_FP",
}
"""All that records tell; the journal adds fields of its own, which are not ours to show."""
