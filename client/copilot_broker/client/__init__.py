"""The blocking client: a thin shell around `wire.Connection`, one call at a time.

One connection is kept and shared by all threads (a lock); it is opened when first needed, opened
again when the broker has restarted, and left to the parent after a fork. Each stream and each
completion has a connection of its own, so that it never delays a call.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from copilot_broker import calls
from copilot_broker.calls.completion import Body, Completion, body_of
from copilot_broker.calls.models import ModelList
from copilot_broker.client.link import Link
from copilot_broker.client.streams import CompletionStream, Stream
from copilot_broker.errors import CopilotBrokerError
from copilot_broker.tokens import Token


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from copilot_broker.wire.connection import ResponseReceived


__all__ = ["Client", "CompletionStream", "Stream"]

_S = TypeVar("_S", bound=Stream)


class Client:
    """Ask the broker. All methods raise the exceptions of `copilot_broker.errors`."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = None,
        name: str | None = None,
    ) -> None:
        """Nothing is opened yet.

        `path` is the socket's, else `$COPILOT_BROKER_SOCKET` or the runtime directory tells;
        `name` is shown in logs. `timeout` (seconds) bounds each call and a stream's beginning.
        Without it these are 5 s, but models think for minutes: a completion then has 600 s, the
        beginning of a streamed one 120 s, provided that the broker itself says hello within 5 s.
        """
        self._path = path
        self._timeout = timeout
        self._name = name
        self._link: Link | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._apart: weakref.WeakSet[Stream | Link] = weakref.WeakSet()  # streams, completions
        self._apart_lock = threading.Lock()

    # -- what can be asked --------------------------------------------------------------------

    def token(
        self, min_valid: float = 60.0, account: str | None = None, reject: str | None = None
    ) -> Token:
        """Get a token that lives `min_valid` seconds more.

        `reject` names a token (or its id) that upstream has answered with 401.
        """
        return Token.from_result(
            self.call("token.get", **calls.token_params(min_valid, account, reject))
        )

    def complete(
        self,
        body: Body,
        *,
        path: str = "/chat/completions",
        account: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Completion:
        """Ask GitHub Copilot and wait for the whole answer; any status is an answer.

        `body` is sent untouched if it is bytes, as UTF-8 if it is text, as JSON if it is a
        mapping. `headers` are the caller's own, such as `x-initiator`. `timeout` (seconds) covers
        everything; without it and the client's, see `Client`. It is never sent twice.
        """
        params = calls.completion_params(body_of(body), path, account, headers)
        link, answer = self._ask_apart(
            "completion.create", params, self._patience(timeout, calls.JSON_TIMEOUT)
        )
        link.close()
        return Completion.from_result(answer)

    def stream(
        self,
        body: Body,
        *,
        path: str = "/chat/completions",
        account: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> CompletionStream:
        """Ask GitHub Copilot, return once its answer begins; what follows has no deadline.

        The arguments are those of `complete`; `timeout` covers the beginning. That the answer
        comes in events is for the body to ask (`"stream": true`), which is sent as it is.
        """
        params = calls.completion_params(body_of(body), path, account, headers) | {"stream": True}
        patience = self._patience(timeout, calls.FIRST_BYTE_TIMEOUT)
        return self._begin(CompletionStream, "completion.create", params, patience)

    def models(self, account: str | None = None) -> list[dict[str, Any]]:
        """List the account's models: GitHub's own entries, untouched."""
        return list(self.model_list(account).models)

    def model_list(self, account: str | None = None, fresh: bool = False) -> ModelList:
        """List the account's models, and tell how old the list is.

        The broker keeps it for ten minutes; `fresh` has it ask GitHub anew, unless it did within
        ten seconds.
        """
        return ModelList.from_result(
            self.call("models.list", account=account, fresh=fresh or None)
        )

    def enable_model(self, model: str, account: str | None = None) -> str:
        """Accept a model's terms in the person's name; return the policy's state, `enabled`."""
        result = self.call("models.enable", model=model, account=account)
        return calls.named_text(result, "state", "models.enable")

    def status(self) -> dict[str, Any]:
        """Tell how the broker is: version, accounts, store, one line for people."""
        return self._map("broker.status")

    def refresh(self, account: str | None = None) -> dict[str, Any]:
        """Fetch a new token now; the result is `token.get`'s without the token."""
        return self._map("broker.refresh", account=account)

    def accounts(self) -> dict[str, Any]:
        """`{"accounts": [...], "default": name or None}`."""
        return self._map("account.list")

    def use(self, account: str) -> None:
        """Make an account the default one."""
        self.call("account.use", account=account)

    def logout(self, account: str | None = None, revoke: bool = False) -> bool:
        """Sign out and forget the login; return whether GitHub has revoked it.

        With `revoke` GitHub kills it first, for every tool that holds it; where it does not, that
        is raised, and the login stays.
        """
        result = self._map("account.logout", account=account, revoke=revoke or None)
        return bool(result.get("revoked"))

    def lock(self, passphrase: str | None = None) -> bool:
        """Have the broker give nobody anything, at once; return whether it did until now.

        With a passphrase only that unlocks it. A lock that there is already stays as it is.
        """
        result = self._map("broker.lock", passphrase=passphrase)
        return bool(result.get("changed"))

    def unlock(self, passphrase: str | None = None) -> bool:
        """End the lock; return whether there was one until now.

        Raises Denied `passphrase_required`, or `wrong_passphrase` after up to ten seconds: without
        a timeout of the client's own it waits fifteen, and it keeps no other call waiting.
        """
        params = calls.without_none(passphrase=passphrase)
        patience = calls.Patience.for_unlock(self._timeout)
        link, result = self._ask_apart("broker.unlock", params, patience)
        link.close()
        return bool(calls.map_of(result, "broker.unlock").get("changed"))

    def grants(self) -> dict[str, Any]:
        """`{"rules": [...], "listeners": [names], "connections": n}`: what is in force."""
        return self._map("grant.list")

    def explain_grant(
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
        return self._map("grant.explain", **params)

    def doctor(self) -> dict[str, Any]:
        """Have the broker examine itself: `{"checks": [{"name", "verdict", "told", "mend"}]}`.

        Verdicts are `ok`, `warning` and `error`; `mend` ends in a command, or is empty.
        """
        return self._map("broker.doctor")

    def quota(
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
        return self._map("quota.get", **given)

    def set_pat(self, pat: str, account: str | None = None) -> dict[str, Any]:
        """Keep a fine-grained token that may read the plan, beside the account's login."""
        return self._map("quota.set_pat", pat=pat, account=account)

    def forget_pat(self, account: str | None = None) -> dict[str, Any]:
        """Forget the token that `set_pat` has kept."""
        return self._map("quota.forget_pat", account=account)

    def usage_report(
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
        return self._map("usage.report", **params)

    def create_key(
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
        return self._map("key.create", **params)

    def keys(self) -> list[dict[str, Any]]:
        """List the keys of the HTTP door: limits, and `spent_today`; never a key itself.

        Those of runs and minted ones have a `kind` besides.
        """
        return calls.maps_of(self.call("key.list"), "keys", "key.list")

    def lease_key(
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
        return self._map("key.lease", **params)

    def mint_key(
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
        return self._map("key.mint", **params)

    def revoke_key(self, name: str) -> dict[str, Any]:
        """End a key for good; `connections` in the result says how many used it just now.

        Raises UsageError `key_not_found`.
        """
        return self._map("key.revoke", name=name)

    def hello(self) -> dict[str, Any]:
        """Tell name, version, features and what we may do."""
        return self._map("broker.hello", **calls.hello_params(self._name))

    def watch(self, account: str | None = None) -> Stream:
        """Follow an account: its full state at once, then each change, as maps."""
        return self.open_stream("token.watch", account=account)

    def login(self, account: str | None = None, **options: Any) -> Stream:
        """Sign in: maps with the user code, progress and, at last, the account.

        Options: `host`, `client_id`, `scope`, `store`, `token`.
        """
        return self.open_stream("account.login", account=account, **options)

    # -- how ----------------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:
        """Ask and return the result; parameters that are None are left out."""
        given = calls.without_none(**params)
        timeout = self._call_timeout
        deadline = time.monotonic() + timeout
        self._notice_fork()
        if not self._lock.acquire(timeout=max(0.0, timeout)):
            raise calls.timed_out(timeout)
        try:
            tries = 0
            while True:
                tries += 1
                try:
                    return calls.result_of(self._ask(method, given, deadline))
                except CopilotBrokerError as error:
                    if not calls.may_repeat(method, error, tries):
                        raise
                    self._drop()
        finally:
            self._lock.release()

    def _ask(self, method: str, params: dict[str, Any], deadline: float) -> ResponseReceived:
        try:
            if self._link is not None and not self._link.is_usable():
                self._drop()
            if self._link is None:
                self._link = Link(calls.address(self._path), deadline, self._name, greet=False)
            return self._link.ask(method, params, deadline)
        except BaseException as error:
            self._drop()  # an answer may still come, and nobody would know whose
            if isinstance(error, TimeoutError):
                raise calls.timed_out(self._call_timeout) from None
            raise

    @property
    def _call_timeout(self) -> float:
        return calls.DEFAULT_TIMEOUT if self._timeout is None else self._timeout

    def _map(self, method: str, **params: Any) -> dict[str, Any]:
        return calls.map_of(self.call(method, **params), method)

    def open_stream(self, method: str, **params: Any) -> Stream:
        """Ask for a stream, on a connection of its own; returns once it has begun."""
        timeout = self._call_timeout
        patience = calls.Patience(timeout, timeout, greet=False)
        return self._begin(Stream, method, calls.without_none(**params), patience)

    def _patience(self, timeout: float | None, usual: float) -> calls.Patience:
        given = self._timeout if timeout is None else timeout
        return calls.Patience.for_completion(given, usual)

    def _begin(
        self, kind: type[_S], method: str, params: dict[str, Any], patience: calls.Patience
    ) -> _S:
        link, result = self._ask_apart(method, params, patience)
        try:
            stream = kind(link, calls.checked_stream(method, result))
            with self._apart_lock:
                self._apart.add(stream)
        except BaseException:
            link.close()
            raise
        return stream

    def _ask_apart(
        self, method: str, params: dict[str, Any], patience: calls.Patience
    ) -> tuple[Link, Any]:
        """Ask on a new connection, once; return that and the result."""
        begun = time.monotonic()
        first = begun + patience.broker
        self._notice_fork()
        link = None
        try:
            link = Link(calls.address(self._path), first, self._name, greet=patience.greet)
            with self._apart_lock:
                self._apart.add(link)
            answer = link.ask(method, params, begun + patience.answer, first)
            with self._apart_lock:
                self._apart.discard(link)
            return link, calls.result_of(answer)
        except BaseException as error:
            if link is not None:
                link.close()
            if isinstance(error, TimeoutError):
                raise patience.exhausted(link is not None and link.answered) from None
            raise

    def close(self) -> None:
        """Close all connections and streams; the client may be used again."""
        self._notice_fork()
        with self._apart_lock:
            apart = list(self._apart)
        for what in apart:
            if isinstance(what, Stream):
                what.close()
            else:  # another thread waits there for its answer, and closes it
                what.wake()
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        link = self.__dict__.get("_link")
        if link is not None:
            link.close()

    def _notice_fork(self) -> None:
        """After a fork leave the connection to the parent, and a lock that nobody will release."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._apart = weakref.WeakSet()
            self._apart_lock = threading.Lock()
            self._drop()

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
