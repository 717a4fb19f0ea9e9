"""The asyncio client: the same names as the blocking one, many calls at once on one connection.

Belongs to the event loop it was first used in. A call that is cancelled leaves the connection
whole: its answer is dropped when it comes.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import TYPE_CHECKING, Any, Self

from copilot_broker import calls
from copilot_broker.errors import CopilotBrokerError, InternalError, UsageError, error_from
from copilot_broker.tokens import Token
from copilot_broker.wire.address import BUSY_PAUSE, NoBroker, connect_once
from copilot_broker.wire.connection import (
    Connection,
    ConnectionEnded,
    Event,
    ResponseReceived,
    Role,
    StreamData,
    StreamEnd,
)
from copilot_broker.wire.errors import ProtocolError
from copilot_broker.wire.limits import REQUESTS_IN_FLIGHT


if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator


__all__ = ["AsyncClient", "AsyncStream"]


class _Link(asyncio.Protocol):
    """Moves bytes between a transport and the protocol, answers to futures, chunks to a queue.

    The queue is bounded by the credit that was granted.
    """

    def __init__(self, name: str | None) -> None:
        self.wire = Connection(Role.CLIENT)
        self.chunks: asyncio.Queue[StreamData | StreamEnd | CopilotBrokerError] = asyncio.Queue()
        self.lost: CopilotBrokerError | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._answers: dict[int, asyncio.Future[ResponseReceived]] = {}
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        if name is not None:  # goes out with the first request; its answer changes nothing
            self.wire.send_request("broker.hello", calls.hello_params(name))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._feed(data)

    def eof_received(self) -> None:
        self._feed(b"")

    def connection_lost(self, _: Exception | None) -> None:
        self._fail(calls.ConnectionLost())
        if not self.closed.done():
            self.closed.set_result(None)

    async def ask(self, method: str, params: dict[str, Any]) -> ResponseReceived:
        """Send and wait. Raises CopilotBrokerError when the connection breaks."""
        if self.lost is not None:
            raise calls.ConnectionLost
        try:
            msgid = self.wire.send_request(method, params)
        except ProtocolError as error:
            raise UsageError(error.code, error.message) from None
        answer: asyncio.Future[ResponseReceived] = asyncio.get_running_loop().create_future()
        self._answers[msgid] = answer
        self.flush()
        try:
            return await answer
        finally:
            self._answers.pop(msgid, None)

    def flush(self) -> None:
        """Write what the protocol wants written."""
        if self._transport is not None and self.lost is None:
            self._transport.write(self.wire.data_to_send())

    def abort(self) -> None:
        """Hang up now."""
        self._fail(calls.ConnectionLost())

    def _feed(self, data: bytes) -> None:
        try:
            self.wire.receive_data(data, asyncio.get_running_loop().time())
            while self.lost is None and (event := self.wire.next_event()) is not None:
                self._take(event)
        except ProtocolError as error:
            self._fail(calls.protocol_broken(error))
        self._arm()

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            answer = self._answers.get(event.msgid)
            if answer is not None and not answer.done():
                answer.set_result(event)
        elif isinstance(event, StreamData | StreamEnd):
            self.chunks.put_nowait(event)
        elif isinstance(event, ConnectionEnded):
            broken = event.error is not None and event.error.code != "cut_off"
            self._fail(
                calls.protocol_broken(event.error)
                if broken and event.error is not None
                else calls.ConnectionLost()
            )

    def _arm(self) -> None:
        """Follow the protocol's deadline for half a message."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.wire.deadline()
        if at is not None and self.lost is None:
            self._timer = asyncio.get_running_loop().call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        try:
            self.wire.handle_timer(asyncio.get_running_loop().time())
        except ProtocolError as error:
            self._fail(calls.protocol_broken(error))

    def _fail(self, error: CopilotBrokerError) -> None:
        if self.lost is not None:
            return
        self.lost = error
        if self._timer is not None:
            self._timer.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        self.chunks.put_nowait(error)
        if self._transport is not None:
            self._transport.abort()


