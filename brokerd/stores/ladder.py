"""Which store a login goes to: an explicit choice, else the Secret Service, else nowhere.

`auto` never picks file or memory: a login that silently landed in a plain file would be a
downgrade that nobody chose. The Secret Service comes as a factory, called when it is first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from brokerd.core.given import SOURCES
from brokerd.errors import BrokerError, ErrorClass, Failure, PermanentError
from brokerd.ports import LoginStore
from brokerd.stores.given import GivenStore


if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["KINDS", "CheckedStore", "LoginStores"]

KINDS = ("secret-service", "file", "memory")
"""What `--store` and `[store] kind` may name besides `auto`."""
CHOICES = "Choose where to keep it: copilot-cred login --store file|memory"


class CheckedStore(LoginStore, Protocol):
    """A store that can say beforehand whether a login could be kept."""

    async def check(self) -> None:
        """Raise what `save` would raise now; asked before the user is sent to the browser."""
        ...


class LoginStores:
    """All stores of this daemon, each made when first asked for."""

    def __init__(
        self,
        *,
        file: CheckedStore,
        memory: CheckedStore,
        secret_service: Callable[[], CheckedStore],
        default: str = "auto",
    ) -> None:
        """`default` is `[store] kind` of the configuration."""
        self._stores = {"file": file, "memory": memory}
        self._given = {source: GivenStore(source) for source in SOURCES}
        """Never chosen: what rests there came by itself."""
        self._secret_service = secret_service
        self.default = default

    def get(self, kind: str) -> LoginStore:
        """Return the store of that kind; PermanentError when there is none such."""
        return next((store for store in self._given.values() if store.kind == kind), None) or (
            self._get(kind)
        )

    async def choose(self, kind: str | None = None) -> LoginStore:
        """Return the store for a new login, checked to be usable at this moment.

        `None` and `auto` mean the configured kind, then the Secret Service. Raises what is in
        the way: class LOCKED, STORE_UNAVAILABLE or TEMPORARY, with a hint naming the choices.
        """
        asked = self.default if kind in (None, "auto") else kind
        store = self._get("secret-service" if asked in (None, "auto") else asked)
        try:
            await store.check()
        except BrokerError as error:
            unavailable = error.failure.error_class is ErrorClass.STORE_UNAVAILABLE
            if store.kind != "secret-service" or not unavailable:
                raise  # its own hint is the better one
            failure = Failure(
                ErrorClass.STORE_UNAVAILABLE,
                "no_store",
                f"there is no place to keep the login: {error.failure.message}",
                CHOICES,
            )
            raise PermanentError(failure) from error
        return store

    def _get(self, kind: str) -> CheckedStore:
        if kind == "secret-service" and kind not in self._stores:
            self._stores[kind] = self._secret_service()
        if kind in self._stores:
            return self._stores[kind]
        if kind == "systemd-credential":
            text = "this version cannot keep logins in systemd credentials"
            raise PermanentError(
                Failure(ErrorClass.STORE_UNAVAILABLE, "store_unsupported", text, CHOICES)
            )
        text = f"there is no store named {kind!r}, only {', '.join(KINDS)}"
        raise PermanentError(Failure(ErrorClass.USAGE, "unknown_store", text, CHOICES))
