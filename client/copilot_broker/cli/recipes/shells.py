"""What is used from a shell: llm, and curl for all else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from copilot_broker.cli.recipes.parts import Recipe, file, kept_key, note, run, shell_with_key


if TYPE_CHECKING:
    from copilot_broker.cli.recipes.parts import Part
    from copilot_broker.cli.recipes.place import Place


__all__ = ["SHELLS"]


# -- llm: a model without `api_base` is asked where OPENAI_BASE_URL says --------------------------


def _llm(place: Place) -> list[Part]:
    return [
        kept_key(place, "llm"),
        shell_with_key(place, "llm", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
        _llm_file(place),
        run(f"llm -m copilot/{place.chat.id} 'Say hello'"),
    ]


def _llm_under_exec(place: Place) -> list[Part]:
    return [_llm_file(place), run(f"{place.run} llm -m copilot/{place.chat.id} 'Say hello'")]


def _llm_file(place: Place) -> Part:
    models = "".join(
        f"- model_id: copilot/{each.id}\n"
        f"  model_name: {each.id}\n"
        f"  supports_tools: {str(each.tools).lower()}\n"
        f"  vision: {str(bool(each.vision)).lower()}\n"
        for each in place.models
    )
    return file("~/.config/io.datasette.llm/extra-openai-models.yaml", models)


# -- curl: by the socket it needs no key, and by TCP it gets one from a pipe ---------------------


def _curl(place: Place) -> list[Part]:
    return [
        note(
            "By the socket, which is yours alone, no key is needed; by TCP a key comes by a pipe."
        ),
        run(
            'curl -sS --unix-socket "$XDG_RUNTIME_DIR/copilot-broker/http.sock" \\\n'
            f"  {_question('http://localhost/v1', place)}",
            f"{place.passing_key_line('curl')} --format header | curl -sS -H @- \\\n"
            f"  {_question(place.v1, place)}",
        ),
    ]


def _curl_under_exec(place: Place) -> list[Part]:
    return [
        note("The key goes by a pipe: what stands in curl's own arguments others can read."),
        run(
            f'{place.run} sh -c \'printf "Authorization: Bearer %s\\n" "$OPENAI_API_KEY" |\n'
            '  curl -sS -H @- "$OPENAI_BASE_URL/models"\''
        ),
    ]


def _question(url: str, place: Place) -> str:
    return (
        f"{url}/chat/completions -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{place.chat.id}",'
        ' "messages": [{"role": "user", "content": "Say hello"}]}\''
    )


SHELLS = (
    Recipe("llm", "llm", "OPENAI_BASE_URL, OPENAI_API_KEY and a file", _llm, _llm_under_exec),
    Recipe("curl", "curl", "its arguments", _curl, _curl_under_exec),
)
