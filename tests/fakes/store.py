"""A store and an index that outlive brokers, and fail on request."""

import asyncio

from brokerd.errors import ErrorClass, Failure, PermanentError
from fakes.github import no_checkpoint


METHODS = ("save", "save again", "load", "delete", "save_pat", "load_pat", "delete_pat")


class FakeStore:
    """ports.LoginStore; `faults[method]` are raised first.

    Saving what is kept already is called "save again".
    """

    kind = "memory"

    def __init__(self, checkpoint=no_checkpoint):
        self.items = {}
        self.pats = {}
        self.faults = {method: [] for method in METHODS}
        self.calls = []
        self.checkpoint = checkpoint

    async def _called(self, method):
        self.calls.append(method)
        await self.checkpoint(f"{method} asked")
        await asyncio.sleep(0)
        fault = self.faults[method].pop(0) if self.faults[method] else None
        if fault is not None:
            raise fault

    async def save(self, login):
        is_kept = self.items.get(login.key) == login
        await self._called("save again" if is_kept else "save")
        self.items[login.key] = login
        await self.checkpoint("login written again" if is_kept else "login written")

    async def load(self, key):
        await self._called("load")
        return self.items.get(key)

    async def delete(self, key):
        await self._called("delete")
        self.items.pop(key, None)

    async def keys(self):
        return list(self.items)

    async def save_pat(self, key, pat):
        await self._called("save_pat")
        self.pats[key] = pat

    async def load_pat(self, key):
        await self._called("load_pat")
        return self.pats.get(key)

    async def delete_pat(self, key):
        await self._called("delete_pat")
        self.pats.pop(key, None)


class FakeStores:
    """ports.LoginStores over one store."""

    def __init__(self, store=None):
        self.store = store or FakeStore()
        self.absent = False

    async def choose(self, kind):
        if self.absent:
            raise PermanentError(
                Failure(
                    ErrorClass.STORE_UNAVAILABLE, "no_store", "there is no place", "Choose one"
                )
            )
        return self.store

    def get(self, kind):
        return self.store


class FakeIndex:
    """ports.AccountIndex."""

    def __init__(self):
        self._entries = {}
        self.default = None

    def load(self):
        pass

    def entries(self):
        return dict(self._entries)

    def put(self, name, entry):
        self._entries[name] = entry

    def remove(self, name):
        self._entries.pop(name, None)
        if self.default == name:
            self.default = None
