"""What all completions of the HTTP door share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.gateway.manner import Manner


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.core.settings import Config
    from brokerd.gateway.catalogue import Catalogue
    from brokerd.gateway.collected import Held
    from brokerd.gateway.keepalive import Keepalive
    from brokerd.proxy import Proxy
    from brokerd.proxy.outcome import Outcome


__all__ = ["Workshop"]


class Workshop:
    """See the module's docstring."""

    def __init__(
        self,
        proxy: Proxy,
        catalogue: Catalogue,
        keepalive: Keepalive,
        held: Held,
        *,
        config: Callable[[], Config],
        default_account: Callable[[], str],
        on_begin: Callable[[], None],
        on_end: Callable[[Outcome], None],
    ) -> None:
        """`config` is the one of the moment; `on_end` follows on each `on_begin`."""
        self.proxy = proxy
        self.catalogue = catalogue
        self.keepalive = keepalive
        self.held = held
        self._config = config
        self._manner = Manner(config())
        self.default_account = default_account
        self.on_begin = on_begin
        self.on_end = on_end

    @property
    def manner(self) -> Manner:
        """What the configuration of the moment says."""
        config = self._config()
        if config is not self._manner.config:
            self._manner = Manner(config)
        return self._manner
