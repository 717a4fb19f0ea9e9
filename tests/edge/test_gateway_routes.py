"""Which endpoint a path means."""

import pytest

from brokerd.gateway.routes import Endpoint, Route, find


@pytest.mark.parametrize("lead", ["", "/v1", "/v1/v1", "/", "//v1/"])
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/chat/completions", Route(Endpoint.COMPLETION, "/chat/completions")),
        ("/responses", Route(Endpoint.COMPLETION, "/responses")),
        ("/messages", Route(Endpoint.COMPLETION, "/v1/messages")),
        ("/messages/count_tokens", Route(Endpoint.COUNT_TOKENS)),
        ("/embeddings", Route(Endpoint.COMPLETION, "/embeddings")),
        ("/completions", Route(Endpoint.COMPLETION, "/completions")),
        ("/engines/a/b%2Fc/completions", Route(Endpoint.COMPLETION, "/completions", "a/b%2Fc")),
        ("/models", Route(Endpoint.MODELS)),
        ("/models/", Route(Endpoint.MODELS)),
        ("/models/org/name", Route(Endpoint.MODEL, model="org/name")),
        ("/healthz", Route(Endpoint.HEALTH)),
        ("/metrics", Route(Endpoint.METRICS)),
    ],
)
def test_known_paths(lead, path, route):
    assert find(lead + path) == route


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "//"])
def test_root(path):
    assert find(path) == Route(Endpoint.ROOT)


@pytest.mark.parametrize(
    "path",
    ["/v2/models", "/v1x/models", "/chat", "/Chat/Completions", "/engines//completions",
     "/token", "/v1/chat/completions/x", "/models/" + "x" * 301, "*"],
)  # fmt: skip
def test_nothing_there(path):
    assert find(path) is None
