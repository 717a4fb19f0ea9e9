"""Names of models, and the endpoints they are spoken to through."""

import json

import pytest

from brokerd.core.model_choice import chosen, endpoints_of, way_for, with_model


IDS = ("gpt-4.1", "claude-opus-4.8", "claude-sonnet-4.5", "claude-3.5-sonnet", "claude-haiku-4.5")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("claude-opus-4.8", "claude-opus-4.8"),
        ("claude-opus-4-8", "claude-opus-4.8"),
        ("claude-opus-4-8[1m]", "claude-opus-4.8"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4.5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4.5"),
        ("claude-3-5-sonnet-20241022", "claude-3.5-sonnet"),
        ("claude-3-5-sonnet-latest", "claude-3.5-sonnet"),
        ("claude-sonnet-3.5", "claude-3.5-sonnet"),
        ("claude-4-5-haiku", "claude-haiku-4.5"),
        # never another model than the one that was asked for
        ("claude-sonnet-5-4", "claude-sonnet-5-4"),
        ("claude-sonnet-4", "claude-sonnet-4"),
        ("claude-opus-4.8-fast", "claude-opus-4.8-fast"),
        ("gpt-4-1", "gpt-4-1"),
        ("gpt-4.1-2025-04-14", "gpt-4.1-2025-04-14"),
        ("claude", "claude"),
        ("", ""),
    ],
)
def test_names_mean_what_the_account_has(said, meant):
    assert chosen(said, {}, IDS) == meant


def test_a_name_that_could_mean_two_means_none():
    ids = ("claude-opus-4.8", "claude-opus-4-8")
    assert chosen("claude-opus-4-8-20260101", {}, ids) == "claude-opus-4-8-20260101"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("fast", "claude-haiku-4.5"),
        ("gpt-4", "gpt-4.1"),
        ("GPT-4", "GPT-4"),
        ("ring", "ring"),
        ("claude-opus-4-1", "claude-sonnet-4.5"),
        ("chain", "claude-haiku-4.5"),
    ],
)
def test_aliases(said, meant):
    aliases = {
        "fast": "claude-haiku-4-5", "gpt-4": "gpt-4.1", "ring": "round", "round": "ring",
        "claude-opus-4-1": "claude-sonnet-4.5", "claude-opus-*": "gpt-4.1", "chain": "fast",
    }  # fmt: skip
    assert chosen(said, aliases, IDS) == meant


def test_the_first_pattern_that_fits_holds():
    assert chosen("o1-mini", {"o1-*": "gpt-4.1", "o*": "claude-opus-4.8"}, IDS) == "gpt-4.1"


@pytest.mark.parametrize(
    ("entry", "endpoints"),
    [
        ({}, ["/chat/completions"]),
        ({"supported_endpoints": None}, ["/chat/completions"]),
        ({"supported_endpoints": []}, []),
        ({"supported_endpoints": ["/responses", "ws:/responses", 3]}, ["/responses"]),
        ({"capabilities": {"type": "embeddings"}}, ["/embeddings"]),
        ({"capabilities": {"type": "completion"}}, []),
        ({"capabilities": "?"}, ["/chat/completions"]),
    ],
)
def test_endpoints_of_entries(entry, endpoints):
    assert list(endpoints_of(entry)) == endpoints


@pytest.mark.parametrize(
    ("path", "endpoints", "way"),
    [
        ("/v1/messages", ["/chat/completions", "/v1/messages"], "/v1/messages"),
        ("/v1/messages", ["/responses", "/chat/completions"], "/chat/completions"),
        ("/responses", ["/v1/messages"], "/v1/messages"),
        ("/chat/completions", ["/embeddings"], None),
        ("/embeddings", ["/chat/completions"], None),
        ("/chat/completions", [], None),
    ],
)
def test_way(path, endpoints, way):
    assert way_for(path, endpoints) == way


@pytest.mark.parametrize(
    ("body", "renamed"),
    [
        (b'{"model":"a", "x": 1.10}', b'{"model":"n/e w", "x": 1.10}'),
        (b'{"x": [1], "model" : "a"}', b'{"x": [1], "model" : "n/e w"}'),
        (b"not json", b"not json"),
        (b'["model"]', b'["model"]'),
        (b'{"x": 1}', b'{"x": 1}'),
    ],
)
def test_renaming_changes_nothing_else(body, renamed):
    assert with_model(body, "n/e w") == renamed


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "a", "tools": [{"model": "b"}], "text": "€"}',
        '{"mod\\u0065l": "a", "n": 5}',
        '{"model": "a", "model": "b"}',
    ],
)
def test_renaming_where_the_name_is_hard_to_find(body):
    changed = json.loads(with_model(body.encode(), "new"))
    assert changed == {**json.loads(body), "model": "new"}
