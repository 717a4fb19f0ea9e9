"""What a Copilot answer makes us do. One table; everything that is not in it is passed on.

    status   first answer                          answer to the replay
    401      reject the token, replay              pass on
             (`authorize_url`: pass on; the GitHub
             token itself: reject it, pass on)
    402      re-read the quota, pass on            the same
    403      drop the token, pass on               the same
    421      reject the token, replay to the       pass on
             base that comes with the new one
    other    pass on                               pass on

All of it happens before a byte has reached the caller, and a replay happens once. A 401 with
`authorize_url` is a remote agent that wants a login of its own: our token is good. Where the
GitHub token itself was sent, there is no other to replay with: to reject it has it asked whether
the login still lives.
"""

from __future__ import annotations

import json
from enum import Enum, auto


__all__ = ["REFUSED_FROM", "Action", "action_for", "wants_own_login"]

REFUSED_FROM = 300
"""Answers with this status or above are read first and explained; the hot path asks no more.
Redirects are among them: none is followed, and most come from a network that wants a sign-in."""


class Action(Enum):
    """What to do with an answer besides, or before, passing it on."""

    PASS_ON = auto()
    REPLAY = auto()
    """The token is dead: have it replaced and send the same once more."""
    REPLAY_ELSEWHERE = auto()
    """The host is wrong: have the token replaced, and send the same to the base it comes with."""
    DROP_TOKEN = auto()
    """Have the token replaced for whoever comes next, and pass on."""
    REREAD_QUOTA = auto()
    """The budget is used up, so what is known of it is old; pass on."""


_ACTIONS = {
    401: Action.REPLAY,
    402: Action.REREAD_QUOTA,
    403: Action.DROP_TOKEN,
    421: Action.REPLAY_ELSEWHERE,
}
_REPLAYS = (Action.REPLAY, Action.REPLAY_ELSEWHERE)


def action_for(
    status: int, body: bytes = b"", *, is_replay: bool, is_direct: bool = False
) -> Action:
    """Look it up. `body` counts for a 401 only, as far as it could be read.

    `is_direct`: what was refused is the GitHub token itself.
    """
    action = _ACTIONS.get(status, Action.PASS_ON)
    if action in _REPLAYS and (is_replay or (status == 401 and wants_own_login(body))):
        return Action.PASS_ON
    return Action.DROP_TOKEN if is_direct and action is Action.REPLAY else action


def wants_own_login(body: bytes) -> bool:
    """Whether a 401 asks the person to sign in elsewhere: `authorize_url` in its JSON.

    Copilot wraps errors in `error` or not, and calls JSON text/plain: only trying tells.
    """
    if b"authorize_url" not in body:
        return False
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(fields, dict):
        return False
    inner = fields.get("error")
    return _is_url(fields) or (isinstance(inner, dict) and _is_url(inner))


def _is_url(fields: dict[str, object]) -> bool:
    url = fields.get("authorize_url")
    return isinstance(url, str) and bool(url)
