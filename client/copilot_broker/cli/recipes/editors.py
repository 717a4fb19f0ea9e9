"""Plugins of Emacs and Neovim: gptel, CodeCompanion, avante, CopilotChat.

Each runs a command for the key, so that none stands in a file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from copilot_broker.cli.recipes.parts import Recipe, file, kept_key, run


if TYPE_CHECKING:
    from copilot_broker.cli.recipes.parts import Part
    from copilot_broker.cli.recipes.place import Place


__all__ = ["EDITORS"]

EMACS = "~/.emacs.d/init.el"
NEOVIM = "~/.config/nvim/init.lua"


# -- gptel: asks for the key with each request ---------------------------------------------------


def _gptel(place: Place) -> list[Part]:
    words = " ".join(json.dumps(word) for word in place.passing_key("gptel"))
    return [
        _gptel_file(place, f'"{place.address}"', f"(car (process-lines {words}))"),
        run("emacs -nw -f gptel"),
    ]


def _gptel_under_exec(place: Place) -> list[Part]:
    host = '(string-remove-prefix "http://" (getenv "ANTHROPIC_BASE_URL"))'
    return [
        _gptel_file(place, host, '(getenv "OPENAI_API_KEY")'),
        run(f"{place.run} emacs -nw -f gptel"),
    ]


def _gptel_file(place: Place, host: str, key: str) -> Part:
    text = f"""
(require 'gptel)
(require 'gptel-openai)
(setq gptel-model '{place.chat.id}
      gptel-backend
      (gptel-make-openai "Copilot"
        :protocol "http"
        :host {host}
        :key (lambda () {key})
        :stream t
        :models '({" ".join(each.id for each in place.models)})))
"""
    return file(EMACS, text)


# -- CodeCompanion: `cmd:` is run by a shell; a bare name is a variable of the environment -------


def _codecompanion(place: Place) -> list[Part]:
    command = f"cmd:{place.passing_key_line('codecompanion')}"
    return [_codecompanion_file(place, place.root, command), run("nvim +CodeCompanionChat")]


def _codecompanion_under_exec(place: Place) -> list[Part]:
    return [
        _codecompanion_file(place, "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"),
        run(f"{place.run} nvim +CodeCompanionChat"),
    ]


def _codecompanion_file(place: Place, url: str, key: str) -> Part:
    text = f"""
require("codecompanion").setup({{
  adapters = {{
    http = {{
      copilot_broker = function()
        return require("codecompanion.adapters").extend("openai_compatible", {{
          env = {{ url = "{url}", api_key = "{key}" }},
          schema = {{ model = {{ default = "{place.chat.id}" }} }},
        }})
      end,
    }},
  }},
  interactions = {{
    chat = {{ adapter = "copilot_broker" }},
    inline = {{ adapter = "copilot_broker" }},
    cmd = {{ adapter = "copilot_broker" }},
  }},
}})
"""
    return file(NEOVIM, text)


# -- avante: runs `cmd:` once, so what it gives must not end -------------------------------------


def _avante(place: Place) -> list[Part]:
    key = '"cmd:cat " .. vim.fn.expand("~/.config/copilot-broker/avante.key")'
    return [
        kept_key(place, "avante"),
        _avante_file(place, f'"{place.v1}"', key),
        run("nvim +AvanteAsk"),
    ]


def _avante_under_exec(place: Place) -> list[Part]:
    return [
        _avante_file(place, "vim.env.OPENAI_BASE_URL", '"OPENAI_API_KEY"'),
        run(f"{place.run} nvim +AvanteAsk"),
    ]


def _avante_file(place: Place, endpoint: str, key: str) -> Part:
    text = f"""
require("avante").setup({{
  provider = "copilot_broker",
  providers = {{
    copilot_broker = {{
      __inherited_from = "openai",
      endpoint = {endpoint},
      model = "{place.chat.id}",
      api_key_name = {key},
    }},
  }},
}})
"""
    return file(NEOVIM, text)


# -- CopilotChat: its own provider would look for a login of GitHub's. It asks where Neovim lets --
# -- no function of Vim's run, nor vim.env -------------------------------------------------------


def _copilotchat(place: Place) -> list[Part]:
    command = json.dumps(place.passing_key_line("copilotchat"))
    key = f"""local pipe = assert(io.popen({command}))
        local key = pipe:read("*l") or ""
        pipe:close()"""
    return [_copilotchat_file(place, f'"{place.v1}"', key), run("nvim +CopilotChat")]


def _copilotchat_under_exec(place: Place) -> list[Part]:
    return [
        _copilotchat_file(
            place, 'os.getenv("OPENAI_BASE_URL")', 'local key = os.getenv("OPENAI_API_KEY")'
        ),
        run(f"{place.run} nvim +CopilotChat"),
    ]


def _copilotchat_file(place: Place, url: str, key: str) -> Part:
    models = "".join(
        f'          {{ id = "{each.id}", name = "{each.id}", streaming = true,'
        f" tools = {str(each.tools).lower()} }},\n"
        for each in place.models
    )
    text = f"""
local copilot = require("CopilotChat.config.providers").copilot
require("CopilotChat").setup({{
  model = "{place.chat.id}",
  providers = {{
    copilot = {{ disabled = true }},
    copilot_broker = {{
      get_url = function()
        return {url} .. "/chat/completions"
      end,
      get_headers = function() -- and until when they hold
        {key}
        return {{ Authorization = "Bearer " .. key }}, os.time() + 600
      end,
      get_models = function()
        return {{
{models}        }}
      end,
      prepare_input = copilot.prepare_input,
      prepare_output = copilot.prepare_output,
    }},
  }},
}})
"""
    return file(NEOVIM, text)


EDITORS = (
    Recipe("gptel", "gptel (Emacs)", "a backend in init.el", _gptel, _gptel_under_exec),
    Recipe(
        "codecompanion",
        "CodeCompanion (Neovim)",
        "an adapter in its setup, with a command for the key",
        _codecompanion,
        _codecompanion_under_exec,
    ),
    Recipe(
        "avante",
        "avante (Neovim)",
        "a provider in its setup, with a command for the key",
        _avante,
        _avante_under_exec,
    ),
    Recipe(
        "copilotchat",
        "CopilotChat (Neovim)",
        "a provider in its setup, with a function for the key",
        _copilotchat,
        _copilotchat_under_exec,
    ),
)
