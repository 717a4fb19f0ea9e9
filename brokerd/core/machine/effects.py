"""What a token machine wants done. Each is a question; its answer carries its generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from brokerd.core.tokens import DeviceCode, GitHubToken, Login


__all__ = [
    "Effect",
    "ExchangeToken",
    "IdentifyUser",
    "LoadLogin",
    "PollDeviceGrant",
    "PrepareDirect",
    "RenewToken",
    "RequestDeviceCode",
    "SaveLogin",
]


@dataclass(frozen=True)
class RequestDeviceCode:
    """RFC 8628 §3.1. Answers: DeviceCodeIssued."""

    generation: int
    client_id: str
    scope: str


@dataclass(frozen=True)
class PollDeviceGrant:
    """RFC 8628 §3.4. Answers: DeviceGranted, DeviceNotGranted."""

    generation: int
    client_id: str
    code: DeviceCode


@dataclass(frozen=True)
class IdentifyUser:
    """Ask whose token this is. Answers: UserIdentified."""

    generation: int
    token: GitHubToken


@dataclass(frozen=True)
class SaveLogin:
    """Make the login durable. Answers: LoginSaved."""

    generation: int
    login: Login


@dataclass(frozen=True)
class LoadLogin:
    """Read the login that the store keeps for this account. Answers: LoginLoaded."""

    generation: int


@dataclass(frozen=True)
class ExchangeToken:
    """GitHub token → Copilot token. Answers: TokenIssued."""

    generation: int
    token: GitHubToken


@dataclass(frozen=True)
class PrepareDirect:
    """Find out where the GitHub token itself serves as bearer. Answers: TokenIssued."""

    generation: int
    token: GitHubToken


@dataclass(frozen=True)
class RenewToken:
    """Replace an expiring GitHub token (RFC 6749 §6). Answers: LoginRenewed."""

    generation: int
    client_id: str
    token: GitHubToken


Effect = (
    RequestDeviceCode
    | PollDeviceGrant
    | IdentifyUser
    | SaveLogin
    | LoadLogin
    | ExchangeToken
    | PrepareDirect
    | RenewToken
)
