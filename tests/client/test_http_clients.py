"""`copilot_broker.http` makes the SDKs' clients: which httpx, what they are told, what they import.

With stand-ins for the SDKs; tests/system has the real ones.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from copilot_broker import http


if TYPE_CHECKING:
    from pathlib import Path

MAKERS = {
    "openai.OpenAI": (http.openai_client, "http://localhost/v1"),
    "openai.AsyncOpenAI": (http.async_openai_client, "http://localhost/v1"),
    "anthropic.Anthropic": (http.anthropic_client, "http://localhost"),
    "anthropic.AsyncAnthropic": (http.async_anthropic_client, "http://localhost"),
}


@pytest.fixture(params=["httpx", "httpx2"])
def httpx(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture(params=MAKERS)
def made(
    request: pytest.FixtureRequest,
    httpx: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Make a client of an SDK that is built on this httpx; it tells what it was given."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    name, _, kind = request.param.partition(".")
    sdk: Any = ModuleType(name)
    setattr(sdk, kind, dict)
    # as the SDKs have them, in a module of their own
    mine = {"__module__": f"{name}._base_client"}
    sdk.DefaultHttpxClient = type("_DefaultHttpxClient", (httpx.Client,), mine)
    sdk.DefaultAsyncHttpxClient = type("_DefaultAsyncHttpxClient", (httpx.AsyncClient,), mine)
    monkeypatch.setitem(sys.modules, name, sdk)

    def make(**options: Any) -> dict[str, Any]:
        given = MAKERS[request.param][0](**options)
        is_async = kind.startswith("Async")
        kinds = (sdk.DefaultHttpxClient, sdk.DefaultAsyncHttpxClient)
        assert type(given["http_client"]) is kinds[is_async]
        assert given["base_url"] == MAKERS[request.param][1]
        return given

    return make


def test_it_is_told_where_and_needs_no_key(made):
    assert made().keys() == {"base_url", "http_client", "api_key"}
    assert made()["api_key"] == http.KEYLESS == "not-needed"


def test_what_else_it_is_given_is_the_sdks(made):
    given = made(timeout=7.0, max_retries=5, default_headers={"x-mine": "1"}, api_key="mine")
    assert (given["timeout"], given["max_retries"], given["api_key"]) == (7.0, 5, "mine")
    assert given["default_headers"] == {"x-mine": "1"}


def test_a_token_takes_the_keys_place(made):
    given = made(auth_token="mine")
    assert (given["auth_token"], "api_key" in given) == ("mine", False)


def test_the_account_goes_with_every_request(made):
    given = made(account="work")
    assert given["http_client"].headers["x-copilot-broker-account"] == "work"
    assert "x-copilot-broker-account" not in made()["http_client"].headers


@pytest.mark.parametrize("where", ["base_url", "http_client"])
def test_what_leads_to_the_broker_cannot_be_changed(made, where):
    with pytest.raises(TypeError, match=where):
        made(**{where: "https://somewhere.example"})


@pytest.mark.parametrize(("what", "of"), [(what, of) for what, (of, _) in MAKERS.items()])
def test_a_missing_sdk_is_told_with_the_command(what, of, monkeypatch):
    name = what.partition(".")[0]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install {name}$") as caught:
        of()
    assert caught.value.name == name


def test_what_an_sdk_lacks_is_its_own_to_tell(tmp_path, monkeypatch):
    (tmp_path / "openai.py").write_text("import no_such_module_of_its_own\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openai", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught:
        http.openai_client()
    assert caught.value.name == "no_such_module_of_its_own"


LAZY = """
import sys
import copilot_broker, copilot_broker.http as http
for name in http.__all__:
    getattr(http, name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_neither_an_sdk_nor_httpx_is_imported_before_it_is_needed():
    done = subprocess.run([sys.executable, "-c", LAZY], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "copilot_broker" in loaded
    assert not loaded & {
        "anthropic",
        "anyio",
        "httpcore",
        "httpcore2",
        "httpx",
        "httpx2",
        "openai",
    }
