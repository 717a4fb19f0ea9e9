"""The vocabulary of the audit log: fixed, complete, and one idea a name."""

import re

import pytest

from brokerd.core import audit
from brokerd.core.audit import BY_MESSAGE_ID, EVENTS, PEER_FIELDS, AuditEvent, flaws


IDS = {
    "peer-denied": "99a15f50ce644a25b1a6e3e1129bcfef",
    "operation-denied": "6fc075125b7d4b56ad68edcc147ba400",
    "operation-granted": "0c2f1d498ebd40c0bc89896b02c63405",
    "token-granted": "7ed95af41db94594b55b8798d8a0d5f0",
    "token-total": "052856beac184803897b42c3ebcb9485",
    "completion-granted": "6cbdf8eff66e44849f310612f546f85d",
    "completion-total": "66e2860f68084921bc37f931bf8c45a9",
    "grants-changed": "192f5cc8edb1488faf40d3a70dd4bd05",
    "refreshed": "1cdb96acdf68433ca1cacaf20d996df1",
    "refresh-failed": "c5ab357dcf7d49d2a767adc47d38ebc0",
    "prompted": "d65d1a8ce6ba4ee0bcb2cb8e0aae875f",
    "prompt-ended": "060ca433a97a4f46968e9de9b7743811",
    "signed-in": "26be14bbdb9a4212b892e256ff53461f",
    "signed-out": "fd66e639866642139853c2774521adb4",
    "login-renewed": "ff388a0e0ad243ec8797425ad897942f",
    "renewal-failed": "8dc1a0c2825c4e6db34783cf2ffd47af",
    "login-revoked": "530f2133b5c547c69c2a9b7d691190dd",
    "login-refused": "9c90062593e042f7ac4527ce0efa3285",
    "confined": "b6655388b7114059bf687a929f9e6696",
    "tokens-dropped": "bfb4cf9d4b8d4b89804524e65351ee64",
    "locked": "f68bc843683d4c5190ac2402b1bf0878",
    "unlocked": "2feaaa41e34746ed93c57581e1705f60",
    "key-created": "1c8a49824b504500a784bf74dba51dd8",
    "key-revoked": "9e0e7d53c14e4ad3ae51bd6198ae659b",
    "run-leased": "acac8747d38b4a2492a2817fdd7f4617",
    "run-ended": "fb9583ecc25f423f8ea31d6d2a437ec9",
    "key-minted": "1e32f8945d3c40f1a2f701108ac1ece0",
}
PEER = dict.fromkeys(PEER_FIELDS, "")


def test_the_ids_never_change():
    assert {event.name: event.message_id for event in EVENTS} == IDS


def test_each_has_a_name_an_id_and_a_message_of_its_own():
    for kind in ("name", "message_id", "message"):
        assert len({getattr(event, kind) for event in EVENTS}) == len(EVENTS)
    assert len(BY_MESSAGE_ID) == len(EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_each_is_fit_for_the_journal(event: AuditEvent):
    assert re.fullmatch(r"[0-9a-f]{32}", event.message_id)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+|[a-z]+", event.name)
    assert event.message[:1].islower()
    assert not event.message.endswith(".")
    for field in (*event.fields, *PEER_FIELDS):
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", field)
    of_peer = PEER_FIELDS if event.is_of_peer else ()
    assert not set(event.fields) & {*of_peer, "MESSAGE", "MESSAGE_ID", "PRIORITY"}


def test_a_whole_record_has_no_flaw():
    for event in EVENTS:
        fields = dict.fromkeys(event.fields, "x")
        extra = event.extra(PEER, **fields) if event.is_of_peer else event.extra(**fields)
        assert flaws(event.message, extra) == []
        assert extra["MESSAGE_ID"] == event.message_id


def test_what_is_missing_unknown_or_worded_otherwise_is_a_flaw():
    event = audit.SIGNED_OUT
    assert flaws("signed off", event.extra(ACCOUNT="a", WHY="b")) == [
        "signed-out: says 'signed off'",
        "signed-out: lacks HOST",
        "signed-out: has WHY",
    ]
    denied = flaws(audit.PEER_DENIED.message, audit.PEER_DENIED.extra(REASON="x", COUNT=1))
    assert denied == [f"peer-denied: lacks {name}" for name in sorted(PEER_FIELDS)]


def test_other_records_are_none_of_our_business():
    assert flaws("starting", {"CONFINEMENT": "x"}) == []
    assert flaws("starting", {"MESSAGE_ID": "ab" * 16}) == []
