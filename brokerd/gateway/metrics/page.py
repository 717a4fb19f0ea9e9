"""`GET /metrics`: what was counted, in the form that Prometheus scrapes.

`prometheus_client` only writes it down (it takes some megabytes), so it is imported when somebody
asks; without it the page says so and everything else works.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from brokerd.gateway.messages import Reply
from brokerd.gateway.metrics.counters import NONE, OTHER, Counters


if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from prometheus_client.metrics_core import Metric

    from brokerd.gate import Caller
    from brokerd.gateway.messages import Request
    from brokerd.gateway.metrics.counters import Histogram
    from brokerd.views import AccountView, PacingView


__all__ = ["Metrics", "Sources", "metrics_page"]

PREFIX: Final = "copilot_broker_"

NOT_INSTALLED: Final = (
    "metrics need the Python package prometheus_client, which is not installed. "
    "Install it: sudo apt install python3-prometheus-client\n"
)

_WHOSE: Final = ("account", "model", "client")
_PLAIN: Final = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}


@dataclass(frozen=True)
class Sources:
    """What others count: asked when the page is."""

    accounts: Callable[[], Sequence[AccountView]]
    """`Broker.accounts`."""
    pacing: Callable[[str], PacingView]
    """`Proxy.pacing`."""
    exchanges: Callable[[], Mapping[tuple[str, str], int]]
    """`Broker.exchanges`."""
    connections: Callable[[], Mapping[str, int]]
    """Listener → open connections."""


def metrics_page(request: Request, caller: Caller, counters: Counters, sources: Sources) -> Reply:
    """Write it down, of the accounts that the caller may know of; 501 where that cannot be done.

    `accept` decides between Prometheus' own text and OpenMetrics.
    """
    try:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - see above
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above
    except ImportError:
        return Reply(501, dict(_PLAIN), NOT_INSTALLED.encode())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(counters, sources, caller.may_know))
    encode, kind = choose_encoder(request.head.headers.get("accept", ""))
    return Reply(200, {**_PLAIN, "content-type": kind}, encode(registry))


class Metrics:
    """The counters together with all that is asked for when they are scraped."""

    def __init__(
        self, models: Callable[[str], Iterable[Mapping[str, Any]]], sources: Sources
    ) -> None:
        """`models` gives what is known of an account's list (`Proxy.peek_models`)."""
        self.counters = Counters(models)
        self._sources = sources

    def page(self, request: Request, caller: Caller) -> Reply:
        """`GET /metrics`; see `metrics_page`."""
        return metrics_page(request, caller, self.counters, self._sources)


class _Collector:
    """`prometheus_client`'s, of one scrape."""

    def __init__(
        self, counters: Counters, sources: Sources, may_know: Callable[[str], bool]
    ) -> None:
        self._counters = counters
        self._sources = sources
        self._may_know = may_know

    def collect(self) -> Iterator[Metric]:
        """Yield all of them."""
        from prometheus_client import metrics_core  # noqa: PLC0415 - see above

        counters = self._counters
        requests = metrics_core.CounterMetricFamily(
            f"{PREFIX}requests",
            "Requests that are over.",
            labels=("endpoint", "status", *_WHOSE),
        )
        for labels, count in counters.requests.items():
            if self._shown(labels[2]):
                requests.add_metric(labels, count)
        yield requests
        tokens = metrics_core.CounterMetricFamily(
            f"{PREFIX}tokens", "Tokens, as Copilot counted them.", labels=("kind", *_WHOSE)
        )
        for whose, count in counters.tokens.items():
            if self._shown(whose[1]):
                tokens.add_metric(whose, count)
        yield tokens
        errors = metrics_core.CounterMetricFamily(
            f"{PREFIX}errors", "Errors by their code.", labels=("endpoint", "code")
        )
        for place, count in counters.errors.items():
            errors.add_metric(place, count)
        yield errors
        for name, help_, histograms in (
            ("head_seconds", "Until the head of Copilot's answer was there.", counters.heads),
            ("request_seconds", "Until the answer's end.", counters.wholes),
        ):
            family = metrics_core.HistogramMetricFamily(
                f"{PREFIX}{name}", help_, labels=("endpoint",)
            )
            for endpoint, histogram in histograms.items():
                family.add_metric([endpoint], _buckets(histogram), histogram.seconds)
            yield family
        yield metrics_core.GaugeMetricFamily(
            f"{PREFIX}requests_in_flight", "Requests being answered.", value=counters.in_flight
        )
        yield from self._others()

    def _others(self) -> Iterator[Metric]:
        """Yield what the rest of the broker knows."""
        from prometheus_client import metrics_core  # noqa: PLC0415 - see above

        exchanges = metrics_core.CounterMetricFamily(
            f"{PREFIX}exchanges",
            'Copilot tokens asked of GitHub; code is "" or why none came.',
            labels=("account", "code"),
        )
        for (account, code), count in self._sources.exchanges().items():
            if self._may_know(account):
                exchanges.add_metric([account, code], count)
        yield exchanges
        cooldown = metrics_core.GaugeMetricFamily(
            f"{PREFIX}cooldown_seconds",
            "Until Copilot wants requests again; model is empty for all of the account's.",
            labels=("account", "model"),
        )
        circuit = metrics_core.GaugeMetricFamily(
            f"{PREFIX}circuit_open",
            "Whether Copilot is left alone, as it fails.",
            labels=["account"],
        )
        queued = metrics_core.GaugeMetricFamily(
            f"{PREFIX}requests_queued", "Requests that wait their turn.", labels=["account"]
        )
        for view in self._sources.accounts():
            if not self._may_know(view.name):
                continue
            pacing = self._sources.pacing(view.name)
            cooldown.add_metric([view.name, ""], pacing.cooldown_in or 0.0)
            for model, seconds in pacing.models.items():
                cooldown.add_metric([view.name, model], seconds)
            circuit.add_metric([view.name], float(pacing.circuit == "open"))
            queued.add_metric([view.name], pacing.queued)
        yield from (cooldown, circuit, queued)
        connections = metrics_core.GaugeMetricFamily(
            f"{PREFIX}connections", "Open connections.", labels=["listener"]
        )
        for listener, count in self._sources.connections().items():
            connections.add_metric([listener], count)
        yield connections

    def _shown(self, account: str) -> bool:
        return account in (NONE, OTHER) or self._may_know(account)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return what took at most so long, for each bound; `+Inf` for all."""
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
