"""A key store that outlives gates, and fails on request."""

from brokerd.core.keys import KeptKeys


class FakeKeyStore:
    """ports.KeyStore; `faults` are raised first, one a call."""

    def __init__(self, kept=None):
        self.kept = kept or KeptKeys()
        self.faults = []
        self.saves = 0

    def load(self):
        self._fail()
        return self.kept

    def save(self, kept):
        self._fail()
        self.saves += 1
        self.kept = KeptKeys(
            tuple(kept.keys), dict(kept.spent), dict(kept.revoked), dict(kept.of_rules)
        )

    def _fail(self):
        if self.faults:
            raise self.faults.pop(0)
