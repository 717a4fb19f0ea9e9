"""What a run of the simulator is like: one flat table, changed by name while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from brokerd.simulator import quirks


__all__ = ["BILLING_FORMS", "EXCHANGE_FORMS", "FRAMINGS", "PLANS", "USER_FORMS", "Settings"]

PLANS = ("individual", "business", "enterprise")
USER_FORMS = (
    "paid", "fractional", "unlimited", "exhausted", "free", "no_access", "nulls", "odd",
    "ai_credits",
)  # fmt: skip
BILLING_FORMS = ("several", "ai_credits", "empty", "no_permission", "expired", "unknown_user")
EXCHANGE_FORMS = ("full", "free", "minimal", "odd")
DIRECT_ONLY = ("Ov23li8tweQw6odWQebz", "Ov23ctDVkRmgkPke0Mmm", "178c6fc778ccc68e1d6a")
"""Client ids of opencode, Copilot CLI and gh: the real exchange does not know their tokens."""
FRAMINGS = ("auto", "chunked", "length", "close")
_CHOICES = {
    "plan": PLANS,
    "user_form": USER_FORMS,
    "billing_form": BILLING_FORMS,
    "exchange_form": EXCHANGE_FORMS,
    "chat_framing": FRAMINGS,
}


@dataclass
class Settings:
    """All that can be set. Times in seconds, sizes in bytes."""

    auto_approve: bool = False
    """Approve each device code as soon as it is issued."""
    token_lifetime: float = 1800
    refresh_in: float = 1500
    device_interval: float = 5
    device_expires_in: float = 900
    enforce_pacing: bool = True
    """Answer `slow_down` to whoever polls faster than `interval`."""
    clock_offset: float = 0
    """How far GitHub's clock is ahead of ours: moves `Date` and `expires_at`."""
    login: str = "octocat"
    user_id: int = 583231
    sku: str = "monthly_subscriber"
    plan: str = "individual"
    """`individual`, `business` or `enterprise`: whose seat it is, and so the real names' hosts."""
    endpoints: bool = True
    """Name the Copilot API's addresses; False leaves `endpoints` out of every answer."""
    api_base: str | None = None
    """`endpoints.api` of the exchange; None = this server."""
    exchange_form: str = "full"
    """`full`, `free` (with what is left of a free plan), `minimal` (three fields) or `odd`
    (drifted types, unknown fields)."""
    no_access: str | None = None
    """A notification id: refuse each exchange with a 403 ErrorEnvelope that carries it."""
    refused_clients: list[str] = field(default_factory=lambda: list(DIRECT_ONLY))
    """Client ids whose tokens the exchange does not know (404)."""
    known_clients: list[str] | None = None
    """Client ids that may start a device grant; None = any."""
    device_flow_disabled: bool = False
    github_token_expires_in: float | None = None
    """Issue expiring tokens with a refresh token, as GitHub Apps may."""
    direct_for_all: bool = False
    """Let the Copilot API take the GitHub tokens of VS Code and the Copilot plug-in too; those of
    all other apps it takes anyway."""
    pat_has_permission: bool = True
    """Whether fine-grained tokens (`github_pat_`) have the permission Copilot Requests."""
    lockout_after: int = 5
    """Wrong credentials of one person (or, if unreadable, one address) within a minute, before
    the next one locks them out: valid tokens too."""
    lockout_for: float = 900
    rate_limit: int = 5000
    """Requests an hour for each person at api.github.com."""
    user_form: str = "paid"
    """`GET /copilot_internal/user`: `paid` (overdrawn), `fractional`, `unlimited`, `exhausted`,
    `free`, `no_access`, `nulls` (a seat without numbers), `odd` (wrong types) or `ai_credits`."""
    billing_form: str = "several"
    """Use as billed: `several` models' premium requests, `ai_credits`, `empty`, `no_permission`
    (403), `expired` (401, which counts as a wrong credential) or `unknown_user` (404)."""

    keep_bodies: bool = False
    """Keep whole exchanges in the record (the first 1000), secrets masked: see `records.Kept`."""

    copilot_host: str | None = None
    """`Host` (with port) that the Copilot API answers to; any other gets 421. None = any."""
    require_editor: bool = True
    """Refuse who sends neither `Editor-Version` nor `Copilot-Integration-Id` (400)."""
    max_concurrent: int | None = None
    """Completions of one account under way at a time; one more gets 429 `rate_limited`."""
    requests_per_minute: int | None = None
    """Completions of one account within 60 seconds; one more gets 429 with the true rest."""
    early_grace: float = 0
    """How long after an answer with `retry-after` a request counts as under way already, and not
    as `early`; one of the very same moment never is."""
    session_lifetime: float = 3600
    """Of the tokens that `POST /models/session` issues."""
    premium_remaining: float = 87.5
    """Percent of the premium requests left, told in the quota headers."""
    chat_quirks: list[str] = field(default_factory=list)
    """Names from `quirks.QUIRKS`, for every chat answer."""
    chat_chunks: int | None = None
    """Streamed events that carry text (not streamed: words); None = one a word of the answer."""
    chat_chunk_bytes: int | None = None
    """Length of each such event's text; None = a word's."""
    chat_head_delay: float = 0
    """Before the answer's head."""
    chat_first_delay: float = 0
    """Between the head and the first byte of the body."""
    chat_interval: float = 0
    """From one write to the next, kept on the average."""
    chat_framing: str = "auto"
    """`chunked`, `length`, `close` (until the connection's end); auto = chunked for streams,
    else length."""
    chat_events_per_write: int = 1
    """Events in one write, which is one HTTP chunk; 0 = all, in one write with the head."""
    chat_split: int | None = None
    """Cut the body after every so many bytes instead, without regard to events."""
    chat_tcp_split: int | None = None
    """Cut what goes on the wire, head and chunk sizes included, after every so many bytes."""

    def __post_init__(self) -> None:
        self._check({each.name: getattr(self, each.name) for each in fields(self)})

    def change(self, changes: dict[str, Any]) -> None:
        """Set some.

        A name nobody knows raises KeyError, a value that can't be meant ValueError; both change
        nothing.
        """
        unknown = changes.keys() - {each.name for each in fields(self)}
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        self._check(changes)
        for name, value in changes.items():
            setattr(self, name, value)

    @staticmethod
    def _check(values: dict[str, Any]) -> None:
        quirks.check(values.get("chat_quirks", []))
        for name, known in _CHOICES.items():
            if name in values and values[name] not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}")
        for name in ("chat_split", "chat_tcp_split", "max_concurrent", "requests_per_minute"):
            if values.get(name) is not None and values[name] < 1:
                raise ValueError(f"{name} is at least 1")
