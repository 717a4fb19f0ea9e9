"""A GitHub that says what a test wants, without a network: for tables of many odd answers."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from typing import Any

import pytest

from brokerd.core.tokens import GitHubToken
from brokerd.errors import BrokerError, ErrorClass, TransientError
from brokerd.upstream import HttpGitHub, OriginAllowList, UpstreamSettings, urls_for
from brokerd.upstream.http import Answer


__all__ = ["CANARY", "TOKEN", "Asked", "CannedHttp", "canned", "failure_of", "said"]

CANARY = "canary-5ca1ab1e-token"
TOKEN = GitHubToken(f"gho_{CANARY}", refresh_token=f"ghr_{CANARY}")


def said(status: int, body: Any = b"", **headers: str | None) -> Answer:
    """One answer; with GitHub's request id unless `x_github_request_id=None` takes it away."""
    named = {"x_github_request_id": "0123:ABCD"} | headers
    lower = {key.replace("_", "-"): value for key, value in named.items() if value is not None}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer("https://api.github.com", status, lower, data)


@dataclass(frozen=True)
class Asked:
    method: str
    url: str
    headers: dict[str, str]
    sent: Any


class CannedHttp:
    """`upstream.HttpClient` that answers in turn, the last answer for ever."""

    def __init__(self, *answers: Answer):
        self._answers = list(answers)
        self.asked: list[Asked] = []

    async def get(self, origin, path, headers, manner=None):
        return self._answer("GET", origin + path, headers, None)

    async def post_form(self, origin, path, headers, form):
        return self._answer("FORM", origin + path, headers, form)

    async def post_json(self, origin, path, headers, value):
        return self._answer("JSON", origin + path, headers, value)

    def _answer(self, method, url, headers, sent):
        self.asked.append(Asked(method, url, dict(headers), sent))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.asked]


def canned(*answers: Answer, host: str = "github.com", **settings: Any):
    """GitHub at `host` with these answers, and what it is asked."""
    chosen = UpstreamSettings(**settings)
    http = CannedHttp(*answers)
    permitted = OriginAllowList(host, chosen)
    return HttpGitHub(urls_for(host, chosen), http=http, permitted=permitted), http


async def failure_of(awaitable, kind: type[BrokerError] = BrokerError):
    """The failure it ends with, which holds no secret, says something and names a command."""
    with pytest.raises(kind) as caught:
        await awaitable
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert CANARY not in shown
    assert caught.value.__context__ is None
    failure = caught.value.failure
    transient = failure.error_class is ErrorClass.TEMPORARY
    assert transient == isinstance(caught.value, TransientError)
    assert failure.message
    assert not failure.message.endswith(".")
    assert "copilot-cred " in failure.hint or "systemctl --user " in failure.hint
    return failure
