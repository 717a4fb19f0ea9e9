"""After every test: no secret that it made stands where it does not belong, in any spelling.

Looked through are the log at debug level as the daemon's sink writes it, our own records before
that, warnings, what the test and its fixtures printed, argv and environment of every program that
was started and what that said on stderr. A test that has to show a secret says so:
`@pytest.mark.shows_secrets("why")`; the last lines of a run count and name those, and one that
shows none any more fails.

Where pytest-xdist spreads a run over processes, each of them looks through what its own tests do;
what they found out meets in the process that reports.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from canary import hearing
from canary.collecting import listen
from canary.spellings import Net


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["MARKER", "Canaries", "run_of"]

MARKER = "shows_secrets"
OUTPUT = "canaries"
"""Under this name a process of pytest-xdist hands over what it found out."""

KEPT = 16
"""Latest secrets of a module that its next test is watched for: fixtures may be shared."""

MARGIN = 60
"""Characters shown before a leak; it itself is not."""


class Canaries:
    """The plugin; `secrets` are all of the process: value → (kind, the test that made it)."""

    def __init__(self, config: pytest.Config) -> None:
        config.addinivalue_line(
            "markers", f"{MARKER}(why): a secret of this test stands where the scan would see it"
        )
        self.secrets: dict[str, tuple[str, str]] = {}
        self.exempt: dict[str, str] = {}
        self.tests = 0
        self._elsewhere = [0, 0, 0]
        self._notes: list[str] = []
        self._late: list[str] = []
        self._net = Net()
        self._told = 0
        self._nodeid = ""
        self._fresh: list[tuple[str, str]] = []
        self._latest: deque[tuple[str, str]] = deque(maxlen=KEPT)
        self._module = ""
        self._said: list[tuple[str, str]] = []
        self._ear = hearing.Ear(self.tell)

    def tell(self, where: str, text: str) -> None:
        """Have `text`, from `where`, looked through at the end of this test."""
        self._said.append((where, text))

    def note(self, text: str) -> None:
        """Have a line among the last of the run."""
        self._notes.append(text)

    @property
    def _counts(self) -> list[int]:
        """Secrets made in this process, tests that made some, characters looked through."""
        return [len(self.secrets), self.tests, self._told + self._ear.looked_through]

    def _made(self, secret: str, kind: str) -> None:
        self.secrets[secret] = (kind, self._nodeid)
        self._fresh.append((secret, kind))

    # What pytest calls.

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        logging_plugin: Any = session.config.pluginmanager.get_plugin("logging-plugin")
        if logging_plugin is not None:
            for handler in (logging_plugin.caplog_handler, logging_plugin.report_handler):
                handler.addFilter(hearing.as_if_deaf(handler))
        stop = listen(self._made)
        root = logging.getLogger()
        root.addHandler(self._ear)
        try:
            with hearing.children(self.tell):
                return (yield)
        finally:
            root.removeHandler(self._ear)
            stop()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        module = nodeid.partition("::")[0]
        if module != self._module:
            self._module = module
            self._latest.clear()
        self._nodeid = nodeid
        hearing.forget_learned()
        hearing.loud()

    def pytest_warning_recorded(self, warning_message: Any, nodeid: str) -> None:
        """Look at once: the test that gave it has been reported by now."""
        self._late += [
            f"{leak} of {nodeid}"
            for leak in self._found("a warning", str(warning_message.message))
        ]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add what another process of this run found out; one that died has told nothing."""
        told = getattr(node, "workeroutput", {}).get(OUTPUT)
        if told is None:
            return
        self._elsewhere = [sum(both) for both in zip(self._elsewhere, told["counts"], strict=True)]
        self.exempt |= told["exempt"]
        self._notes += told["notes"]
        self._late += told["late"]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._late:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output[OUTPUT] = {
                "counts": self._counts,
                "exempt": self.exempt,
                "notes": self._notes,
                "late": self._late,
            }

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: Any = yield
        if report.skipped:
            self.exempt.setdefault(item.nodeid, "")  # it may have had no time to
        if call.when == "teardown":
            for name, text in report.sections:
                if not name.startswith("Captured log"):  # raw there, by nature
                    self.tell(name, text)
            leaks = self._leaks()
            marker = item.get_closest_marker(MARKER)
            if marker is not None:
                if not leaks and item.nodeid not in self.exempt:
                    leaks = [f"it shows none: take the marker {MARKER} away"]
                else:
                    self.exempt[item.nodeid] = marker.args[0]
                    leaks = []
            if leaks:
                report.outcome = "failed"
                report.longrepr = "\n".join(["canaries:", *leaks])
        return report

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        exempt = {nodeid: why for nodeid, why in self.exempt.items() if why}
        secrets, tests, characters = map(sum, zip(self._counts, self._elsewhere, strict=True))
        terminalreporter.write_line(
            f"canaries: {secrets} secrets of {tests} tests watched for in "
            f"{characters:,} characters; {len(exempt)} tests exempt"
        )
        for why in sorted(set(exempt.values())):
            names = sorted(nodeid for nodeid, each in exempt.items() if each == why)
            terminalreporter.write_line(f"  {len(names)}, as {why}: {names[0]}")
        for text in (*self._notes, *self._late):
            terminalreporter.write_line(f"  {text}")

    # The look itself.

    def _leaks(self) -> list[str]:
        said, self._said = self._said, []
        fresh, self._fresh = self._fresh, []
        self._net = Net()
        for secret, kind in (*self._latest, *fresh):
            self._net.add(secret, kind)
        self._latest.extend(fresh)
        self.tests += bool(fresh)
        return list(dict.fromkeys(leak for each in said for leak in self._found(*each)))

    def _found(self, where: str, text: str) -> Iterator[str]:
        self._told += len(text)
        hits = self._net.find(text) if len(self._net) else []
        for hit in hits or self._net.shapes(text):
            before = text[max(0, hit.at - MARGIN) : hit.at].rpartition("\n")[2]
            yield f"{hit.kind} as {hit.spelling} in {where}, after: {before!r}"


def run_of(config: pytest.Config) -> Canaries:
    """Return the plugin of this run."""
    found = config.pluginmanager.get_plugin("canaries")
    assert isinstance(found, Canaries)
    return found
