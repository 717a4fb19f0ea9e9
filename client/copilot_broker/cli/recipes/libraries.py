"""Libraries that programs are written with: OpenAI's and Anthropic's SDKs, litellm, LangChain.

They read the environment, so under `exec` nothing more is needed; a small program shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.recipes.parts import (
    Recipe,
    file,
    kept_key,
    note,
    run,
    shell,
    shell_with_key,
)


if TYPE_CHECKING:
    from collections.abc import Callable

    from copilot_broker.cli.recipes.parts import Part
    from copilot_broker.cli.recipes.place import Place


__all__ = ["LIBRARIES"]

OPENAI_PYTHON = """
from openai import OpenAI

answer = OpenAI().chat.completions.create(
    model="{chat}", messages=[{{"role": "user", "content": "Say hello"}}]
)
print(answer.choices[0].message.content)
"""

OPENAI_NODE = """
import OpenAI from "openai";

const answer = await new OpenAI().chat.completions.create({{
  model: "{chat}",
  messages: [{{ role: "user", content: "Say hello" }}],
}});
console.log(answer.choices[0].message.content);
"""

ANTHROPIC_PYTHON = """
from anthropic import Anthropic

answer = Anthropic().messages.create(
    model="{claude}", max_tokens=1024, messages=[{{"role": "user", "content": "Say hello"}}]
)
print(answer.content[0].text)
"""

ANTHROPIC_NODE = """
import Anthropic from "@anthropic-ai/sdk";

const answer = await new Anthropic().messages.create({{
  model: "{claude}",
  max_tokens: 1024,
  messages: [{{ role: "user", content: "Say hello" }}],
}});
console.log(answer.content[0].text);
"""

LITELLM = """
import litellm

for model in ("openai/{chat}", "anthropic/{claude}"):
    answer = litellm.completion(model, messages=[{{"role": "user", "content": "Say hello"}}])
    print(answer.choices[0].message.content)
"""

LANGCHAIN = """
import os

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

print(ChatOpenAI(model="{chat}").invoke("Say hello").text)
claude = ChatAnthropic(model="{claude}", api_key=os.environ["ANTHROPIC_AUTH_TOKEN"])
print(claude.invoke("Say hello").text)
"""

PYTHON = ("hello.py", "python3 hello.py")
NODE = ("hello.mjs", "node hello.mjs")

OPENAI = ("OPENAI_BASE_URL", "OPENAI_API_KEY")
ANTHROPIC = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")
LOCAL_PRICES = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Else it fetches a list of prices when it is imported."""


BY_SOCKET = note(
    "A Python program needs neither port nor key with copilot_broker.http: docs/sdks.md"
)


def _recipe(
    name: str,
    title: str,
    *,
    program: str,
    language: tuple[str, str],
    variables: tuple[str, ...],
    others: dict[str, str] | None = None,
) -> Recipe:  # `variables`: what `exec` sets as well; `others`: what it does not
    others = others or {}
    written = _program(program, *language)

    def by_hand(place: Place) -> list[Part]:
        exports = shell_with_key(place, name, *variables, **others)
        known = [BY_SOCKET] if language is PYTHON else []
        return [*known, kept_key(place, name), exports, *written(place, "")]

    def under_exec(place: Place) -> list[Part]:
        more = [shell(**others)] if others else [note("Nothing more is needed.")]
        return [*more, *written(place, f"{place.run} ")]

    return Recipe(name, title, "the environment", by_hand, under_exec)


def _program(text: str, path: str, command: str) -> Callable[[Place, str], list[Part]]:
    def parts(place: Place, before: str) -> list[Part]:
        source = text.format(chat=place.chat.id, claude=place.claude.id)
        return [file(path, source), run(f"{before}{command}")]

    return parts


LIBRARIES = (
    _recipe(
        "litellm",
        "litellm",
        program=LITELLM,
        language=PYTHON,
        variables=(*OPENAI, *ANTHROPIC),
        others=LOCAL_PRICES,
    ),
    _recipe(
        "langchain",
        "LangChain",
        program=LANGCHAIN,
        language=PYTHON,
        variables=(*OPENAI, *ANTHROPIC),
    ),
    _recipe(
        "openai-python",
        "openai for Python",
        program=OPENAI_PYTHON,
        language=PYTHON,
        variables=OPENAI,
    ),
    _recipe(
        "openai-node",
        "openai for Node",
        program=OPENAI_NODE,
        language=NODE,
        variables=OPENAI,
    ),
    _recipe(
        "anthropic-python",
        "anthropic for Python",
        program=ANTHROPIC_PYTHON,
        language=PYTHON,
        variables=ANTHROPIC,
    ),
    _recipe(
        "anthropic-node",
        "@anthropic-ai/sdk for Node",
        program=ANTHROPIC_NODE,
        language=NODE,
        variables=ANTHROPIC,
    ),
)
