"""The command line of every verb but `get`: argparse, with errors in our own manner.

Each family of verbs lives in a file of its own and adds itself with `add(verbs)`; the function
that carries a verb out is the `run` default of its parser and returns the exit code. Of a command
line that begins with a verb only that verb's file is imported.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from copilot_broker.cli.report import ERROR_FORMATS, PROGRAM, Refusal
from copilot_broker.errors import CopilotBrokerError, ErrorClass


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["Parser", "build", "run"]

EPILOG = """\
exit codes:
  0 ok   1 internal   2 usage   3 no broker   4 login required   5 denied
  6 locked   7 temporary, try again   8 --min-valid-strict cannot be met
  9 no place to keep the login

Data goes to stdout, everything else to stderr. Every verb explains itself:
copilot-cred VERB --help. The socket is
$XDG_RUNTIME_DIR/copilot-broker/broker.sock unless $COPILOT_BROKER_SOCKET names
another. Unofficial: not made or endorsed by GitHub. One login is one person.
"""

FAMILIES = {
    "login": "login",
    "import": "imports",
    "logout": "logout",
    "status": "status",
    "watch": "watch",
    "refresh": "refresh",
    "lock": "lock",
    "unlock": "lock",
    "account": "account",
    "models": "models",
    "quota": "quota",
    "usage": "usage",
    "grants": "grants",
    "key": "key",
    "exec": "exec",
    "env": "env",
    "doctor": "doctor",
    "audit": "audit",
    "complete": "complete",
    "chat": "chat",
    "api": "api",
    "git-credential": "git_credential",
    "completion": "completion",
}
"""Verb → the file it lives in, in the order of `--help`. Only the one that is wanted is imported:
git and `exec` should not wait for the others."""

_SILENT = frozenset(
    {
        "exec",  # stdout is the command's, closed or not
        "login",
        "logout",
        "refresh",
        "lock",
        "unlock",
        "use",
        "enable",
        "set-pat",
        "forget-pat",
        "revoke",
    }
)
"""Verbs and actions that print nothing on stdout, and so need none."""

_BYTES = frozenset({"attach", "schema", "command"})
"""Arguments that may hold any bytes, as names of files do; `exec` hands its words on."""

_TOKENS = re.compile(r"(gh[a-z]_|github_pat_|cpb_|tid=)[^\s'\"]+")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing and takes no abbreviated options."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options, allow_abbrev=False)
        self.add_argument(
            "--error-format",
            choices=ERROR_FORMATS,
            default=argparse.SUPPRESS,  # `report.error_format` finds it, even in a bad argv
            help="how errors are told on stderr",
        )

    def error(self, message: str) -> NoReturn:
        """Raise the usage error; the hint ends in the command that explains this verb."""
        message = _TOKENS.sub("[a token]", message)  # argparse quotes the words it rejects
        hint = f"see how it is called: {self.prog} --help"
        raise Refusal(ErrorClass.USAGE, "usage", message, hint)


def build(verb: str | None = None) -> Parser:
    """Return the parser of the whole command line, or of what one verb needs."""
    parser = Parser(
        prog=PROGRAM,
        description="Lend short-lived GitHub Copilot tokens from the copilot-broker daemon.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    verbs.add_parser("get", help="print a token")  # never parsed here: see cli/__init__.py
    files = [FAMILIES[verb]] if verb in FAMILIES else dict.fromkeys(FAMILIES.values())
    for file in files:
        import_module(f"copilot_broker.cli.{file}").add(verbs)
    return parser


def run(argv: Sequence[str]) -> int:
    """Carry out one command line; raises `Refusal` for everything that is told to the user."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a C locale
    parser = build(argv[0] if argv else None)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        # With the help of the verb that does not know them, not with the program's.
        chosen = (args.verb, getattr(args, "action", None))
        parser.prog = " ".join([PROGRAM, *filter(None, chosen)])
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    _check_text(parser, args)
    if args.version:
        from importlib.metadata import version  # noqa: PLC0415  # slow, and only wanted here

        print(f"{PROGRAM} {version('copilot-broker')}")
        return 0
    if args.verb is None:
        parser.error("no verb given")
    if sys.stdout is None and (getattr(args, "action", None) or args.verb) not in _SILENT:
        # Before it costs something, or changes anything.
        message = "stdout is closed, so nobody would read the answer"
        hint = f"see how it is called: {PROGRAM} {args.verb} --help"
        raise Refusal(ErrorClass.USAGE, "no_stdout", message, hint)
    try:
        code: int = args.run(args)
    except CopilotBrokerError as error:
        raise Refusal.of(error) from error
    return code


def _check_text(parser: Parser, args: argparse.Namespace) -> None:
    """Refuse words that are not UTF-8: they come as lone surrogates (PEP 383), and go nowhere."""
    for name, value in vars(args).items():
        words = value if isinstance(value, list) else [value]
        if name not in _BYTES and any(_is_broken(word) for word in words):
            if args.verb is not None:
                parser.prog = f"{PROGRAM} {args.verb}"
            parser.error(f"argument {name}: not UTF-8 text")


def _is_broken(word: object) -> bool:
    return isinstance(word, str) and word.encode(errors="ignore").decode() != word
