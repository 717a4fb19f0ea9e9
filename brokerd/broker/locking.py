"""The lock's passphrase: kept as a hash in memory only, and proven without anybody else waiting.

Who gives a wrong one waits for the answer, longer each time (ssh-agent does so too, but lets all
its callers wait). Hashing takes a thread, one at a time. It is no protection from who may restart
the daemon, which ends the lock: what lies in a store is protected by the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from typing import TYPE_CHECKING, Final

from brokerd.broker.failures import error_for
from brokerd.core.audit import UNLOCKED
from brokerd.errors import ErrorClass, Failure


if TYPE_CHECKING:
    from collections.abc import Callable

    from brokerd.ports import Clock


__all__ = [
    "BROKER_LOCKED",
    "BUSY",
    "NEEDED",
    "PASSPHRASE_MAX",
    "WRONG",
    "Lock",
    "checked",
    "delay_after",
]

log = logging.getLogger(__name__)

PASSPHRASE_MAX: Final = 1024
"""Bytes of UTF-8; a person types some dozens."""

DELAY_FIRST: Final = 0.5
"""Seconds that the first wrong passphrase costs; each further one twice as many."""

DELAY_MAX: Final = 10.0
"""Seconds, the most; ssh-agent's bound too (agent(1), `ssh-add -X`)."""

TRIES_MAX: Final = 32
"""Passphrases that wait to be hashed: a second or two of work."""

COST: Final = 2**14
"""scrypt's n (RFC 7914): with r = 8 that is 16 MiB and some 50 ms, which nobody notices."""

BROKER_LOCKED: Final = Failure(
    ErrorClass.LOCKED,
    "broker_locked",
    "the broker is locked",
    "Unlock it with copilot-cred unlock",
)
NEEDED: Final = Failure(
    ErrorClass.DENIED,
    "passphrase_required",
    "the broker was locked with a passphrase",
    "Give it to copilot-cred unlock",
)
WRONG: Final = Failure(
    ErrorClass.DENIED,
    "wrong_passphrase",
    "this is not the passphrase that the broker was locked with",
    "Try again with copilot-cred unlock",
)
BUSY: Final = Failure(
    ErrorClass.TEMPORARY,
    "unlock_busy",
    "too many passphrases are being tried",
    "Run copilot-cred unlock again",
    retry_after=1.0,
)


def delay_after(wrong: int) -> float:
    """Seconds that the `wrong`-th wrong passphrase (from 1 on) has to wait for its answer."""
    return min(DELAY_MAX, DELAY_FIRST * 2.0 ** min(wrong - 1, 16))


def _scrypt(passphrase: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase, salt=salt, n=COST, r=8, p=1, dklen=32)


class Lock:
    """Locked or not, and what opens it. All methods are for the event loop's thread."""

    def __init__(self, clock: Clock, *, derive: Callable[[bytes, bytes], bytes] = _scrypt) -> None:
        """`derive` makes a key of a passphrase and a salt; it is called in a thread."""
        self.is_locked = False
        self._clock = clock
        self._derive = derive
        self._salt = b""
        self._proof: asyncio.Task[bytes] | None = None
        """Makes, or has made, the passphrase's hash; None: there is no passphrase."""
        self._wrong = 0
        """Wrong ones since it was locked, by whomever: a new connection is no fresh start."""
        self._turn = asyncio.Lock()
        self._tries = 0
        self._tasks: set[asyncio.Task[bytes]] = set()

    def engage(self, passphrase: bytes | None) -> None:
        """Lock it; it must not be locked yet."""
        self.is_locked, self._wrong, self._proof = True, 0, None
        if passphrase is not None:
            self._salt = secrets.token_bytes(16)
            self._proof = self._hashing(passphrase)

    @property
    def has_passphrase(self) -> bool:
        """Whether it takes one to unlock it."""
        return self._proof is not None

    async def engaged(self) -> None:
        """Wait until the passphrase's hash is there."""
        if self._proof is not None:
            await asyncio.shield(self._proof)

    async def open(self, passphrase: bytes | None) -> bool:
        """Unlock it; return whether it was locked until now.

        Without a passphrase there is none to be proven. Raises PermanentError DENIED: one is
        needed, or this is not it, which is told after `delay_after`; TransientError TEMPORARY
        while too many are being tried.
        """
        while self.is_locked and self._proof is not None:
            if passphrase is None:
                raise error_for(NEEDED)
            if self._tries >= TRIES_MAX:
                raise error_for(BUSY)
            proof = self._proof
            given = self._hashing(passphrase)
            found, known = await asyncio.shield(given), await asyncio.shield(proof)
            if self._proof is not proof:
                continue  # somebody has unlocked it meanwhile, and perhaps locked it anew
            if hmac.compare_digest(found, known):
                break
            self._wrong += 1
            log.warning(UNLOCKED.message, extra=UNLOCKED.extra(RESULT="wrong"))
            await self._clock.sleep(delay_after(self._wrong))
            raise error_for(WRONG)
        was_locked, self.is_locked, self._proof, self._salt = self.is_locked, False, None, b""
        return was_locked

    async def close(self) -> None:
        """Give up what is being hashed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hashing(self, passphrase: bytes) -> asyncio.Task[bytes]:
        """Have it hashed, whether or not its caller stays: a thread cannot be called back."""
        self._tries += 1
        task = asyncio.create_task(self._hashed(passphrase, self._salt), name="hash passphrase")
        self._tasks.add(task)
        task.add_done_callback(self._on_hashed)
        return task

    async def _hashed(self, passphrase: bytes, salt: bytes) -> bytes:
        async with self._turn:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, self._derive, passphrase, salt)

    def _on_hashed(self, task: asyncio.Task[bytes]) -> None:
        self._tries -= 1
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be left


def checked(passphrase: str) -> bytes:
    """Return what somebody gave as a passphrase; PermanentError USAGE `bad_passphrase`."""
    given = passphrase.encode(errors="surrogatepass")
    if not 0 < len(given) <= PASSPHRASE_MAX:
        text = f"a passphrase has 1 to {PASSPHRASE_MAX} bytes"
        hint = "See copilot-cred lock --help"
        raise error_for(Failure(ErrorClass.USAGE, "bad_passphrase", text, hint))
    return given
