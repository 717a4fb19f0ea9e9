"""Whose an account is, and the moment its name passes to somebody else.

What is known of an account (quota, refusals, cool-downs) is a person's; after another sign-in
under the same name it must not be held against the next one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.proxy.lender import Lender


__all__ = ["Whose"]


class Whose:
    """Calls `forget` with the name of an account that is somebody else's now."""

    def __init__(self, broker: Lender, forget: Callable[[str], None]) -> None:
        self._broker = broker
        self._forget = forget
        self._persons: dict[str, tuple[str, int]] = {}
        self._will_look = False
        broker.on_change(self._changed)

    def login(self, account: str) -> tuple[object, ...]:
        """Return what makes its login what it is to Copilot: the person, and the app."""
        for view in self._broker.accounts():
            if view.name == account:
                return view.host, view.user_id, view.client_id
        return ()

    def default(self) -> str | None:
        """Return the account meant by a caller that names none."""
        return next((view.name for view in self._broker.accounts() if view.default), None)

    def _changed(self) -> None:
        if not self._will_look:  # not now: the broker is in the middle of it
            self._will_look = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._will_look = False
        for view in self._broker.accounts():
            if view.user_id is None:  # signed out, or signing in
                continue
            person = view.host, view.user_id
            if self._persons.setdefault(view.name, person) != person:
                self._persons[view.name] = person
                self._forget(view.name)
