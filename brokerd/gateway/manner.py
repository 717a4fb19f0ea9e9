"""What the configuration of the moment says about requests, made ready once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.repairs.asking import RequestRepairs, request_repairs


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.settings import Config


__all__ = ["Manner"]


class Manner:
    """Of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.aliases: Mapping[str, str] = config.models.aliases
        self.repairs = frozenset(name for name, is_on in config.http.repairs.items() if is_on)
        """Names of those that are switched on."""
        self._of_requests: dict[str, RequestRepairs] = {}

    def request_repairs(self, path: str) -> RequestRepairs:
        """Return those of requests to an endpoint."""
        found = self._of_requests.get(path)
        if found is None:
            found = self._of_requests[path] = request_repairs(path, self.repairs)
        return found
