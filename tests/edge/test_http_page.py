"""docs/http.md says what the code does: its tables are read and held against it."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from brokerd.config import parse
from brokerd.core import token_estimate
from brokerd.core.dialects.dialect import Dialect
from brokerd.core.dialects.errors import error_body, status_of
from brokerd.core.http_guard import SOCKET_HOSTS, hosts_of, refuse
from brokerd.core.keys import KEYS_MAX
from brokerd.core.model_choice import way_for
from brokerd.core.passing import MINTED_MAX, RUNS_MAX
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass, Failure
from brokerd.gate import Gate
from brokerd.gateway import (
    catalogue,
    collected,
    completing,
    counting,
    door,
    parser,
    plan,
    replies,
    routes,
)
from brokerd.gateway.messages import Head, Request
from brokerd.gateway.metrics import Counters, Sources, metrics_page
from brokerd.gateway.session import STUCK, SessionLimits
from brokerd.sockets import crowd, files
from brokerd.upstream.h1 import StreamTimeouts
from fakes.broker import a_view
from fakes.proxy import calm


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/http.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")


def chapter(name: str) -> str:
    found = PAGE.partition(f"\n## {name}\n")[2].split("\n## ")[0]
    assert found, name
    return found


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row, those of headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rules = [at for at, line in enumerate(lines) if set(line) <= set("|-")]
    heads = {*rules, *(at - 1 for at in rules)}
    kept = [line for at, line in enumerate(lines) if at not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


def codes(cell: str) -> list[str]:
    return CODE.findall(cell)


# -- what is served ----------------------------------------------------------------------------


def test_the_endpoints_are_those_that_are_served():
    told = {codes(path)[0]: method for method, path, _ in rows(chapter("Endpoints"))[:12]}
    parts = {"/engines/{model}/completions", "/models/{id}"}
    assert set(told) == set(routes._ROUTES) | parts
    for path, method in told.items():
        for prefix in ("", "/v1"):
            route = routes.find(prefix + path.replace("{model}", "m").replace("{id}", "m"))
            assert route is not None
            assert route.methods == (("POST",) if method == "POST" else ("GET", "HEAD"))


def test_the_headers_are_those_of_the_code():
    said = set(re.findall(r"^\| `(x-copilot-broker-\w+)`", PAGE, re.MULTILINE))
    assert said == {
        completing.MODEL, completing.REPAIRED, completing.TRANSLATED, counting.ESTIMATE,
        replies.ERROR, plan.ACCOUNT,
    }  # fmt: skip
    sources = chain((ROOT / "brokerd/gateway").rglob("*.py"), (ROOT / "brokerd/proxy").rglob("*"))
    text = "".join(each.read_text() for each in sources if each.suffix == ".py")
    assert set(re.findall(r'"(x-copilot-broker-\w+)"', text)) == said


def test_the_configuration_on_the_page_is_one():
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE.partition("\n## Repairs")[0], re.DOTALL)
    config = parse(toml, Path())
    assert config.http.tcp == "127.0.0.1:4141"
    assert config.http.keepalive == parse("", Path()).http.keepalive
    assert dict(config.models.aliases) == tomllib.loads(toml)["models"]["aliases"]


def test_each_endpoint_is_translated_to_the_ones_it_says():
    table = [row for row in rows(chapter("Translation")) if row[1] == "only others"]
    assert len(table) == 3
    for asked, _, ways in table:
        first, second = codes(ways)
        (path,) = codes(asked)
        assert way_for(path, (second, first)) == first
        assert way_for(path, (second,)) == second
        assert way_for(path, ("/embeddings",)) is None
    assert way_for("/embeddings", ("/chat/completions",)) is None


# -- errors ------------------------------------------------------------------------------------

CLASSES = {
    "login_required": ErrorClass.LOGIN_REQUIRED,
    "scope_too_low": ErrorClass.DENIED,
    "model_not_granted": ErrorClass.DENIED,
    "internal": ErrorClass.INTERNAL,
}


@pytest.mark.parametrize("row", rows(chapter("Errors")), ids=lambda row: row[0])
def test_a_status_has_the_types_that_it_says(row):
    status, when, openai, anthropic = row
    failure = Failure(ErrorClass.USAGE, "any", "any")
    body = error_body(Dialect.CHAT, int(status), failure).decode()
    assert f'"type":"{codes(openai)[0]}"' in body
    body = error_body(Dialect.MESSAGES, int(status), failure).decode()
    assert f'"type":"{codes(anthropic)[0]}","message"' in body
    if status == "502":
        return  # said where it is found
    for code in codes(when):
        failure = Failure(CLASSES.get(code, ErrorClass.USAGE), code, "any")
        assert status_of(failure) == int(status), code


# -- who is kept out ---------------------------------------------------------------------------

FOREIGN = {
    "host": [{"host": "localhost:4141"}, {"host": "evil.example:4141"}, {}],
    "origin": [{"origin": "null"}, {"access-control-request-method": "POST"}],
    "referer": [{"referer": ""}],
    "cross_site": [{"sec-fetch-site": "same-site"}, {"sec-fetch-site": "cross-site"}],
    "forwarded": [{"forwarded": ""}, {"via": ""}, {"x-forwarded-for": ""}, {"x-real-ip": ""}],
    "content_type": [{"content-type": "text/plain"}, {"content-type": ""}],
}


def test_the_reasons_are_those_of_the_guard():
    assert [codes(reason)[0] for reason, _ in rows(chapter("Who is kept out"))] == list(FOREIGN)


@pytest.mark.parametrize(
    ("reason", "headers"),
    [(reason, headers) for reason, each in FOREIGN.items() for headers in each],
    ids=str,
)
def test_what_it_says_is_refused_is(reason, headers):
    sound = {"host": "127.0.0.1:4141", "content-type": "application/json"}
    own = hosts_of("127.0.0.1:4141")
    assert refuse("POST", sound, own, has_body=True) is None
    sent = headers if reason == "host" else {**sound, **headers}
    assert refuse("POST", sent, own, has_body=True) == reason


def test_the_names_of_the_socket():
    (host,) = [told for reason, told in rows(chapter("Who is kept out")) if "`host`" in reason]
    assert set(codes(host.partition("On the socket")[2])) | {""} == SOCKET_HOSTS


# -- numbers -----------------------------------------------------------------------------------


def test_the_bounds_are_those_of_the_code():
    mib, kib = 1 << 20, 1 << 10
    limits, upstream = SessionLimits(), StreamTimeouts()
    assert limits.max_body == parser.MAX_BODY
    assert limits.head == limits.progress
    assert upstream.head == upstream.idle
    assert f"for {catalogue.WAIT:.0f} seconds at most" in chapter("Models")
    assert {of: most for of, most, _ in rows(chapter("Bounds"))} == {
        "a request's body": f"{parser.MAX_BODY // mib} MiB",
        "a request's head": f"{parser.MAX_HEAD // kib} KiB, {parser.MAX_HEADERS} headers",
        "a request's first line": f"{parser.MAX_LINE // kib} KiB",
        "an answer that is collected": (
            f"{collected.BODY_MAX // mib} MiB; {collected.HELD_MAX // mib} MiB of all together"
        ),
        "buffers of all connections": f"{door.TOTAL_BUFFERS // mib} MiB",
        "connections": f"{files.HTTP_CONNECTIONS}, fewer under a low file limit",
        "connections of one process": f"{crowd.OF_ONE_PROCESS}, where others want in",
        "time for a head, or between two reads of a body": f"{limits.head:.0f} s",
        "time for a body": f"{limits.body:.0f} s",
        "time without a byte of the answer taken": (
            f"{limits.unread:.0f} s; {STUCK:.0f} s where others want in"
        ),
        "silence of Copilot": f"{upstream.idle:.0f} s",
        "keys": str(KEYS_MAX),
        "runs (`exec`)": str(RUNS_MAX),
        "minted keys (`get --model`)": str(MINTED_MAX),
    }


def test_the_error_of_the_estimate_is_as_it_was_measured():
    measured = re.findall(
        r"^ {4}(\w+) +(\d+ %) +(\S+ %) +(\d+ %) +(\S+ %)$", token_estimate.__doc__, re.MULTILINE
    )
    assert len(measured) == 5
    assert [tuple(row) for row in rows(chapter("Token counts"))] == measured


def test_the_metrics_are_those_on_the_page():
    counters = Counters(lambda _account: [{"id": "m"}])
    counters.begun()
    counters.ended(
        "/responses", 429, account="default", model="m", client="c", code="x", seconds=1.0,
        head_seconds=0.5, usage=None,
    )  # fmt: skip
    sources = Sources(
        accounts=lambda: [a_view()],
        pacing=lambda _account: calm(),
        exchanges=lambda: {("default", ""): 1},
        connections=lambda: {"http": 1},
    )
    caller = Gate(own_uid=1000).admit(Peer(pid=1, uid=1000, gid=1000), "http")
    page = metrics_page(Request(Head("GET", "/metrics", "", {}), b""), caller, counters, sources)
    caller.close()
    served = {}
    for family in text_string_to_metric_families(page.body.decode()):
        labels = {label for each in family.samples for label in each.labels} - {"le"}
        total = "_total" if family.type == "counter" else ""
        served[family.name + total] = labels
    served["copilot_broker_tokens_total"] = {"kind", "account", "model", "client"}  # none yet
    told = {codes(name)[0]: by for name, _, by in rows(chapter("Metrics"))}
    assert {name: {each for each in by.split(", ") if each} for name, by in told.items()} == served
