"""The audit log as tests read it: what was written down, in order, and whether it is well-formed."""

import contextlib
import logging

from brokerd.core.audit import BY_MESSAGE_ID, flaws


class AuditTrail(logging.Handler):
    """Collects the records of the audit log; `flaws` is what is wrong with them."""

    def __init__(self):
        super().__init__()
        self.entries = []
        """(name, fields without MESSAGE_ID), one a record."""
        self.flaws = []

    def emit(self, record):
        fields = {name: value for name, value in vars(record).items() if name.isupper()}
        event = BY_MESSAGE_ID.get(str(fields.get("MESSAGE_ID")))
        if event is not None:
            self.flaws += flaws(record.getMessage(), fields)
            del fields["MESSAGE_ID"]
            self.entries.append((event.name, fields))

    def names(self):
        return [name for name, _ in self.entries]

    def of(self, name):
        """The fields of each record of one kind."""
        return [fields for found, fields in self.entries if found == name]


@contextlib.contextmanager
def listening():
    """Hear the daemon's records, also where nobody asked for information."""
    log, trail = logging.getLogger("brokerd"), AuditTrail()
    before = log.level
    log.addHandler(trail)
    trail.setLevel(logging.INFO)
    log.setLevel(min(before or logging.INFO, logging.INFO))
    try:
        yield trail
    finally:
        log.setLevel(before)
        log.removeHandler(trail)
