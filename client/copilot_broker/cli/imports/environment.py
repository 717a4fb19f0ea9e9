"""GitHub tokens in this shell's environment, which some tools use for Copilot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import GITHUB, Login
from copilot_broker.cli.token_source import VARIABLES


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["read_environment"]

OF_EDITORS = ("GH_COPILOT_TOKEN", "GITHUB_COPILOT_TOKEN")
"""What Zed and the llm plug-in read; always github.com's."""


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Login]]:
    """Yield tool, variable and login; one that is set but unusable is told of, too."""
    for name in (*VARIABLES, *OF_EDITORS):
        token = environ.get(name, "").strip()
        if not token:
            continue
        is_codespace = name == "GITHUB_TOKEN" and bool(environ.get("CODESPACES"))
        host = GITHUB if name in OF_EDITORS else environ.get("GH_HOST") or GITHUB
        yield "codespaces" if is_codespace else "environment", name, Login(token, host)
