"""Agents that write code: aider, opencode, Claude Code, Codex CLI, Continue, Crush.

What each reads was looked up in its own source. Besides address, key and model, a recipe says what
keeps the tool from turning to its makers: for updates, lists of models and prices, and figures.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.recipes.parts import (
    Recipe,
    file,
    kept_key,
    make_key,
    note,
    once,
    run,
    shell,
    shell_with_key,
)


if TYPE_CHECKING:
    from copilot_broker.cli.catalogue import Model
    from copilot_broker.cli.recipes.parts import Part
    from copilot_broker.cli.recipes.place import Place


__all__ = ["AGENTS"]

NAME = "copilot-broker"
"""Of the provider, in tools that want one."""


def _json(value: Any) -> str:
    return json.dumps(value, indent=2)


# -- aider: litellm underneath, so models are called openai/NAME ----------------------------------


def _aider(place: Place) -> list[Part]:
    return [
        kept_key(place, "aider"),
        shell_with_key(place, "aider", "OPENAI_API_BASE", "OPENAI_API_KEY"),
        *_aider_files(place),
        run("aider --no-git --message 'Say hello'"),
    ]


def _aider_under_exec(place: Place) -> list[Part]:
    return [*_aider_files(place), run(f"{place.run} aider --no-git --message 'Say hello'")]


def _aider_files(place: Place) -> list[Part]:
    model = f"openai/{place.chat.id}"
    settings = f"""
model: {model}
weak-model: {model}
editor-model: {model}
show-model-warnings: false
check-update: false
analytics: false
set-env:
  - LITELLM_LOCAL_MODEL_COST_MAP=True
"""
    known = {f"openai/{each.id}": _litellm_limits(each) for each in place.models}
    # Without this file aider fetches a list of prices from GitHub for a model it does not know.
    return [
        file("~/.aider.conf.yml", settings),
        file("~/.aider.model.metadata.json", _json(known)),
    ]


def _litellm_limits(model: Model) -> dict[str, Any]:
    limits = {"max_input_tokens": model.prompt, "max_output_tokens": model.output}
    return {
        **{name: limit for name, limit in limits.items() if limit},
        "input_cost_per_token": 0,
        "output_cost_per_token": 0,
        "litellm_provider": "openai",
        "mode": "chat",
    }


# -- opencode: {env:NAME} in its file is a variable of the environment ---------------------------


NO_FETCH = {"OPENCODE_DISABLE_MODELS_FETCH": "1"}


def _opencode(place: Place) -> list[Part]:
    return [
        kept_key(place, "opencode"),
        shell_with_key(place, "opencode", "OPENAI_BASE_URL", "OPENAI_API_KEY", **NO_FETCH),
        _opencode_file(place),
        run("opencode run 'Say hello'"),
    ]


def _opencode_under_exec(place: Place) -> list[Part]:
    return [
        shell(**NO_FETCH),
        _opencode_file(place),
        run(f"{place.run} opencode run 'Say hello'"),
    ]


def _opencode_file(place: Place) -> Part:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": NAME,
        "options": {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"},
        "models": {each.id: _opencode_model(each) for each in place.models},
    }
    settings = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"{NAME}/{place.chat.id}",
        "small_model": f"{NAME}/{place.chat.id}",
        "enabled_providers": [NAME],  # its own `openai` would send this key to OpenAI
        "provider": {NAME: provider},
        "autoupdate": False,
        "share": "disabled",
    }
    return file("~/.config/opencode/opencode.json", _json(settings))


def _opencode_model(model: Model) -> dict[str, Any]:
    about: dict[str, Any] = {"tool_call": model.tools, "attachment": bool(model.vision)}
    if model.prompt and model.output:
        about["limit"] = {"context": model.prompt, "output": model.output}
    return about


# -- Claude Code: apiKeyHelper is run by a shell, and again after a 401 --------------------------


def _claude_code(place: Place) -> list[Part]:
    settings = {
        "apiKeyHelper": place.passing_key_line("claude-code"),
        "env": {"ANTHROPIC_BASE_URL": place.root, **_claude_code_variables(place)},
    }
    return [
        file("~/.claude/settings.json", _json(settings)),
        note(
            "What stands in env there holds under copilot-cred exec as well: take it out for that."
        ),
        run("claude -p 'Say hello'"),
    ]


def _claude_code_under_exec(place: Place) -> list[Part]:
    return [shell(**_claude_code_variables(place)), run(f"{place.run} claude -p 'Say hello'")]


def _claude_code_variables(place: Place) -> dict[str, str]:
    told = {
        "ANTHROPIC_MODEL": place.claude.id,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": place.claude.id,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": place.claude.id,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": place.small.id,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # updates, figures, reports of errors
    }
    if place.claude.prompt:  # it takes a model that it does not know for one of a million tokens
        told["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(place.claude.prompt)
    return told


# -- Codex CLI: speaks /responses only; takes a command for the key, but no address from outside --


def _codex(place: Place) -> list[Part]:
    command, *arguments = place.passing_key("codex")
    key = f"""
