"""Logins as other tools write them into a home folder: every shape that is known."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


PLUGIN = "Iv1.b507a08c87ecfe98"
OPENCODE = "Ov23li8tweQw6odWQebz"
CLI = "Ov23ctDVkRmgkPke0Mmm"
GH = "178c6fc778ccc68e1d6a"
COPILOT_TOKEN = "tid=1;exp=1800000000;sku=monthly_subscriber;8kp=1:canary"
V2_TOKEN = {"token": COPILOT_TOKEN, "expires_at": 1800000000, "refresh_in": 1500}


def gho(name="octocat"):
    return f"gho_CANARY{name}{'0' * 20}"


def ghu(name="octocat"):
    return f"ghu_CANARY{name}{'0' * 20}"


PAT = "github_pat_11CANARY" + "a" * 40


@dataclass
class Shape:
    """A file, and what is to be found in it: (tool, host, user, kind, app, problem, token)."""

    path: str
    data: bytes
    found: list = field(default_factory=list)
    environ: dict = field(default_factory=dict)


def js(value):
    return json.dumps(value, indent=2).encode()


def taken(tool, token, *, host="github.com", user="", app=""):
    kind = "github_pat_" if token.startswith("github_pat_") else token[:4]
    return (tool, host, user, kind, app, "", token)


def refused(tool, problem, kind="-", *, host="github.com", user="", token="", app=""):
    return (tool, host, user, kind, app, problem, token)


SHORT_LIVED = "a short-lived token only, nothing to take"


def database(*rows, wal=False):
    """Return the bytes of an `auth.db`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "auth.db"
        base = sqlite3.connect(path)
        if wal:
            base.execute("PRAGMA journal_mode = WAL")
        base.execute(
            "CREATE TABLE oauth_tokens (auth_authority TEXT, token_ciphertext TEXT, x INT)"
        )
        base.executemany("INSERT INTO oauth_tokens VALUES (?, ?, 1)", rows)
        base.commit()
        if wal:
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        base.close()
        return path.read_bytes()


APPS = {
    f"github.com:{PLUGIN}": {"user": "octocat", "oauth_token": ghu(), "githubAppId": PLUGIN},
    "github.com:Iv23own": {"user": "hubot", "oauth_token": ghu("b"), "githubAppId": "Iv23own"},
    f"acme.ghe.com:{PLUGIN}": {"user": "mona", "oauth_token": ghu("t"), "githubAppId": PLUGIN},
    f"evil.example/github.com:{PLUGIN}": {"user": "x", "oauth_token": ghu("e")},
    "github.com.evil.example:x": {"user": "x", "oauth_token": ghu("f")},
}
NO_COPILOT = "it is one of a host that has no Copilot"
FOUND_APPS = [
    taken("editors", ghu(), user="octocat", app=PLUGIN),
    taken("editors", ghu("b"), user="hubot", app="Iv23own"),
    taken("editors", ghu("t"), host="acme.ghe.com", user="mona", app=PLUGIN),
    refused(
        "editors", NO_COPILOT, "ghu_", host="evil.example", user="x", app=PLUGIN, token=ghu("e")
    ),
    refused(
        "editors",
        NO_COPILOT,
        "ghu_",
        host="github.com.evil.example",
        user="x",
        app="x",
        token=ghu("f"),
    ),
]

HOSTS_YML = f"""\
github.com:
    git_protocol: https
    users:
        octocat:
            oauth_token: {gho()}
        hubot:
    user: octocat
    oauth_token: {gho()}
acme.ghe.com:
    user: 'mona'
    git_protocol: "ssh"  # by hand
ghes.example.org:
    oauth_token: {gho("g")}
"""

COPILOT_CLI = f"""\
// User settings belong in settings.json.
// This file is managed automatically. "quoted" // twice
{{
  "loggedInUsers": [
    {{"host": "https://github.com", "login": "octocat"}}, // the first
    {{"host": "https://acme.ghe.com", "login": "mona"}}
  ],
  "lastLoggedInUser": {{"host": "https://github.com", "login": "octocat"}},
  // plain text
  "copilotTokens": {{"https://github.com:octocat": "{gho()}"}},
  "storeTokenPlaintext": true
}}
"""
OLD_CLI = {
    "logged_in_users": [{"host": "https://github.com", "login": "octocat"}],
    "copilot_tokens": {"https://acme.ghe.com:mona": gho("t")},
}
IN_KEYRING = "in the keyring, which only the Copilot CLI reads"
FOUND_CLI = [
    taken("copilot-cli", gho(), user="octocat", app=CLI),
    refused("copilot-cli", IN_KEYRING, host="acme.ghe.com", user="mona"),
]

