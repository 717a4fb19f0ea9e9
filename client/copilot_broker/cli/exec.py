"""`copilot-cred exec -- COMMAND`: become a program whose requests the broker answers.

The broker is asked for an address and a key for this very process, and then the process becomes
the command (execve(2)): no parent remains that would have to pass on signals, exit status, stdin
or the terminal. The broker watches the process and ends both with it. The key goes into the
environment, never into an argv, which every user of the machine can read.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from copilot_broker import Client
from copilot_broker.cli.limits import amount, apart, count
from copilot_broker.cli.recipes.variables import is_scrubbed, no_proxy, variables
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.errors import ErrorClass, InternalError


if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["MARK", "add", "environment", "exec_command"]

DESCRIPTION = """\
Run a command that finds GitHub Copilot where it looks for OpenAI's or
Anthropic's API: it gets an address of the broker's HTTP door to itself, and a
key that is good there and nowhere else. Both end with the command.

Its environment is this one, with

  OPENAI_BASE_URL, OPENAI_API_BASE, OPENAI_API_KEY,
  ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN   how to ask the broker
  NO_PROXY, no_proxy                         127.0.0.1 added
  COPILOT_BROKER_EXEC                        the name of this run

and without GitHub tokens (GH_TOKEN, GITHUB_TOKEN, COPILOT_GITHUB_TOKEN and
their like, and whatever else holds one), and without ANTHROPIC_API_KEY, which
some tools prefer. The command takes the place of copilot-cred: signals, exit
status, stdin and the terminal are its own.
"""

EPILOG = """\
exit codes: those of COMMAND; 127 where it is not found, 126 where it cannot be
executed. Before it starts: 2 usage, 3 no broker, 4 login required, 5 denied,
6 locked, 7 temporary.

examples:
  copilot-cred exec -- aider --model openai/gpt-4.1
  copilot-cred exec -- claude
  copilot-cred exec --model 'gpt-5*' --rpm 30 --budget 500k -- ./nightly.sh
  copilot-cred exec -- sh -c 'printf "Authorization: Bearer %s" \\
    "$OPENAI_API_KEY" | curl -H @- "$OPENAI_BASE_URL/models"'

What a command has started lives on without the address when it ends itself.
"""

MARK = "COPILOT_BROKER_EXEC"
"""Says to whoever looks that a run is under way, and which."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""As shells have it (POSIX.1-2017, Shell & Utilities §2.8.2)."""

_SHELL = "/bin/sh"
_LABEL_MAX = 64
_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "exec",
        help="run a command that asks the broker",
        usage=f"{PROGRAM} exec [options] -- COMMAND [ARGUMENT...]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("--account", metavar="NAME", help="instead of the default account")
    parser.add_argument(
        "--model",
        metavar="GLOB",
        action="append",
        dest="models",
        help="only models that match; may be given several times",
    )
    parser.add_argument("--rpm", type=count, metavar="N", help="at most so many requests a minute")
    parser.add_argument(
        "--budget",
        type=amount,
        metavar="TOKENS",
        help="at most so many tokens a day (UTC), prompts and answers: 500k, 2M",
    )
    parser.add_argument(
        "--label", metavar="TEXT", help="what the run is called (default: the command's name)"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=exec_command)


def exec_command(args: argparse.Namespace) -> int:
    """Become the command; returns, with an exit code, only where that cannot be done."""
    command: list[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command or not command[0]:
        hint = f"see how it is called: {PROGRAM} exec --help"
        raise Refusal(ErrorClass.USAGE, "usage", "no command given", hint)
    program = _program(command[0])
    with Client(name=PROGRAM) as client:
        _refuse_nested(client)
        run = client.lease_key(
            args.label or _label(command[0]),
            models=apart(args.models),
            account=args.account,
            requests_per_minute=args.rpm,
            budget=args.budget,
        )
    child = environment(_given(), run)
    _restore_signals()
    _become(program, command, child)


def environment(given: Mapping[str, str], run: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of the command; `run` is the broker's answer to `key.lease`."""
    name, key, address = (run.get(each) for each in ("name", "key", "address"))
    if not (isinstance(name, str) and isinstance(key, str) and isinstance(address, str)):
        hint = "Look at: systemctl --user status copilot-broker"
        raise InternalError("bad_answer", "the answer to key.lease holds no run", hint)
    # One without a name (`=C:=…`, of Windows' subsystems) could not be handed on (os.execve).
    child = {n: value for n, value in given.items() if n and not is_scrubbed(n, value)}
    child |= dict.fromkeys(_PROXY_VARIABLES, no_proxy(*map(given.get, _PROXY_VARIABLES)))
    return child | variables(f"http://{address}", key) | {MARK: name}


def _refuse_nested(client: Client) -> None:
    """Refuse where this shell is itself in a run that is still under way.

    A name is given again once its run is over, an address hardly ever.
    """
    name = os.environ.get(MARK)
    if not name:
        return
    asked = os.environ.get("OPENAI_BASE_URL", "")
    known = client.keys()
    for key in known:
        if key.get("name") == name and f"http://{key.get('address')}/" in f"{asked}/":
            message = f"this is already inside of {printable(name)}, which is under way"
            hint = "start the command itself; to have a run of its own: env -u " + MARK
            raise Refusal(ErrorClass.USAGE, "nested", message, f"{hint} {PROGRAM} exec -- COMMAND")


def _program(name: str) -> str:
    """Return the path of the command. Raises Refusal with the exit code that shells have."""
    if "/" in name:
        if not Path(name).exists():
            raise _not_found(name)
        return name
    path = os.environ.get("PATH", os.defpath)
    if found := shutil.which(name, path=path):
        return found
    if any(Path(folder or ".", name).is_file() for folder in path.split(os.pathsep)):
        raise _not_executable(name, os.strerror(errno.EACCES))
    raise _not_found(name)


def _become(program: str, command: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Never returns; raises Refusal where the kernel takes no such program."""
    try:
        try:
            os.execve(program, command, environ)  # noqa: S606 - that is what the verb is for
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script that does not say whose: execvp(3) has the shell read it.
            os.execve(_SHELL, [_SHELL, program, *command[1:]], environ)  # noqa: S606
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be passed on as it is"
        if isinstance(error, FileNotFoundError):  # the interpreter that it names
            raise _not_found(command[0]) from None
        raise _not_executable(command[0], reason) from None


def _given() -> dict[str, str]:
    """Return the environment as we were given it.

    Python sets LC_CTYPE where it finds the C locale (PEP 538); that is not for the command.
    """
    given = dict(os.environ)
    try:
        ours = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return given
    if not any(each.startswith(b"LC_CTYPE=") for each in ours):
        given.pop("LC_CTYPE", None)
    return given


def _restore_signals() -> None:
    """Put back what Python ignores; what it handles, execve puts back (signal(7))."""
    for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_DFL)


def _label(command: str) -> str:
    """Return the command's name as a name of the broker's."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(command).name).lstrip("-._")
    return name[:_LABEL_MAX] or "command"


def _not_found(name: str) -> Refusal:
    hint = f"see where it is looked for: echo $PATH; then: {PROGRAM} exec -- COMMAND"
    return Refusal(NOT_FOUND, "command_not_found", f"{printable(name)}: command not found", hint)


def _not_executable(name: str, reason: str) -> Refusal:
    message = f"{printable(name)}: cannot be executed: {reason.lower()}"
    return Refusal(NOT_EXECUTABLE, "not_executable", message, "look at it: file, ls -l")
