"""Taking one login: pick it, say whose it is and what that means, ask, hand it to the broker."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from copilot_broker.cli.display import say, wrapped
from copilot_broker.cli.imports.found import APP_NAMES, APP_OF_GH, Found, Kind, Login, judge
from copilot_broker.cli.imports.gh import ask_gh
from copilot_broker.cli.imports.reading import Unreadable
from copilot_broker.cli.imports.shown import short_place
from copilot_broker.cli.login import TERMS
from copilot_broker.cli.prompt import ask, is_interactive
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.cli.times import duration
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["confirm", "pick", "with_token"]

LIST = f"see what there is: {PROGRAM} import"
SIGN_IN = f"sign in with a browser instead: {PROGRAM} login"

SHARED = (
    "It stays with that tool, too. GitHub sees one login: whoever signs it out there, or revokes"
    " it, ends it here."
)
PROVED = "The broker asks GitHub whose it is, and keeps it only if GitHub takes it."


def pick(found: Sequence[Found], wanted: str) -> Found:
    """Return the one that is meant by a number of the list or a tool. Raises Refusal."""
    if wanted.isascii() and wanted.isdecimal():
        index = int(wanted[:9]) - 1
        if not 0 <= index < len(found):
            raise _usage("no_such_number", f"there is no number {wanted} among what was found")
        chosen = found[index]
    else:
        chosen = _of_tool(found, wanted)
    if chosen.problem:
        message = f"{_what(chosen)} cannot be taken: {chosen.problem}"
        raise Refusal(ErrorClass.USAGE, "cannot_be_taken", message, SIGN_IN)
    return chosen


def confirm(chosen: Found, wanted: str, *, yes: bool) -> None:
    """Show what would be taken and have that confirmed. Raises Refusal when it is not."""
    say(f"The login of {printable(chosen.tool)}:")
    say()
    age = "" if chosen.age is None else f", written {duration(chosen.age)} ago"
    say(f"  where  {printable(short_place(chosen.place))}{age}")
    said = f"{chosen.user} on " if chosen.user else ""
    say(f"  whose  {printable(said + chosen.host)}{', as it says' if chosen.user else ''}")
    say(f"  kind   {chosen.kind.value}{_app(chosen)}")
    if chosen.program:
        say(f"  runs   {printable(shlex.join(chosen.program))}")
    say()
    if chosen.warning:
        say(wrapped(f"Beware: {chosen.warning}."))
    say(wrapped(f"{PROVED} {SHARED}"))
    say(wrapped(TERMS))
    say()
    if yes:
        return
    command = f"{PROGRAM} import {shlex.quote(wanted)}"
    if not is_interactive():
        raise Refusal(
            ErrorClass.USAGE,
            "not_confirmed",
            "nobody is there to be asked, so this has to be confirmed by an option",
            f"take it: {command} --yes",
        )
    if not ask("Take this login?"):
        raise Refusal(
            ErrorClass.DENIED,
            "not_accepted",
            "the login was not taken, so nothing was changed",
            f"think it over, then: {command}",
        )


def with_token(chosen: Found) -> Found:
    """Return it with its token, which may have to be asked for. Raises Refusal."""
    if not chosen.program:
        return chosen
    try:
        token = ask_gh(chosen.program)
    except Unreadable as unreadable:
        message = f"{_what(chosen)} cannot be taken: {unreadable}"
        raise Refusal(ErrorClass.USAGE, "cannot_be_taken", message, SIGN_IN) from None
    kind, problem = judge(Login(token, chosen.host))
    if problem:
        message = f"{_what(chosen)} cannot be taken: {problem}"
        raise Refusal(ErrorClass.USAGE, "cannot_be_taken", message, SIGN_IN)
    app = APP_OF_GH if kind is Kind.OAUTH else ""
    return replace(chosen, token=token, kind=kind, app=app)


def _of_tool(found: Sequence[Found], tool: str) -> Found:
    its = [(number, each) for number, each in enumerate(found, 1) if each.tool == tool]
    usable = [(number, each) for number, each in its if not each.problem]
    if not its:
        raise _usage("nothing_found", f"nothing was found of a tool named {tool}")
    if len(usable) > 1:
        numbers = ", ".join(str(number) for number, _ in usable)
        raise _usage("which_one", f"{tool} has more than one login; say which: {numbers}")
    return (usable or its)[0][1]


def _what(each: Found) -> str:
    return f"the login of {each.tool} in {short_place(each.place)}"


def _app(each: Found) -> str:
    if not each.app:
        return ""
    name = APP_NAMES.get(each.app)
    return f", of the app {name}" if name else f", of the app with client id {printable(each.app)}"


def _usage(code: str, message: str) -> Refusal:
    return Refusal(ErrorClass.USAGE, code, message, LIST)
