"""`copilot-cred lock` and `copilot-cred unlock`: nobody gets anything meanwhile.

A passphrase is never an argument: argv is world-readable in /proc. It is asked for on a terminal,
without echo, and read from stdin elsewhere.
"""

from __future__ import annotations

import getpass
import hmac
import sys
from typing import TYPE_CHECKING, Any

from copilot_broker import Client, Denied
from copilot_broker.cli.display import say
from copilot_broker.cli.report import PROGRAM, Refusal, note
from copilot_broker.cli.stdin import MIB, read_stdin
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    import argparse


__all__ = ["add", "lock", "unlock"]

LOCK_TIMEOUT = 15.0
"""Seconds: the broker makes a hash of the passphrase, which takes work on purpose."""

PASSPHRASE_MAX = 1024
"""Bytes; the broker takes no more."""

LOCK_DESCRIPTION = """\
Have the broker give nobody anything until it is unlocked: no token, no
completion, no list of models, no quota, no sign-in. It drops all tokens that
it holds in memory, Copilot's and GitHub's, and asks nothing of GitHub.
Tokens that were handed out before work until they expire, within half an hour
or so. A completion that is under way comes to its end.

With --passphrase only that passphrase unlocks it: asked for twice on a
terminal, else read from stdin. A wrong one is answered late, up to ten
seconds, which keeps nobody else waiting. A broker that is locked already stays
as it is, with the passphrase that it has.

What lies in the keyring or a file stays there; it is read again after the
lock, and protected by the keyring, not by the lock. A login that is kept in
memory only (--store memory) has no other place, so it stays there. Restarting
the broker ends the lock: systemctl --user restart copilot-broker

To have all Copilot tokens dropped without a lock, and new ones fetched:
systemctl --user kill --signal USR1 copilot-broker
"""

LOCK_EPILOG = """\
examples:
  copilot-cred lock
  copilot-cred lock --passphrase
  pass show copilot-lock | copilot-cred lock --passphrase
"""

UNLOCK_DESCRIPTION = """\
End the lock. If it has a passphrase, that is asked for on a terminal, else
read from stdin (one line end after it does not count).
"""

UNLOCK_EPILOG = """\
examples:
  copilot-cred unlock
  pass show copilot-lock | copilot-cred unlock
"""


def add(verbs: Any) -> None:
    """Add the verbs to the command line."""
    locking: argparse.ArgumentParser = verbs.add_parser(
        "lock",
        help="have nobody get anything until it is unlocked",
        description=LOCK_DESCRIPTION,
        epilog=LOCK_EPILOG,
    )
    locking.add_argument(
        "--passphrase",
        action="store_true",
        help="ask for one, or read it from stdin, that alone unlocks it",
    )
    locking.set_defaults(run=lock)
    unlocking: argparse.ArgumentParser = verbs.add_parser(
        "unlock", help="end the lock", description=UNLOCK_DESCRIPTION, epilog=UNLOCK_EPILOG
    )
    unlocking.set_defaults(run=unlock)


def lock(args: argparse.Namespace) -> int:
    """Lock the broker."""
    passphrase = _passphrase(twice=True) if args.passphrase else None
    with Client(name=PROGRAM, timeout=LOCK_TIMEOUT) as client:
        changed = client.lock(passphrase)
    if changed:
        say("Locked. To unlock it: copilot-cred unlock")
    elif passphrase is None:
        say("It was locked already. To unlock it: copilot-cred unlock")
    else:
        note("it was locked already, so its passphrase, or that it has none, stays as it is")
    return 0


def unlock(_args: argparse.Namespace) -> int:
    """Unlock the broker; a passphrase is asked for only if it takes one."""
    with Client(name=PROGRAM) as client:
        try:
            changed = client.unlock()
        except Denied as error:
            if error.code != "passphrase_required":
                raise
            changed = client.unlock(_passphrase(twice=False))
    say("Unlocked." if changed else "It was not locked.")
    return 0


def _passphrase(*, twice: bool) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        data = read_stdin(MIB, "passphrase", _refused)
        text = data.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    else:
        text = _asked("Passphrase (not shown): ")
        if twice and text and not _is_same(text, _asked("The same again: ")):
            raise _refused("the two passphrases differ")
    if not text:
        raise _refused("there is no passphrase")
    if len(_bytes(text)) > PASSPHRASE_MAX:
        raise _refused(f"the passphrase has more than {PASSPHRASE_MAX} bytes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused("the passphrase is not UTF-8 text") from None
    return text


def _asked(prompt: str) -> str:
    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        return ""


def _is_same(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _refused(message: str) -> Refusal:
    hint = f"see how to give one: {PROGRAM} lock --help"
    return Refusal(ErrorClass.USAGE, "bad_passphrase", message, hint)
