"""Every secret that passes GitHub's port is known to the redaction, in all its forms."""

from __future__ import annotations

import base64

import pytest

from brokerd.core.machine.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.errors import BrokerError
from brokerd.host.logs.learning import LearningGitHub
from brokerd.host.logs.redaction import MASK, redact
from fakes.github import bad_refresh_token


class OddGitHub:
    """Its secrets look like no token that a pattern knows."""

    def __init__(self, *, granted=True):
        self.granted = granted

    async def request_device_code(self, client_id, scope):
        return DeviceCode(f"odd-device-{client_id}-{scope}", "AAAA-BBBB", "https://x", 900, 5)

    async def poll_device_grant(self, client_id, code):
        if not self.granted:
            return NotGranted("authorization_pending", None)
        return GitHubToken("odd-granted-token", refresh_token="odd-refresh-token")

    async def identify(self, token):
        return User(1, "octocat")

    async def renew(self, client_id, token):
        return GitHubToken(f"odd-renewed-{client_id}", refresh_token="odd-next-refresh")

    async def exchange(self, token, plan="auto"):
        return CopilotToken(f"odd-copilot-{plan}", 1800, 1500, "https://api.githubcopilot.com")

    async def direct(self, token, plan="auto"):
        return CopilotToken(f"odd-direct-{plan}", 1800, 1500, "https://api.x", is_direct=True)

    async def revoke(self, token):
        self.revoked = token


async def test_every_secret_is_masked_once_it_has_passed():
    github = LearningGitHub(OddGitHub())
    code = await github.request_device_code("id", "scope")
    await github.poll_device_grant("id", code)
    await github.identify(GitHubToken("odd-brought-token"))
    await github.exchange(GitHubToken("odd-stored-token"), "business")
    await github.renew("app", GitHubToken("odd-expiring-token", "odd-old-refresh"))
    await github.direct(GitHubToken("odd-fine-token"), "business")
    await github.revoke(GitHubToken("odd-dead-token", "odd-dead-refresh"))
    for secret in (
        "odd-device-id-scope",
        "odd-granted-token",
        "odd-refresh-token",
        "odd-brought-token",
        "odd-stored-token",
        "odd-copilot-business",
        "odd-expiring-token",
        "odd-old-refresh",
        "odd-renewed-app",
        "odd-next-refresh",
        "odd-fine-token",
        "odd-direct-business",
        "odd-dead-token",
        "odd-dead-refresh",
    ):
        for form in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode()):
            text = redact(f"before {form} after")
            assert form not in text
            assert MASK in text


async def test_answers_come_through_unchanged():
    plain, inner = OddGitHub(granted=False), OddGitHub(granted=False)
    learning = LearningGitHub(inner)
    code = DeviceCode("odd-other-device", "AAAA-BBBB", "https://x", 900, 5)
    token = GitHubToken("odd-other-token")
    assert await learning.poll_device_grant("id", code) == NotGranted(
        "authorization_pending", None
    )
    assert await learning.identify(token) == await plain.identify(token)
    assert await learning.exchange(token) == await plain.exchange(token)
    assert await learning.renew("app", token) == await plain.renew("app", token)
    assert await learning.direct(token, "business") == await plain.direct(token, "business")
    await learning.revoke(token)
    assert inner.revoked is token


async def test_what_a_refused_token_was_is_known_too():
    class Refusing(OddGitHub):
        async def renew(self, client_id, token):
            raise bad_refresh_token()

        async def revoke(self, token):
            raise bad_refresh_token()

    github = LearningGitHub(Refusing())
    for ask, name in ((lambda t: github.renew("app", t), "renew"), (github.revoke, "revoke")):
        secret = f"odd-refused-{name}"
        with pytest.raises(BrokerError):
            await ask(GitHubToken(f"{secret}-value", f"{secret}-refresh"))
        assert redact(f"{secret}-value {secret}-refresh") == f"{MASK} {MASK}"