[model_providers.{NAME}.auth]
command = "{command}"
args = {json.dumps(arguments)}
"""
    return [
        file("~/.codex/config.toml", _codex_file(place, f'base_url = "{place.v1}"', key)),
        run("codex exec --skip-git-repo-check 'Say hello'"),
    ]


def _codex_under_exec(place: Place) -> list[Part]:
    address = f'-c "model_providers.{NAME}.base_url=$OPENAI_BASE_URL"'
    return [
        file("~/.codex/config.toml", _codex_file(place, 'env_key = "OPENAI_API_KEY"')),
        run(
            f"{place.run} sh -c 'exec codex {address} \"$@\"' codex"
            " exec --skip-git-repo-check 'Say hello'"
        ),
    ]


def _codex_file(place: Place, where: str, more: str = "") -> str:
    limit = place.responses.prompt
    window = f"model_context_window = {limit}\n" if limit else ""
    return f"""
model = "{place.responses.id}"
model_provider = "{NAME}"
{window}check_for_update_on_startup = false

[model_providers.{NAME}]
name = "{NAME}"
{where}
wire_api = "responses"
{more}
[features]
plugins = false

[analytics]
enabled = false
"""


# -- Continue: `secrets` are read from its .env, then from the environment -----------------------


def _continue(place: Place) -> list[Part]:
    return [
        once(
            "mkdir -p ~/.continue",
            make_key(place, "continue", '"COPILOT_BROKER_KEY=$key" >>', "~/.continue/.env"),
        ),
        _continue_file(place, place.v1, "${{ secrets.COPILOT_BROKER_KEY }}"),
        note("The editors' extensions read the same two files."),
        run("cn -p 'Say hello'"),
    ]


def _continue_under_exec(place: Place) -> list[Part]:
    address, key = "${{ secrets.OPENAI_BASE_URL }}", "${{ secrets.OPENAI_API_KEY }}"
    return [_continue_file(place, address, key), run(f"{place.run} cn -p 'Say hello'")]


def _continue_file(place: Place, address: str, key: str) -> Part:
    first, *others = (place.chat, *(each for each in place.models if each is not place.chat))
    models = "".join(
        f"""  - name: {each.id}
    provider: openai
    model: {each.id}
    apiBase: {address}
    apiKey: {key}
    roles: [chat, edit, apply]
"""
        for each in (first, *others)
    )
    return file(
        "~/.continue/config.yaml", f"name: {NAME}\nversion: 1.0.0\nschema: v1\nmodels:\n{models}"
    )


# -- Crush: its file is Bash; a $ that Bash leaves is looked up by Crush, and again after a 401 --


def _crush(place: Place) -> list[Part]:
    key = f'"\\$({place.passing_key_line("crush")})"'
    return [
        _crush_file(place, f'"{place.v1}"', key),
        run("crush run 'Say hello'"),
    ]


def _crush_under_exec(place: Place) -> list[Part]:
    return [
        _crush_file(place, '"$OPENAI_BASE_URL"', "'$OPENAI_API_KEY'"),
        run(f"{place.run} crush run 'Say hello'"),
    ]


def _crush_file(place: Place, address: str, key: str) -> Part:
    models = "".join(f"model add {NAME}/{each.id}{_crush_limits(each)}\n" for each in place.models)
    text = f"""
provider add {NAME} --type openai-compat \\
  --base-url {address} --api-key {key}
{models}model large {NAME}/{place.chat.id}
model small {NAME}/{place.chat.id}
option default-providers false
option provider-auto-update false
option metrics false
"""
    return file("~/.config/crush/crushrc", text)


def _crush_limits(model: Model) -> str:
    limits = {"--context-window": model.prompt, "--default-max-tokens": model.output}
    return "".join(f" {flag} {limit}" for flag, limit in limits.items() if limit)


AGENTS = (
    Recipe(
        "aider",
        "aider",
        "OPENAI_API_BASE, OPENAI_API_KEY and two files",
        _aider,
        _aider_under_exec,
    ),
    Recipe(
        "opencode",
        "opencode",
        "a provider in opencode.json, which reads the environment",
        _opencode,
        _opencode_under_exec,
    ),
    Recipe(
        "claude-code",
        "Claude Code",
        "settings.json with apiKeyHelper, or the environment",
        _claude_code,
        _claude_code_under_exec,
    ),
    Recipe(
        "codex",
        "Codex CLI",
        "a provider in config.toml, with a command for the key",
        _codex,
        _codex_under_exec,
    ),
    Recipe(
        "continue",
        "Continue (cn, and the editors' extensions)",
        "models in config.yaml, their key in .env",
        _continue,
        _continue_under_exec,
    ),
    Recipe(
        "crush",
        "Crush",
        "a provider in crushrc, with a command for the key",
        _crush,
        _crush_under_exec,
    ),
)
