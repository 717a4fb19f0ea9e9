"""Plain counters of the HTTP door: a few dict entries for each request, and nothing else.

Whatever a caller may think up (models, accounts, names of programs) is bounded before it becomes
a label: each combination of labels is a time series that somebody has to store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from brokerd.core.peer import Peer
    from brokerd.core.usage_tail import Usage


__all__ = ["NONE", "OTHER", "Counters", "Histogram", "client_of"]

OTHER: Final = "other"
"""Label of everything beyond the bounds."""

NONE: Final = "none"
"""Label of what was not named, or is not known."""

MAX_CLIENTS: Final = 50
"""A machine has a dozen tools; a program can give itself any name (prctl(2), PR_SET_NAME)."""

MAX_MODELS: Final = 100
"""Copilot lists some thirty, and has a few more for fill-in-the-middle."""

MAX_ACCOUNTS: Final = 20

MAX_CODES: Final = 100
"""Codes of errors; upstream's are an open set."""

HEAD_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds to the head of an answer."""

WHOLE_BUCKETS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds to its end; agents' answers take minutes."""


class Histogram:
    """How many took how long."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bound, each alone; the last for what took longer."""
        self.seconds = 0.0
        """All together."""

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds


class _Names:
    """Names that are labels: so many, and no more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or what stands for it."""
        if name in self._known:
            return name
        if not name:
            return NONE
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


class Counters:
    """Of all completions of the door."""

    def __init__(self, models: Callable[[str], Iterable[Mapping[str, Any]]]) -> None:
        """`models` gives what is known of an account's list (`Proxy.peek_models`)."""
        self.requests: Counter[tuple[str, str, str, str, str]] = Counter()
        """(endpoint, class of the status, account, model, client) → how many are over."""
        self.tokens: Counter[tuple[str, str, str, str]] = Counter()
        """(`prompt`, `completion` or `cached`, account, model, client) → tokens."""
        self.errors: Counter[tuple[str, str]] = Counter()
        """(endpoint, code) → how many."""
        self.heads: dict[str, Histogram] = {}
        """Endpoint → seconds to the head of Copilot's answer."""
        self.wholes: dict[str, Histogram] = {}
        """Endpoint → seconds to the end."""
        self.in_flight = 0
        self._list_of = models
        self._whose: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        """Account, model and client → their labels; bounded as these are."""
        self._models = _Names(MAX_MODELS)
        self._real: set[tuple[str, str]] = set()
        """Account and model that were found in its list, or answered."""
        self._accounts = _Names(MAX_ACCOUNTS)
        self._clients = _Names(MAX_CLIENTS)
        self._codes = _Names(MAX_CODES)

    def begun(self) -> None:
        """Count a request that begins; `ended` follows, whatever becomes of it."""
        self.in_flight += 1

    def ended(
        self,
        endpoint: str,
        status: int,
        *,
        account: str = "",
        model: str = "",
        client: str = "",
        code: str = "",
        seconds: float = 0.0,
        head_seconds: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        """Count one that is over. `endpoint` is one of the door's own, never a caller's word.

        `status` 0: the client left before there was one. `client` is `client_of` its peer.
        """
        self.in_flight -= 1
        place = account, model, client
        whose = self._whose.get(place)
        if whose is None:
            whose = self._labels(account, model, client, status)
        self.requests[endpoint, f"{status // 100}xx" if status else "left", *whose] += 1
        if code:
            self.errors[endpoint, self._codes.label(code)] += 1
        if head_seconds is not None:
            heads = self.heads.get(endpoint) or _of(self.heads, endpoint, HEAD_BUCKETS)
            heads.add(head_seconds)
        if status:
            wholes = self.wholes.get(endpoint) or _of(self.wholes, endpoint, WHOLE_BUCKETS)
            wholes.add(seconds)
        if usage is not None:
            tokens = self.tokens
            if usage.prompt:
                tokens["prompt", *whose] += usage.prompt
            if usage.completion:
                tokens["completion", *whose] += usage.completion
            if usage.cached:
                tokens["cached", *whose] += usage.cached

    def _labels(self, account: str, model: str, client: str, status: int) -> tuple[str, str, str]:
        whose = (
            self._accounts.label(account),
            self._model(account, model, status),
            self._clients.label(client),
        )
        if OTHER not in whose:  # what stands for more than one may have a name of its own later
            self._whose[account, model, client] = whose
        return whose

    def _model(self, account: str, model: str, status: int) -> str:
        """Return the label of a model: a name of its own for those that there are."""
        if not model:
            return NONE
        place = account, model
        if place not in self._real:
            is_real = 200 <= status < 300 or any(
                each.get("id") == model for each in self._list_of(account)
            )
            if not is_real or len(self._real) >= MAX_MODELS * MAX_ACCOUNTS:
                return OTHER
            self._real.add(place)
        return self._models.label(model)


def client_of(peer: Peer) -> str:
    """Return what a client is called: by its key, else its systemd unit, else its program."""
    return peer.key or peer.unit or peer.comm


def _of(histograms: dict[str, Histogram], endpoint: str, bounds: tuple[float, ...]) -> Histogram:
    histograms[endpoint] = new = Histogram(bounds)
    return new
