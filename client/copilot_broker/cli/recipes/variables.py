"""The environment variables that point tools at the broker, and those that must not be there.

`copilot-cred exec` puts the first into the environment of its command and takes the others out;
`copilot-cred env` prints the first. Pure: nothing is read or set here.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase


__all__ = ["SCRUBBED", "is_scrubbed", "no_proxy", "variables"]

SCRUBBED = (
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GH_ENTERPRISE_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITHUB_PAT",
    "GITHUB_API_TOKEN",
    "GH_COPILOT_TOKEN",
    "COPILOT_GITHUB_TOKEN",
    "GITHUB_COPILOT_TOKEN",
    "GITHUB_COPILOT_*TOKEN",
    "GITHUB_COPILOT_API_KEY",
    "COPILOT_TOKEN",
    "COPILOT_API_KEY",
    "ANTHROPIC_API_KEY",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "OPENAI_API_TYPE",
    "OPENAI_ORGANIZATION",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT",
    "OPENAI_PROJECT_ID",
)
"""Names, as patterns (fnmatch(3)): logins at GitHub and Copilot, and what would lead a tool past
the broker or tell it who somebody is elsewhere. Anthropic's tools prefer `ANTHROPIC_API_KEY`, or
ask about it, where both that and `ANTHROPIC_AUTH_TOKEN` are set."""

_TOKEN = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"  # in a URL what stands before may be escaped
    r"(?:gh[a-z]_|github_pat_)[A-Za-z0-9_.-]{16,}"  # GitHub's token formats
    r"|(?<![A-Za-z0-9])tid=[^;\s]+;[^\s]*"  # a Copilot token
)

_HEADERS = "*_CUSTOM_HEADERS"
_CREDENTIAL = re.compile(r"(?im)^\s*(?:proxy-)?(?:authorization|x-api-key|api-key|cookie)\s*:")
"""What OpenAI's and Anthropic's libraries take headers from, and those that would take the place
of the run's key."""

_LOOPBACK = "127.0.0.1"


def variables(root_url: str, key: str) -> dict[str, str]:
    """Return what a tool needs to ask the broker at `root_url` (no slash at its end) with `key`.

    OpenAI's libraries want the base URL with `/v1`, Anthropic's without.
    """
    v1 = f"{root_url}/v1"
    return {
        "OPENAI_BASE_URL": v1,  # openai (Python, Node), llm, qwen-code, AI SDK, pydantic-ai
        "OPENAI_API_BASE": v1,  # litellm, aider, LangChain
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": root_url,  # anthropic (Python, Node), Claude Code, litellm
        "ANTHROPIC_AUTH_TOKEN": key,  # sent as Authorization: Bearer
    }


def is_scrubbed(name: str, value: str) -> bool:
    """Whether a variable is to be taken away: by its name, or as a token's shape is in its value.

    The token may stand anywhere in it: `https://ghp_…@host/`, `Authorization: token gho_…`.
    """
    if fnmatchcase(name, _HEADERS) and _CREDENTIAL.search(value):
        return True
    return any(fnmatchcase(name, each) for each in SCRUBBED) or bool(_TOKEN.search(value))


def no_proxy(*before: str | None) -> str:
    """Return `NO_PROXY` with loopback's address in it besides what was there: no proxy sees keys.

    `before` are its spellings, which are united: tools differ in which one they read. `*` excludes
    everything already (curl(1), NO_PROXY).
    """
    given = dict.fromkeys(each for each in before if each)
    hosts = [host.strip() for each in given for host in each.split(",") if host.strip()]
    if len(given) == 1 and ("*" in hosts or _LOOPBACK in hosts):
        return next(iter(given))
    return "*" if "*" in hosts else ",".join(dict.fromkeys((*hosts, _LOOPBACK)))
