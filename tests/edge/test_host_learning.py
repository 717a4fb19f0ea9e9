"""Every secret that passes GitHub's port is known to the redaction, in all its forms."""

from __future__ import annotations

import base64

from brokerd.core.device_grant import NotGranted
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, User
from brokerd.host.learning import LearningGitHub
from brokerd.host.redaction import MASK, redact


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

    async def exchange(self, token):
        return CopilotToken("odd-copilot-token", 1800, 1500, "https://api.githubcopilot.com")


async def test_every_secret_is_masked_once_it_has_passed():
    github = LearningGitHub(OddGitHub())
    code = await github.request_device_code("id", "scope")
    await github.poll_device_grant("id", code)
    await github.identify(GitHubToken("odd-brought-token"))
    await github.exchange(GitHubToken("odd-stored-token"))
    for secret in (
        "odd-device-id-scope",
        "odd-granted-token",
        "odd-refresh-token",
        "odd-brought-token",
        "odd-stored-token",
        "odd-copilot-token",
    ):
        for form in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode()):
            text = redact(f"before {form} after")
            assert form not in text
            assert MASK in text


async def test_answers_come_through_unchanged():
    plain, learning = OddGitHub(granted=False), LearningGitHub(OddGitHub(granted=False))
    code = DeviceCode("odd-other-device", "AAAA-BBBB", "https://x", 900, 5)
    token = GitHubToken("odd-other-token")
    assert await learning.poll_device_grant("id", code) == NotGranted(
        "authorization_pending", None
    )
    assert await learning.identify(token) == await plain.identify(token)
    assert await learning.exchange(token) == await plain.exchange(token)
