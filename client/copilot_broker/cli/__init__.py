"""copilot-cred: the credential helper of copilot-broker.

`get` runs in shell prompts and build scripts, so it has a path of its own that imports almost
nothing (`get.py`); every other verb goes through argparse (`parser.py`). Rules for all of them:
stdout carries data and nothing else, people are talked to on stderr, the exit code is the class
of the error (`wire/codes.py`), and every error ends in the command that mends it.
"""

from __future__ import annotations

import sys

from copilot_broker.cli.report import (
    EXIT_BROKEN_PIPE,
    EXIT_INTERRUPTED,
    Refusal,
    abandon,
    error_format,
    report,
)


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name); return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(args)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        abandon(1)
        code = EXIT_BROKEN_PIPE
    except Refusal as refusal:
        code = report(refusal, error_format(args))
    except Exception as error:  # noqa: BLE001  # a traceback could show a token; its type cannot
        abandon(1)
        code = report(_unexpected(error), error_format(args))
    return code


def _dispatch(args: list[str]) -> int:
    verb = _verb_at(args)
    if args[verb : verb + 1] == ["get"]:
        from copilot_broker.cli.get import get  # noqa: PLC0415

        return get(args[:verb] + args[verb + 1 :])
    from copilot_broker.cli.parser import run  # noqa: PLC0415

    return run(args)


def _verb_at(args: list[str]) -> int:
    """Return where the verb stands: after the one option that may come before `get`."""
    here = 0
    while here < len(args) and args[here].partition("=")[0] == "--error-format":
        here += 1 if "=" in args[here] else 2
    return here


def _unexpected(error: Exception) -> Refusal:
    """Turn what nobody foresaw into an error with a hint; never its text, which may hold data."""
    if isinstance(error, OSError) and error.strerror:
        return Refusal(
            1,
            "os_error",
            error.strerror.lower(),
            "see where the output goes",
        )
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
    return Refusal(
        1,
        "internal",
        f"a defect in copilot-cred: {type(error).__name__}{where}",
        "please report it together with the output of: copilot-cred --version",
    )
