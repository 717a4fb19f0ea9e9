"""Teach the log's redaction each secret as it passes: seen through this, GitHub is the same.

The patterns of `redaction` know how tokens look; this knows the tokens themselves, so that their
base64, hex and percent-encoded forms are found too, whatever a library puts into a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerd.core.tokens import GitHubToken
from brokerd.host.logs.redaction import register_secret


if TYPE_CHECKING:
    from brokerd.core.machine.device_grant import NotGranted
    from brokerd.core.quota import Report
    from brokerd.core.tokens import CopilotToken, DeviceCode, Pat, User
    from brokerd.ports import GitHub


__all__ = ["LearningGitHub"]


class LearningGitHub:
    """`ports.GitHub` around another; registers every secret that goes in or comes out."""

    def __init__(self, inner: GitHub) -> None:
        self._inner = inner

    async def request_device_code(self, client_id: str, scope: str) -> DeviceCode:
        """Learn the device code."""
        code = await self._inner.request_device_code(client_id, scope)
        register_secret(code.device_code)
        return code

    async def poll_device_grant(
        self, client_id: str, code: DeviceCode
    ) -> GitHubToken | NotGranted:
        """Learn the GitHub token of a granted login."""
        answer = await self._inner.poll_device_grant(client_id, code)
        if isinstance(answer, GitHubToken):
            _learn(answer)
        return answer

    async def identify(self, token: GitHubToken) -> User:
        """Learn a token that was brought along."""
        _learn(token)
        return await self._inner.identify(token)

    async def renew(self, client_id: str, token: GitHubToken) -> GitHubToken:
        """Learn both pairs: the one that dies may be quoted in what goes wrong with it."""
        _learn(token)
        renewed = await self._inner.renew(client_id, token)
        _learn(renewed)
        return renewed

    async def exchange(self, token: GitHubToken, plan: str = "auto") -> CopilotToken:
        """Learn a token that came from a store, and the one it is exchanged for."""
        _learn(token)
        minted = await self._inner.exchange(token, plan)
        register_secret(minted.value)
        return minted

    async def direct(self, token: GitHubToken, plan: str = "auto") -> CopilotToken:
        """Learn a token that came from a store."""
        _learn(token)
        found = await self._inner.direct(token, plan)
        register_secret(found.value)
        return found

    async def seat(self, token: GitHubToken) -> Report:
        """Learn a token that came from a store."""
        _learn(token)
        return await self._inner.seat(token)

    async def billing(self, pat: Pat, login: str, now: float) -> Report:
        """Learn a personal access token, kept or just brought along."""
        register_secret(pat.value)
        return await self._inner.billing(pat, login, now)

    async def revoke(self, token: GitHubToken) -> None:
        """Learn a token that came from a store, and may never have been used."""
        _learn(token)
        await self._inner.revoke(token)


def _learn(token: GitHubToken) -> None:
    register_secret(token.value)
    if token.refresh_token is not None:
        register_secret(token.refresh_token)