AUTH = {"type": "oauth", "access": COPILOT_TOKEN, "expires": 1800000000000}
CRUSH = {"models": {}, "providers": {"copilot": {"api_key": COPILOT_TOKEN, "oauth": {
    "access_token": COPILOT_TOKEN, "refresh_token": ghu(), "expires_in": 1500, "expires_at": 1}}}}  # fmt: skip
LITELLM = ".config/litellm/github_copilot"
LLM = ".config/io.datasette.llm"
DATA = ".local/share"

SHAPES = {
    "apps.json": Shape(".config/github-copilot/apps.json", js(APPS), FOUND_APPS),
    "apps.json elsewhere": Shape(
        "conf/github-copilot/apps.json", js(APPS), FOUND_APPS, {"XDG_CONFIG_HOME": "{home}/conf"}
    ),
    "XDG folders are absolute": Shape(
        ".config/github-copilot/apps.json", js(APPS), FOUND_APPS, {"XDG_CONFIG_HOME": "conf"}
    ),
    "apps.json of codecompanion": Shape(
        "cc/github-copilot/apps.json",
        js({f"github.com:{PLUGIN}": {"user": "octocat", "oauth_token": ghu()}}),
        [taken("codecompanion", ghu(), user="octocat", app=PLUGIN)],
        {"CODECOMPANION_TOKEN_PATH": "{home}/cc"},
    ),
    "hosts.json": Shape(
        ".config/github-copilot/hosts.json",
        js({"github.com": {"user": "octocat", "oauth_token": gho()}, "acme.ghe.com": {"oauth_token": ghu()}, "x": 3}),
        [
            taken("editors", gho(), user="octocat"),
            taken("editors", ghu(), host="acme.ghe.com", app=PLUGIN),
            refused("editors", "an entry of another form", host="x"),
        ],
    ),
    "auth.db": Shape(
        ".config/github-copilot/auth.db",
        database(("github.com", ghu()), ("acme.ghe.com", b"\x00\x01enc"), ("github.com", None)),
        [
            taken("editors", ghu(), app=PLUGIN),
            refused("editors", "encrypted, or of a form that is not known", host="acme.ghe.com"),
            refused("editors", "encrypted, or of a form that is not known"),
        ],
    ),
    "auth.db with a log": Shape(
        ".config/github-copilot/auth.db",
        database(("github.com", gho()), wal=True),
        [taken("editors", gho())],
    ),
    "copilot-api": Shape(
        f"{DATA}/copilot-api/github_token", ghu().encode(), [taken("copilot-api", ghu(), app=PLUGIN)]
    ),
    "copilot-api has it from the home": Shape(
        f"{DATA}/copilot-api/github_token",
        ghu().encode() + b"\n",
        [taken("copilot-api", ghu(), app=PLUGIN)],
        {"XDG_DATA_HOME": "{home}/elsewhere"},
    ),
    "token file": Shape(".copilot_github_token", gho().encode() + b"\r\n", [taken("token-file", gho())]),
    "copilot-api of B00": Shape(
        ".copilot_token", ghu().encode(), [taken("copilot-api-b00", ghu(), app=PLUGIN)]
    ),
    "litellm": Shape(f"{LITELLM}/access-token", ghu().encode(), [taken("litellm", ghu(), app=PLUGIN)]),
    "litellm elsewhere": Shape(
        "lite/mine",
        ghu().encode(),
        [taken("litellm", ghu(), app=PLUGIN)],
        {"GITHUB_COPILOT_TOKEN_DIR": "{home}/lite", "GITHUB_COPILOT_ACCESS_TOKEN_FILE": "mine"},
    ),
    "litellm's token": Shape(
        f"{LITELLM}/api-key.json",
        js({**V2_TOKEN, "endpoints": {"api": "https://api.individual.githubcopilot.com"}}),
        [refused("litellm", SHORT_LIVED, "copilot", token=COPILOT_TOKEN)],
    ),
    "opencode": Shape(
        f"{DATA}/opencode/auth.json",
        js({"anthropic": {"type": "api", "key": "sk-canary"}, "github-copilot": {**AUTH, "refresh": gho(), "access": gho(), "expires": 0}}),
        [taken("opencode", gho(), app=OPENCODE)],
    ),
    "opencode on a tenant": Shape(
        "data/opencode/auth.json",
        js({
            "github-copilot": {**AUTH, "refresh": ghu()},
            "github-copilot-enterprise": {**AUTH, "refresh": gho("t"), "enterpriseUrl": "https://Acme.ghe.com/"},
        }),
        [
            taken("opencode", ghu(), app=PLUGIN),
            taken("opencode", gho("t"), host="acme.ghe.com", app=OPENCODE),
        ],
        {"XDG_DATA_HOME": "{home}/data"},
    ),
    "opencode without a login": Shape(
        f"{DATA}/opencode/auth.json",
        js({"github-copilot": AUTH, "github-copilot-enterprise": "no"}),
        [refused("opencode", SHORT_LIVED), refused("opencode", "an entry of another form")],
    ),
    "opencode with others' keys": Shape(f"{DATA}/opencode/auth.json", js({"openai": {"key": "sk"}})),
    "opencode-mystatus": Shape(
        ".config/opencode/copilot-quota-token.json",
        js({"token": PAT, "username": "octocat", "tier": "pro"}),
        [refused("opencode-mystatus", "it reads the bill only; copilot-cred quota uses it", "github_pat_", user="octocat", token=PAT)],
    ),
    "pi": Shape(
        ".pi/agent/auth.json",
        js({"github-copilot": {**AUTH, "refresh": ghu(), "enterpriseUrl": "acme.ghe.com"}}),
        [taken("pi", ghu(), host="acme.ghe.com", app=PLUGIN)],
    ),
    "pi elsewhere": Shape(
        "agent/auth.json",
        js({"github-copilot": {**AUTH, "refresh": ghu()}}),
        [taken("pi", ghu(), app=PLUGIN)],
        {"PI_CODING_AGENT_DIR": "{home}/agent"},
    ),
    "crush": Shape(f"{DATA}/crush/crush.json", js(CRUSH), [taken("crush", ghu(), app=PLUGIN)]),
    "crush elsewhere": Shape(
        "crush/crush.json", js(CRUSH), [taken("crush", ghu(), app=PLUGIN)], {"CRUSH_GLOBAL_DATA": "{home}/crush"}
    ),
    "crush with others' keys": Shape(f"{DATA}/crush/crush.json", js({"providers": {"openai": {}}})),
    "Copilot CLI": Shape(".copilot/config.json", COPILOT_CLI.encode(), FOUND_CLI),
    "Copilot CLI elsewhere": Shape(
        "cop/config.json", COPILOT_CLI.encode(), FOUND_CLI, {"COPILOT_HOME": "{home}/cop"}
    ),
    "Copilot CLI, older": Shape(
        ".copilot/config.json",
        js(OLD_CLI),
        [
            taken("copilot-cli", gho("t"), host="acme.ghe.com", user="mona", app=CLI),
            refused("copilot-cli", IN_KEYRING, user="octocat"),
        ],
    ),
    "CopilotChat": Shape(
        f"{DATA}/nvim/copilot_chat/tokens.json",
        js({"github_copilot": ghu(), "github_models": gho("m"), "other": "sk-canary"}),
        [taken("copilotchat", ghu(), app=PLUGIN), taken("copilotchat", gho("m"), app=GH)],
    ),
    "CopilotChat of another Neovim": Shape(
        f"{DATA}/lazyvim/copilot_chat/tokens.json",
        js({"github_copilot": ghu()}),
        [taken("copilotchat", ghu(), app=PLUGIN)],
        {"NVIM_APPNAME": "lazyvim"},
    ),
    "avante": Shape(
        f"{DATA}/nvim/avante/github-copilot.json",
        js(V2_TOKEN),
        [refused("avante", SHORT_LIVED, "copilot", token=COPILOT_TOKEN)],
    ),
    "gptel": Shape(
        ".emacs.d/.cache/copilot-chat/github-token", f'"{ghu()}"'.encode(), [taken("gptel", ghu(), app=PLUGIN)]
    ),
    "gptel, XDG": Shape(
        ".config/emacs/.cache/copilot-chat/github-token",
        f'"{ghu()}"\n'.encode(),
        [taken("gptel", ghu(), app=PLUGIN)],
    ),
    "gptel's token": Shape(
        ".emacs.d/.cache/copilot-chat/token",
        f'(:token "{COPILOT_TOKEN}" :expires_at 1800000000 :refresh_in 1500)'.encode(),
        [refused("gptel", SHORT_LIVED, "copilot", token=COPILOT_TOKEN)],
    ),
    "llm": Shape(
        f"{LLM}/keys.json",
        js({"// Note": "This file stores secret API credentials. Do not share!", "openai": "sk-canary", "github_copilot_access_token": ghu()}),
        [taken("llm", ghu(), app=PLUGIN)],
    ),
    "llm's token": Shape(
        "llm/github_copilot_api_key.json",
        js(V2_TOKEN),
        [refused("llm", SHORT_LIVED, "copilot", token=COPILOT_TOKEN)],
        {"LLM_USER_PATH": "{home}/llm"},
    ),
}  # fmt: skip
"""All but gh's, whose findings depend on whether gh is installed."""


def plant(home, shape, mode=0o600):
    """Write a shape's file below `home`; return its path."""
    path = Path(home) / shape.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(shape.data)
    path.chmod(mode)
    return path
