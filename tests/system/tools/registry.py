"""Which of the tools that have a recipe are run here, out of what, and what they do besides."""

from __future__ import annotations

from dataclasses import dataclass


__all__ = ["ALL", "COMMAND", "NOT_RUN", "TOOLS", "Tool"]

ALL = "COPILOT_BROKER_ALL_TOOLS"
"""`1`: run those as well that are too large for every run."""

COMMAND = "python tests/system/tools/all.py"
"""What does that, and tells versions and figures."""


@dataclass(frozen=True)
class Tool:
    """One that installs from a registry."""

    environment: str
    """Of `clients.install`."""
    package: str
    """Whose version is told."""
    programs: dict[str, str]
    """Name → how it is run out of `{folder}`, by `{node}` if need be."""
    models: tuple[str, ...]
    """Which answer, one after the other."""
    in_every_run: bool = True
    domains: frozenset[str] = frozenset()
    """Whom it turns to all the same, whatever its recipe sets: names without what is around them."""
    uses_modules: bool = False
    """Its program imports from Node's folder."""


PYTHON = {"python3": "{folder}/bin/python"}
NODE = {"node": "{node}"}

TOOLS = {
    "aider": Tool(
        "aider",
        "aider-chat",
        {"aider": "{folder}/bin/python -m aider"},
        ("sim-chat",),
        in_every_run=False,
    ),
    "opencode": Tool(
        "opencode",
        "opencode-linux-x64",
        {"opencode": "{folder}/node_modules/opencode-linux-x64/bin/opencode"},
        ("sim-chat",),
        in_every_run=False,
        domains=frozenset({"npmjs"}),
    ),
    "claude-code": Tool(
        "claude-code",
        "@anthropic-ai/claude-code",
        {"claude": "{folder}/node_modules/@anthropic-ai/claude-code-linux-*/claude"},
        ("sim-claude",),
    ),
    "codex": Tool(
        "codex",
        "@openai/codex",
        {"codex": "{node} {folder}/node_modules/@openai/codex/bin/codex.js"},
        ("sim-responses",),
    ),
    "continue": Tool(
        "continue",
        "@continuedev/cli",
        {"cn": "{node} {folder}/node_modules/@continuedev/cli/dist/cn.js"},
        ("sim-chat",),
        domains=frozenset({"continue"}),
    ),
    "llm": Tool("llm", "llm", {"llm": "{folder}/bin/python -m llm"}, ("sim-chat",)),
    "litellm": Tool("litellm", "litellm", PYTHON, ("sim-chat", "sim-claude")),
    "langchain": Tool("langchain", "langchain-openai", PYTHON, ("sim-chat", "sim-claude")),
    "openai-python": Tool("sdk", "openai", PYTHON, ("sim-chat",)),
    "openai-node": Tool("node", "openai", NODE, ("sim-chat",), uses_modules=True),
    "anthropic-python": Tool("sdk", "anthropic", PYTHON, ("sim-claude",)),
    "anthropic-node": Tool(
        "anthropic-node", "@anthropic-ai/sdk", NODE, ("sim-claude",), uses_modules=True
    ),
}

NOT_RUN = {
    "crush": "its npm package fetches the program from GitHub when it is installed",
    "gptel": "in no registry: Emacs installs it from ELPA",
    "codecompanion": "in no registry, and wants a newer Neovim than Debian 12 has",
    "avante": "in no registry, and wants a newer Neovim than Debian 12 has",
    "copilotchat": "in no registry, and wants a newer Neovim than Debian 12 has",
}
"""Those that do not install here, and why."""
