"""Where each tool keeps its login: the folders and overrides that tool itself goes by.

XDG folders count only when absolute, as the specification has it (XDG Base Directory 0.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from copilot_broker.cli.imports.copilot_chat import read_copilot_chat
from copilot_broker.cli.imports.copilot_cli import read_copilot_cli
from copilot_broker.cli.imports.crush import read_crush
from copilot_broker.cli.imports.editors import read_apps, read_database, read_hosts
from copilot_broker.cli.imports.exchanged import read_exchanged
from copilot_broker.cli.imports.found import Login
from copilot_broker.cli.imports.gh import read_gh
from copilot_broker.cli.imports.gptel import read_gptel, read_gptel_token
from copilot_broker.cli.imports.llm import read_llm_keys
from copilot_broker.cli.imports.mystatus import read_mystatus_token
from copilot_broker.cli.imports.opencode import read_opencode, read_pi
from copilot_broker.cli.imports.raw import read_raw
from copilot_broker.cli.imports.reading import MIB


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["Place", "places"]

Reader: TypeAlias = Callable[[bytes], Iterable[Login]]

DATABASE_MOST = 16 * MIB
"""Bytes of an `auth.db`: it may hold more than logins."""


@dataclass(frozen=True)
class Place:
    """One file of one tool, which may or may not be there."""

    tool: str
    path: Path
    read: Reader
    most: int = MIB
    """Bytes; a larger file is not of that tool."""
    fights: bool = True
    """Whether the tool asks Copilot with what it finds there."""


def places(environ: Mapping[str, str], home: Path, here: Path) -> Iterator[Place]:
    """Yield all places, in a fixed order; `here` is the working folder."""
    config = _folder(environ, "XDG_CONFIG_HOME", home / ".config")
    data = _folder(environ, "XDG_DATA_HOME", home / ".local/share")
    yield from _editors("editors", config / "github-copilot")
    moved = environ.get("CODECOMPANION_TOKEN_PATH")
    if moved:
        yield from _editors("codecompanion", here / moved / "github-copilot")
    # these have it from the home folder, whatever XDG says
    yield Place("copilot-api", home / ".local/share/copilot-api/github_token", read_raw)
    yield Place("token-file", home / ".copilot_github_token", read_raw)
    yield Place("copilot-api-b00", here / ".copilot_token", read_raw)
    yield from _litellm(environ, home, here)
    yield Place("opencode", data / "opencode/auth.json", read_opencode)
    plan = home / ".config/opencode/copilot-quota-token.json"
    yield Place("opencode-mystatus", plan, read_mystatus_token, fights=False)
    gh = _folder(environ, "GH_CONFIG_DIR", config / "gh", here)
    yield Place("gh", gh / "hosts.yml", read_gh, fights=False)
    copilot = _folder(environ, "COPILOT_HOME", home / ".copilot", here)
    yield Place("copilot-cli", copilot / "config.json", read_copilot_cli)
    pi = _folder(environ, "PI_CODING_AGENT_DIR", home / ".pi/agent", here)
    yield Place("pi", pi / "auth.json", read_pi)
    crush = _folder(environ, "CRUSH_GLOBAL_DATA", data / "crush", here)
    yield Place("crush", crush / "crush.json", read_crush)
    nvim = data / (environ.get("NVIM_APPNAME") or "nvim")  # stdpath("data")
    yield Place("copilotchat", nvim / "copilot_chat/tokens.json", read_copilot_chat)
    yield Place("avante", nvim / "avante/github-copilot.json", read_exchanged)
    for emacs in (home / ".emacs.d", config / "emacs"):
        cache = emacs / ".cache/copilot-chat"
        yield Place("gptel", cache / "github-token", read_gptel)
        yield Place("gptel", cache / "token", read_gptel_token)
    llm = _folder(environ, "LLM_USER_PATH", config / "io.datasette.llm", here)
    yield Place("llm", llm / "keys.json", read_llm_keys)
    name = environ.get("GITHUB_COPILOT_API_KEY_FILE") or "github_copilot_api_key.json"
    yield Place("llm", llm / name, read_exchanged)


def _editors(tool: str, folder: Path) -> Iterator[Place]:
    yield Place(tool, folder / "apps.json", read_apps)
    yield Place(tool, folder / "hosts.json", read_hosts)
    yield Place(tool, folder / "auth.db", read_database, DATABASE_MOST)


def _litellm(environ: Mapping[str, str], home: Path, here: Path) -> Iterator[Place]:
    folder = _folder(
        environ, "GITHUB_COPILOT_TOKEN_DIR", home / ".config/litellm/github_copilot", here
    )
    login = environ.get("GITHUB_COPILOT_ACCESS_TOKEN_FILE") or "access-token"
    token = environ.get("GITHUB_COPILOT_API_KEY_FILE") or "api-key.json"
    yield Place("litellm", folder / login, read_raw)
    yield Place("litellm", folder / token, read_exchanged)


def _folder(
    environ: Mapping[str, str], name: str, default: Path, here: Path | None = None
) -> Path:
    """Return what a variable names; a relative folder counts only with `here`, where it begins."""
    given = environ.get(name, "")
    if not given or (here is None and not Path(given).is_absolute()):
        return default
    return Path(given) if here is None else here / given  # an absolute one replaces `here`
