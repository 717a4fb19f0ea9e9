"""What is sent upstream for a request: which model, through which endpoint, in whose words.

    name of the model → the account's own id (`core.model_choice`)
    endpoint of the request → one that the model speaks, translated where it is another one
    body → repaired where a tool says what Copilot does not take (`core.repairs`)

All of it is pure but for the rights, which are asked last: about what would really be sent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from brokerd.core.asked_model import asked_model
from brokerd.core.completions import CompletionRequest, engine_path
from brokerd.core.fim import read_fim
from brokerd.core.model_choice import (
    chosen,
    depends_on_list,
    endpoints_of,
    way_for,
    with_model,
)
from brokerd.core.pacing.model_name import model_of
from brokerd.core.turns import may_be_agents, read_turn
from brokerd.errors import ErrorClass, Failure, PermanentError


if TYPE_CHECKING:
    from collections.abc import Mapping

    from brokerd.core.dialects.translation import Translation
    from brokerd.gate import Caller
    from brokerd.gateway.manner import Manner


__all__ = ["FIM", "Asked", "Wanted", "account_of", "permit", "wanted", "wanted_fim"]

FIM: Final = "/completions"
"""The endpoint of fill-in-the-middle completions, as OpenAI's API has it."""

OPERATION: Final = "completion.create"

_SHOWN: Final = 64
"""Characters of a caller's word repeated back to it."""

_ANTHROPIC: Final = frozenset({"anthropic-beta", "anthropic-version"})


class Asked(NamedTuple):
    """What a caller asks for."""

    body: bytes
    account: str | None
    """None: the default one's."""
    headers: Mapping[str, str]
    """Those of its turn that are passed on."""

    def __repr__(self) -> str:
        """Show no prompt."""
        return f"Asked({len(self.body)} bytes, {self.account!r})"


class Wanted(NamedTuple):
    """See the module's docstring."""

    request: CompletionRequest
    path: str
    """The endpoint as the caller spoke to it."""
    model: str
    """GitHub's id, or the caller's word for it; "" where none is named."""
    translation: Translation | None = None
    """None: both speak the same."""
    wants_whole: bool = False
    """Whether a stream has to be collected into one answer."""
    is_renamed: bool = False
    """Whether the caller said another name."""
    repairs: tuple[str, ...] = ()
    """Names of those that changed the request."""


def account_of(named: str | None, caller: Caller) -> str | None:
    """Return the account meant: the one it names, else the only one there is for this caller."""
    accounts = caller.rights.accounts
    if named is None and accounts is not None and len(accounts) == 1:
        (only,) = accounts
        return only
    return named


def permit(body: bytes, account: str | None, caller: Caller, manner: Manner) -> bool:
    """Ask for leave before anything is asked of upstream; False: not before its list is known.

    The list only matters to who is limited to some models, and names one that it may know under
    another name. Raises BrokerError.
    """
    if not caller.models_matter:
        caller.check(OPERATION, account)
        return True
    named = model_of(body)
    model = chosen(named, manner.aliases, ())
    if depends_on_list(model):
        return False
    body = body if model == named else with_model(body, model)
    caller.check(OPERATION, account, asked_model(body))
    return True


def wanted(
    asked: Asked,
    caller: Caller,
    path: str,
    known: Mapping[str, Mapping[str, Any]],
    manner: Manner,
    *,
    is_permitted: bool,
) -> Wanted:
    """Return what to send. Raises BrokerError for what may not be, or cannot.

    `path` is the endpoint, `known` the account's models (empty: not known), `is_permitted` what
    `permit` has said.
    """
    body = asked.body
    named = model_of(body)
    model = chosen(named, manner.aliases, known)
    if model != named:
        body = with_model(body, model)
    if not is_permitted:
        caller.check(OPERATION, asked.account, asked_model(body))
    spoken, translation = path, None
    entry = known.get(model)
    if entry is not None:
        spoken = _way(path, model, entry)
    body, headers, repairs = manner.request_repairs(path)(body, asked.headers)
    if entry is not None and spoken != path:
        translation = _translated(path, spoken, body, model, entry)
        body = translation.body
        headers = {name: value for name, value in headers.items() if name not in _ANTHROPIC}
        if "x-initiator" not in headers and _is_agents(asked.body):
            headers["x-initiator"] = "agent"
    completion = _completion(caller, spoken, body, asked.account, headers)
    return Wanted(completion, path, model, translation, False, model != named, repairs)


def wanted_fim(asked: Asked, caller: Caller, in_path: str, manner: Manner) -> Wanted:
    """Return what to send for a fill-in-the-middle completion. Raises BrokerError.

    `in_path` is the model that the path names, percent-encoding as it came; "": the body does.
    """
    asking = read_fim(asked.body)
    named = unquote(in_path) or asking.model
    model = chosen(named, manner.aliases, ())
    caller.check(OPERATION, asked.account, asked_model(asked.body, engine_path(model)))
    path = engine_path(model)
    completion = _completion(caller, path, asking.body, asked.account, asked.headers)
    return Wanted(
        completion,
        FIM,
        model,
        is_renamed=model != named,
        wants_whole=not asking.wants_stream,
    )


def _is_agents(body: bytes) -> bool:
    """Whether it is an agent's turn in the caller's own words.

    Said in others it may look like a person's: Chat Completions has no image in a tool's result,
    so one goes along in a message of the user's. GitHub charges for those.
    """
    return may_be_agents(body) and read_turn(body).initiator == "agent"


def _completion(
    caller: Caller, path: str, body: bytes, account: str | None, headers: Mapping[str, str]
) -> CompletionRequest:
    return CompletionRequest(
        body,
        path,
        stream=True,  # the answer is taken as it comes, in pieces or not
        account=account,
        headers=headers,
        peer=caller.peer.pid or id(caller),  # by TCP the process is not known
    )


def _way(path: str, model: str, entry: Mapping[str, Any]) -> str:
    endpoints = endpoints_of(entry)
    way = way_for(path, endpoints)
    if way is not None:
        return way
    hint = "Choose another one of: copilot-cred models"
    if endpoints:
        hint = "Send it to " + " or ".join(endpoints)
    raise PermanentError(
        Failure(
            ErrorClass.USAGE,
            "unsupported_api_for_model",
            f"the model {model[:_SHOWN]} cannot be spoken to through {path}",
            hint,
        )
    )


def _translated(
    path: str, spoken: str, body: bytes, model: str, entry: Mapping[str, Any]
) -> Translation:
    # Late: who never translates never pays for it.
    from brokerd.core.dialects.meaning import UntranslatableError  # noqa: PLC0415
    from brokerd.core.dialects.translation import Translation  # noqa: PLC0415

    try:
        return Translation(path, spoken, body, entry, now=int(time.time()))
    except UntranslatableError as error:
        raise PermanentError(
            Failure(
                ErrorClass.USAGE,
                "not_translatable",
                f"the model {model[:_SHOWN]} is spoken to through {spoken}, "
                f"which has no words for {error}",
                f"Leave it out, or send the request to {spoken} yourself; "
                "other models: copilot-cred models",
            )
        ) from None