class AsyncStream:
    """Chunks as they come, for `async for`; it begins with the first of them."""

    def __init__(self, client: AsyncClient, method: str, params: dict[str, Any]) -> None:
        self.status = 0
        """Upstream's HTTP status for a completion, else 0; known once it has begun."""
        self.headers: dict[str, Any] = {}
        self._client = client
        self._method = method
        self._params = params
        self._link: _Link | None = None
        self._stream = 0
        self._closed = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        try:
            link = await self.begin()
            found = await link.chunks.get()
            if isinstance(found, StreamData):
                link.wire.grant_credit(self._stream, found.cost)
                link.flush()
                return found.chunk
        except BaseException:
            await self.aclose()
            raise
        closed = self._closed
        await self.aclose()
        if isinstance(found, StreamEnd):
            if found.error is not None:
                raise error_from(found.error)
        elif not closed:
            raise found
        raise StopAsyncIteration

    async def begin(self) -> _Link:
        """Connect and ask, once. Raises CopilotBrokerError."""
        if self._link is None:
            self._link, result = await self._client._begin_stream(self._method, self._params)  # noqa: SLF001  (one idea in two classes)
            self._stream = result["stream"]
            self.status, self.headers = result.get("status", 0), result.get("headers") or {}
        return self._link

    async def aclose(self) -> None:
        """Stop it; the broker sees the connection end. Closing twice is no error."""
        self._closed = True
        if self._link is not None:
            self._link.abort()
            await asyncio.shield(self._link.closed)

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncClient:
    """Ask the broker. All methods raise the exceptions of `copilot_broker.errors`."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = calls.DEFAULT_TIMEOUT,
        name: str | None = None,
    ) -> None:
        """Nothing is opened yet; the arguments are those of `Client`."""
        self._path = path
        self._timeout = timeout
        self._name = name
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._room = asyncio.Semaphore(REQUESTS_IN_FLIGHT - 1)
        self._streams: weakref.WeakSet[AsyncStream] = weakref.WeakSet()

    # -- what can be asked --------------------------------------------------------------------

    async def token(
        self, min_valid: float = 60.0, account: str | None = None, reject: str | None = None
    ) -> Token:
        """Get a token that lives `min_valid` seconds more; see `Client.token`."""
        return Token.from_result(
            await self.call("token.get", **calls.token_params(min_valid, account, reject))
        )

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

    async def logout(self, account: str | None = None) -> None:
        """Sign out and forget the login."""
        await self.call("account.logout", account=account)

    async def hello(self) -> dict[str, Any]:
        """Tell name, version, features and what we may do."""
        return await self._map("broker.hello", **calls.hello_params(self._name))

    def watch(self, account: str | None = None) -> AsyncStream:
        """Follow an account: its full state at once, then each change, as maps."""
        return self.stream("token.watch", account=account)

    def login(self, account: str | None = None, **options: Any) -> AsyncStream:
        """Sign in: maps with the user code, progress and, at last, the account."""
        return self.stream("account.login", account=account, **options)

    # -- how ----------------------------------------------------------------------------------

    async def call(self, method: str, **params: Any) -> Any:
        """Ask and return the result; parameters that are None are left out."""
        given = calls.without_none(**params)
        tries = 0
        try:
            async with asyncio.timeout(self._timeout), self._room:
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
            raise calls.timed_out(self._timeout) from None

    def stream(self, method: str, **params: Any) -> AsyncStream:
        """Ask for a stream, on a connection of its own, when it is first iterated."""
        stream = AsyncStream(self, method, calls.without_none(**params))
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Close all connections and streams; the client may be used again."""
        for stream in list(self._streams):
            await stream.aclose()
        link, self._link = self._link, None
        if link is not None:
            link.abort()
            await asyncio.shield(link.closed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _map(self, method: str, **params: Any) -> dict[str, Any]:
        result = await self.call(method, **params)
        if not isinstance(result, dict):
            raise InternalError("bad_answer", f"the answer to {method} is no map")
        return result

    async def _usable_link(self) -> _Link:
        async with self._connecting:
            if self._link is None or self._link.lost is not None:
                self._link = None
                self._link = await self._connect()
            return self._link

    async def _connect(self) -> _Link:
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
            _, link = await loop.create_unix_connection(lambda: _Link(self._name), sock=sock)
        except BaseException:
            sock.close()
            raise
        return link

    async def _begin_stream(
        self, method: str, params: dict[str, Any]
    ) -> tuple[_Link, dict[str, Any]]:
        link = None
        try:
            async with asyncio.timeout(self._timeout):
                link = await self._connect()
                result = calls.stream_result_of(method, await link.ask(method, params))
        except BaseException as error:
            if link is not None:
                link.abort()
                await asyncio.shield(link.closed)
            if isinstance(error, TimeoutError):
                raise calls.timed_out(self._timeout) from None
            raise
        return link, result
