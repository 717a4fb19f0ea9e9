"""What stands around the broker of `fakes.day`: it counts what is under way, and reads the log."""

import logging


__all__ = ["CANARY", "CountedCopilot", "Listening"]

CANARY = "canary-prompt"
SECRETS = ("tid=", "gho_", "ghu_", CANARY)
"""What each token begins with, and what each prompt holds."""


class CountedCopilot:
    """`ports.CopilotApi` whose open questions the day knows."""

    def __init__(self, day, inner):
        self._day, self._inner = day, inner

    async def open(self, call, still_wanted=None, on_sent=lambda: None):
        self._day.under_way += 1
        try:
            return await self._inner.open(call, still_wanted, on_sent)
        finally:
            self._day.under_way -= 1

    def begin(self, call, listener):
        counted = _CountedExchange(self._day, listener)
        counted.inner = self._inner.begin(call, counted.told)
        if counted.inner is None:
            return None
        self._day.under_way += 1
        counted.is_open = True
        return counted


class _CountedExchange:
    def __init__(self, day, listener):
        self._day, self._listener = day, listener
        self.is_open = False

    def told(self, outcome):
        self._end()
        self._listener(outcome)

    def close(self):
        self._end()
        self.inner.close()

    def _end(self):
        if self.is_open:
            self.is_open = False
            self._day.under_way -= 1


class Listening(logging.Handler):
    """Reads the daemon's log: for secrets, and for rejected tokens."""

    def __init__(self, day):
        super().__init__(logging.INFO)
        self._day = day
        self._log = logging.getLogger("brokerd")

    def __enter__(self):
        self._before = self._log.level, self._log.propagate
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._log.addHandler(self)

    def __exit__(self, *_):
        self._log.removeHandler(self)
        level, self._log.propagate = self._before
        self._log.setLevel(level)

    def emit(self, record):
        text = f"{record.getMessage()} {record.__dict__}"
        self._day.counts["log records"] += 1
        if any(secret in text for secret in SECRETS):
            self._day.fail(f"the log holds a secret: {record.getMessage()}")
        if record.levelno >= logging.ERROR:
            self._day.fail(f"the log holds a defect: {text}")
        if record.getMessage() == "token rejected":
            self._day.rejected(record.ACCOUNT)
