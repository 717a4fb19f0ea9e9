"""The forms of a lent token that other programs read: shells, curl, git, Kubernetes clients.

`get` loads this file only when one of them is asked for. Each form is one program's own language,
so each value is quoted by that program's rules or, where it has none, refused: a token must not
come out as two settings.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.report import PROGRAM, Refusal


if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


__all__ = [
    "CAPABILITY",
    "DEFAULT_PREFIX",
    "FORMATS",
    "as_curl_config",
    "as_env",
    "as_exec_credential",
    "as_git_attributes",
    "git_answer",
    "git_attributes",
]

DEFAULT_PREFIX = "COPILOT_"

EXEC_INFO = "KUBERNETES_EXEC_INFO"
EXEC_GROUP = "client.authentication.k8s.io"
EXEC_VERSIONS = (f"{EXEC_GROUP}/v1", f"{EXEC_GROUP}/v1beta1")
"""Their `status` is the same; a client takes only an answer of the version that it asks in."""

RFC3339 = "%Y-%m-%dT%H:%M:%SZ"

CAPABILITY = "authtype"
"""What git has to know before it can send a bearer: git 2.46 (git-credential(1))."""

_CURL_QUOTES = str.maketrans({"\\": "\\\\", '"': '\\"'})
_FISH_QUOTES = str.maketrans({"\\": "\\\\", "'": "\\'"})


def as_env(lease: Mapping[str, Any], options: Mapping[str, str]) -> str:
    """Return assignments for a shell, harmless whatever the values hold; they export nothing.

    `--shell fish` (fish(1), Quotes), else POSIX sh; `--prefix` begins each name.
    """
    prefix = options.get("--prefix", DEFAULT_PREFIX)
    values = {
        "TOKEN": lease["token"],
        "API_BASE": lease.get("api_base"),
        "TOKEN_EXPIRES_AT": lease.get("expires_at"),
    }
    assignment = _fish if options.get("--shell") == "fish" else _posix
    return "".join(assignment(prefix + name, str(value)) for name, value in values.items())


def _posix(name: str, value: str) -> str:
    quoted = value.replace("'", "'\"'\"'")  # Quoting: nothing else means anything in '…'
    return f"{name}='{quoted}'\n"


def _fish(name: str, value: str) -> str:
    return f"set -g {name} '{value.translate(_FISH_QUOTES)}'\n"


def as_curl_config(lease: Mapping[str, Any], _options: Mapping[str, str]) -> str:
    r"""Return what curl needs to be let in: the token, and the headers Copilot wants to see.

    For an https address curl is held to https, so that a slip of the pen in the URL cannot send
    the token in the clear. Quoted by curl(1), --config: a backslash before `\` and `"`.
    """
    headers = {**(lease.get("headers") or {}), "Authorization": f"Bearer {lease['token']}"}
    lines = [f"header = {_curl_quoted(f'{name}: {value}')}\n" for name, value in headers.items()]
    if str(lease.get("api_base")).startswith("https://"):
        lines.append('proto = "=https"\n')
    return "".join(lines)


def _curl_quoted(text: str) -> str:
    if not text.isprintable():
        message = "a header of the broker's has control characters, which no header may have"
        raise Refusal(1, "protocol", message, "see where it is from: copilot-cred doctor")
    return f'"{text.translate(_CURL_QUOTES)}"'


def as_git_attributes(lease: Mapping[str, Any], _options: Mapping[str, str]) -> str:
    """Return a credential as git writes it down: for the account's own host and no other.

    Raises Refusal (denied) where that host is not asked by https. A helper of git's answers with
    less: `git_credential.py`.
    """
    protocol, _, host = str(lease.get("api_base")).partition("://")
    if protocol != "https":
        message = "the Copilot API of this account is not asked by https, so git gets no token"
        raise Refusal(5, "not_https", message, f"see which API it is: {PROGRAM} get --format json")
    return git_attributes({"protocol": protocol, "host": host, **git_answer(lease)})


def git_answer(lease: Mapping[str, Any]) -> dict[str, str]:
    """Return what a helper answers: a bearer that is not to be kept, and when it ends."""
    return {
        "authtype": "Bearer",
        "credential": str(lease["token"]),
        "ephemeral": "1",
        "password_expiry_utc": str(int(lease["expires_at"])),
    }


def git_attributes(values: Mapping[str, str]) -> str:
    """Return attributes in lines; the capability that they need comes first."""
    lines = [f"capability[]={CAPABILITY}", *(f"{key}={value}" for key, value in values.items())]
    if not all(line.isprintable() for line in lines):
        raise ValueError("an attribute of git's is one line")
    return "\n".join(lines) + "\n"


def as_exec_credential(lease: Mapping[str, Any], _options: Mapping[str, str]) -> str:
    """Return an ExecCredential, as Kubernetes clients have it from a command (API reference, v1).

    Raises Refusal (usage) when `$KUBERNETES_EXEC_INFO` asks for a version that is not known. Its
    `interactive` needs no look: nobody is ever asked anything.
    """
    status = {
        "token": lease["token"],
        "expirationTimestamp": time.strftime(RFC3339, time.gmtime(lease["expires_at"])),
    }
    told = {"apiVersion": _exec_version(), "kind": "ExecCredential", "status": status}
    return json.dumps(told) + "\n"


def _exec_version() -> str:
    """Return the version that the client asks in; the newest when nobody asks."""
    info = os.environ.get(EXEC_INFO)
    if not info:
        return EXEC_VERSIONS[0]
    try:
        asked = json.loads(info)
        version, kind = asked["apiVersion"], asked["kind"]
    except (ValueError, TypeError, KeyError):
        version = kind = None
    if version not in EXEC_VERSIONS or kind != "ExecCredential":
        message = f"${EXEC_INFO} asks for no ExecCredential of a version known here"
        hint = f"name one in the kubeconfig's `exec`: apiVersion: {EXEC_VERSIONS[0]}"
        raise Refusal(2, "exec_version", message, hint)
    return str(version)


FORMATS: dict[str, Callable[[Mapping[str, Any], Mapping[str, str]], str]] = {
    "env": as_env,
    "curl-config": as_curl_config,
    "git-credential": as_git_attributes,
    "k8s": as_exec_credential,
}
