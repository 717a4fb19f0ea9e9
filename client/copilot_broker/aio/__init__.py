"""The asyncio client: the same names as the blocking one, many calls at once on one connection.

Belongs to the event loop it was first used in. A call that is cancelled leaves the connection
whole: its answer is dropped when it comes. Each stream and each completion has a connection of its
own; cancelling the task that waits for one closes that, and so cuts upstream.
"""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from copilot_broker import calls
from copilot_broker.aio.link import Link
from copilot_broker.aio.streams import AsyncCompletionStream, AsyncStream
from copilot_broker.calls.completion import Body, Completion, body_of
from copilot_broker.calls.models import ModelList
from copilot_broker.errors import CopilotBrokerError
from copilot_broker.tokens import Token
from copilot_broker.wire.address import BUSY_PAUSE, NoBroker, connect_once
from copilot_broker.wire.limits import REQUESTS_IN_FLIGHT


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["AsyncClient", "AsyncCompletionStream", "AsyncStream"]


class AsyncClient:
    """Ask the broker. All methods raise the exceptions of `copilot_broker.errors`."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        """Nothing is opened yet; the arguments are those of `Client`."""
        self._path = path
        self._timeout = timeout
        self._name = name
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._room = asyncio.Semaphore(REQUESTS_IN_FLIGHT - 1)
        self._apart: weakref.WeakSet[AsyncStream | Link] = weakref.WeakSet()

    # -- what can be asked --------------------------------------------------------------------

    async def token(
        self, min_valid: float = 60.0, account: str | None = None, reject: str | None = None
    ) -> Token:
        """Get a token that lives `min_valid` seconds more; see `Client.token`."""
        return Token.from_result(
            await self.call("token.get", **calls.token_params(min_valid, account, reject))
        )

    async def complete(
        self,
        body: Body,
        *,
        path: str = "/chat/completions",
        account: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the default depends on what is asked
    ) -> Completion:
        """Ask GitHub Copilot and wait for the whole answer; see `Client.complete`."""
        params = calls.completion_params(body_of(body), path, account, headers)
        link, result = await self._ask_apart(
            "completion.create", params, self._patience(timeout, calls.JSON_TIMEOUT)
        )
        await _close(link)
        return Completion.from_result(result)

    def stream(
        self,
        body: Body,
        *,
        path: str = "/chat/completions",
        account: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> AsyncCompletionStream:
        """Ask GitHub Copilot for an answer that comes in pieces; see `Client.stream`.

        It begins when it is awaited, entered or first iterated.
        """
        params = calls.completion_params(body_of(body), path, account, headers) | {"stream": True}
        patience = self._patience(timeout, calls.FIRST_BYTE_TIMEOUT)
        begin = partial(self._begin_stream, "completion.create", params, patience)
        stream = AsyncCompletionStream(begin)
        self._apart.add(stream)
        return stream

    async def models(self, account: str | None = None) -> list[dict[str, Any]]:
        """List the account's models: GitHub's own entries, untouched."""
        return list((await self.model_list(account)).models)

    async def model_list(self, account: str | None = None, fresh: bool = False) -> ModelList:
        """List the account's models, and tell how old the list is.

        The broker keeps it for ten minutes; `fresh` has it ask GitHub anew, unless it did within
        ten seconds.
        """
        return ModelList.from_result(
            await self.call("models.list", account=account, fresh=fresh or None)
        )

    async def enable_model(self, model: str, account: str | None = None) -> str:
        """Accept a model's terms in the person's name; return the policy's state, `enabled`."""
        result = await self.call("models.enable", model=model, account=account)
        return calls.named_text(result, "state", "models.enable")

    async def status(self) -> dict[str, Any]:
        """Tell how the broker is: version, accounts, store, one line for people."""
        return await self._map("broker.status")

    async def refresh(self, account: str | None = None) -> dict[str, Any]:
        """Fetch a new token now; the result is `token.get`'s without the token."""
        return await self._map("broker.refresh", account=account)

    async def accounts(self) -> dict[str, Any]:
        """`{"accounts": [...], "default": name or None}`."""
        return await self._map("account.list")

    async def use(self, account: str) -> None:
        """Make an account the default one."""
        await self.call("account.use", account=account)

    async def logout(self, account: str | None = None, revoke: bool = False) -> bool:
        """Sign out and forget the login; return whether GitHub has revoked it.

        With `revoke` GitHub kills it first, for every tool that holds it; where it does not, that
        is raised, and the login stays.
        """
        result = await self._map("account.logout", account=account, revoke=revoke or None)
        return bool(result.get("revoked"))

    async def lock(self, passphrase: str | None = None) -> bool:
        """Have the broker give nobody anything, at once; return whether it did until now.

        With a passphrase only that unlocks it. A lock that there is already stays as it is.
        """
        result = await self._map("broker.lock", passphrase=passphrase)
        return bool(result.get("changed"))

    async def unlock(self, passphrase: str | None = None) -> bool:
        """End the lock; return whether there was one until now.

        Raises Denied `passphrase_required`, or `wrong_passphrase` after up to ten seconds: without
        a timeout of the client's own it waits fifteen, and it keeps no other call waiting.
        """
        params = calls.without_none(passphrase=passphrase)
        patience = calls.Patience.for_unlock(self._timeout)
        link, result = await self._ask_apart("broker.unlock", params, patience)
        await _close(link)
        return bool(calls.map_of(result, "broker.unlock").get("changed"))

    async def grants(self) -> dict[str, Any]:
        """`{"rules": [...], "listeners": [names], "connections": n}`: what is in force."""
        return await self._map("grant.list")

    async def explain_grant(
        self,
        pid: int | None = None,
        *,
        unit: str | None = None,
        label: str | None = None,
        sandbox: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        listener: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Tell what a process may do on a listener, and by which rules.

        Without arguments it is about this very connection, which anybody may ask. Else about the
        process `pid`, or about one that would be as the others say. The result has `admitted`,
        `scope`, `models`, `accounts`, `requests_per_minute`, `peer`, `listener` and `steps`; for
        who is not admitted also `error`.
        """
        params = {"pid": pid, "unit": unit, "label": label, "sandbox": sandbox}
        params |= {"uid": uid, "gid": gid, "listener": listener, "key": key}
        return await self._map("grant.explain", **params)

    async def doctor(self) -> dict[str, Any]:
        """Have the broker examine itself: `{"checks": [{"name", "verdict", "told", "mend"}]}`.

        Verdicts are `ok`, `warning` and `error`; `mend` ends in a command, or is empty.
        """
        return await self._map("broker.doctor")

    async def quota(
        self,
        account: str | None = None,
        fresh: bool = False,
        pat: str | None = None,
        tier: str | None = None,
    ) -> dict[str, Any]:
        """Tell what is left of an account's plan, who says so, and who did not answer.

        The broker keeps it for five minutes; `fresh` has it ask GitHub anew, unless it did within
        ten seconds. `pat` is a fine-grained token that may read the plan, for this call only,
        where the account keeps none of its own; `tier` names the plan where nobody else does.
        """
        given = {"account": account, "fresh": fresh or None, "pat": pat, "tier": tier}
        return await self._map("quota.get", **given)

    async def set_pat(self, pat: str, account: str | None = None) -> dict[str, Any]:
        """Keep a fine-grained token that may read the plan, beside the account's login."""
        return await self._map("quota.set_pat", pat=pat, account=account)

    async def forget_pat(self, account: str | None = None) -> dict[str, Any]:
        """Forget the token that `set_pat` has kept."""
        return await self._map("quota.forget_pat", account=account)

    async def usage_report(
        self,
        since: float | None = None,
        until: float | None = None,
        by: Sequence[str] | None = None,
        account: str | None = None,
    ) -> dict[str, Any]:
        """Tell who has used how much: `rows` of sums by what `by` names.

        `since` and `until` are Unix seconds, of which the whole day (UTC) is told; without them
        it is the last seven days. `by` names some of `day`, `client`, `account` and `model`.
        """
        params = calls.usage_params(since, until, by, account)
        return await self._map("usage.report", **params)

    async def create_key(
        self,
        name: str,
        *,
        models: Sequence[str] | None = None,
        account: str | None = None,
        requests_per_minute: int | None = None,
        budget: int | None = None,
        expires_in: float | None = None,
    ) -> dict[str, Any]:
        """Make a key for the HTTP door: the result has its text as `key`, this once.

        `models` are patterns, `account` the only one it may use, `budget` tokens a day (UTC),
        `expires_in` seconds. Raises UsageError `key_exists`.
        """
        params = calls.key_params(
            name=name,
            models=models,
            account=account,
            requests_per_minute=requests_per_minute,
            budget=budget,
            expires_in=expires_in,
        )
        return await self._map("key.create", **params)

    async def keys(self) -> list[dict[str, Any]]:
        """List the keys of the HTTP door: limits, and `spent_today`; never a key itself.

        Those of runs and minted ones have a `kind` besides.
        """
        return calls.maps_of(await self.call("key.list"), "keys", "key.list")

    async def lease_key(
        self,
        label: str,
        *,
        models: Sequence[str] | None = None,
        account: str | None = None,
        requests_per_minute: int | None = None,
        budget: int | None = None,
    ) -> dict[str, Any]:
        """Have this process served by HTTP until it ends: `key` and `address` in the result.

        The address is its own, `127.0.0.1:PORT`; the key is good there and nowhere else. Both
        stay those of the process through execve(2). `label` says what it is to be called in
        lists. Raises LoginRequired, Locked, Denied `process_unknown`, Temporary `too_many_runs`.
        """
        params = calls.key_params(
            label=label,
            models=models,
            account=account,
            requests_per_minute=requests_per_minute,
            budget=budget,
        )
        return await self._map("key.lease", **params)

    async def mint_key(
        self,
        label: str,
        models: Sequence[str],
        *,
        expires_in: float,
        account: str | None = None,
    ) -> dict[str, Any]:
        """Return a key for the HTTP door that holds `expires_in` seconds, for these models only.

        Whoever asks the same gets the same `key` while more than half of its life is left; it
        ends with the broker at the latest. Raises LoginRequired, Locked, Temporary
        `too_many_minted`.
        """
        params = calls.key_params(
            label=label, models=models, account=account, expires_in=expires_in
        )
        return await self._map("key.mint", **params)

    async def revoke_key(self, name: str) -> dict[str, Any]:
        """End a key for good; `connections` in the result says how many used it just now.

        Raises UsageError `key_not_found`.
        """
        return await self._map("key.revoke", name=name)

    async def hello(self) -> dict[str, Any]:
        """Tell name, version, features and what we may do."""
        return await self._map("broker.hello", **calls.hello_params(self._name))

    def watch(self, account: str | None = None) -> AsyncStream:
        """Follow an account: its full state at once, then each change, as maps."""
        return self.open_stream("token.watch", account=account)

    def login(self, account: str | None = None, **options: Any) -> AsyncStream:
        """Sign in: maps with the user code, progress and, at last, the account."""
        return self.open_stream("account.login", account=account, **options)

    # -- how ----------------------------------------------------------------------------------

    async def call(self, method: str, **params: Any) -> Any:
        """Ask and return the result; parameters that are None are left out."""
        given = calls.without_none(**params)
        timeout = self._call_timeout
        self._notice_fork()
        tries = 0
        try:
            async with asyncio.timeout(timeout), self._room:
                while True:
                    tries += 1
                    try:
                        link = await self._usable_link()
                        return calls.result_of(await link.ask(method, given))
                    except CopilotBrokerError as error:
                        if not calls.may_repeat(method, error, tries):
                            raise
                        if self._link is not None and error.code == "shutting_down":
                            self._link.abort()
        except TimeoutError:
            raise calls.timed_out(timeout) from None

    def open_stream(self, method: str, **params: Any) -> AsyncStream:
        """Ask for a stream, on a connection of its own, when it is first iterated."""
        timeout = self._call_timeout
        patience = calls.Patience(timeout, timeout, greet=False)
        given = calls.without_none(**params)
        stream = AsyncStream(partial(self._begin_stream, method, given, patience))
        self._apart.add(stream)
        return stream

    async def aclose(self) -> None:
        """Close all connections and streams; the client may be used again."""
        self._notice_fork()
        for what in list(self._apart):
            if isinstance(what, AsyncStream):
                await what.aclose()
            else:  # another task waits there for its answer
                await _close(what)
        link, self._link = self._link, None
        if link is not None:
            await _close(link)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _map(self, method: str, **params: Any) -> dict[str, Any]:
        return calls.map_of(await self.call(method, **params), method)

    async def _usable_link(self) -> Link:
        async with self._connecting:
            if self._link is None or self._link.lost is not None:
                self._link = None
                self._link = await self._connect(greet=False)
            return self._link

    async def _connect(self, *, greet: bool) -> Link:
        """Connect; a full queue is waited for until the caller's deadline."""
        path = calls.address(self._path)
        while True:
            try:
                raw = connect_once(path)
                break
            except NoBroker as found:
                raise calls.no_broker(found) from None
            except BlockingIOError:
                await asyncio.sleep(BUSY_PAUSE)
        sock = socket.socket(fileno=raw.detach())
        loop = asyncio.get_running_loop()
        try:
            _, link = await loop.create_unix_connection(
                lambda: Link(self._name, greet=greet), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        return link

    async def _begin_stream(
        self, method: str, params: dict[str, Any], patience: calls.Patience
    ) -> tuple[Link, dict[str, Any]]:
        link, result = await self._ask_apart(method, params, patience)
        try:
            return link, calls.checked_stream(method, result)
        except BaseException:
            await _close(link)
            raise

    async def _ask_apart(
        self, method: str, params: dict[str, Any], patience: calls.Patience
    ) -> tuple[Link, Any]:
        """Ask on a new connection, once; return that and the result."""
        begun = asyncio.get_running_loop().time()
        first = begun + patience.broker
        self._notice_fork()
        link = None
        try:
            async with asyncio.timeout_at(first):
                link = await self._connect(greet=patience.greet)
            self._apart.add(link)
            async with asyncio.timeout_at(begun + patience.answer):
                answer = await link.ask(method, params, first)
            self._apart.discard(link)
            return link, calls.result_of(answer)
        except BaseException as error:
            if link is not None:
                await _close(link)
            if isinstance(error, TimeoutError):
                raise patience.exhausted(link is not None and link.answered) from None
            raise

    @property
    def _call_timeout(self) -> float:
        return calls.DEFAULT_TIMEOUT if self._timeout is None else self._timeout

    def _patience(self, timeout: float | None, usual: float) -> calls.Patience:
        given = self._timeout if timeout is None else timeout
        return calls.Patience.for_completion(given, usual)

    def _notice_fork(self) -> None:
        """After a fork leave connections, and locks held by tasks of its loop, to the parent."""
        if self._pid != os.getpid():
            self._start_afresh()


async def _close(link: Link) -> None:
    link.abort()
    await asyncio.shield(link.closed)
