"""What the HTTP door has counted (`counters`), and how Prometheus reads it (`page`)."""

from __future__ import annotations

from brokerd.gateway.metrics.counters import Counters, client_of
from brokerd.gateway.metrics.page import Metrics, Sources, metrics_page


__all__ = ["Counters", "Metrics", "Sources", "client_of", "metrics_page"]
