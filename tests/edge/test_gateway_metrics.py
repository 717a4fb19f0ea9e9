"""What the HTTP door counts, within bounds, and how it is scraped."""

import sys
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from brokerd.core.access import Rule
from brokerd.core.peer import Peer
from brokerd.core.usage_tail import Usage
from brokerd.gate import Gate
from brokerd.gateway.messages import Head, Request
from brokerd.gateway.metrics import Counters, Sources, client_of, metrics_page
from brokerd.gateway.metrics.counters import MAX_CLIENTS, MAX_CODES, MAX_MODELS, Histogram
from fakes.broker import a_view
from fakes.proxy import calm


CHAT = "/chat/completions"
LISTED = [{"id": "gpt"}, {"id": "claude"}, {"name": "unfinished"}]


def counters():
    return Counters(lambda _account: LISTED)


def scraped(counted, *, rules=(), accept="", **changes):
    sources = Sources(
        accounts=lambda: [a_view(), a_view(name="work", default=False)],
        pacing=lambda _account: calm(),
        exchanges=lambda: {("default", ""): 3, ("work", "network"): 2},
        connections=lambda: {"http": 4, "rpc": 1},
    )
    caller = Gate(rules, own_uid=1000).admit(Peer(pid=1, uid=1000, gid=1000), "http")
    request = Request(Head("GET", "/metrics", "", {"accept": accept}), b"")
    reply = metrics_page(request, caller, counted, replace(sources, **changes))
    caller.close()
    assert reply.headers["cache-control"] == "no-store"
    return reply


ORDER = ("endpoint", "kind", "status", "account", "model", "client", "code", "le", "listener")


def named(sample):
    """Names of labels in an order that the library's versions do not change."""
    return sorted(sample.labels, key=ORDER.index)


def samples(*args, **changes):
    text = scraped(*args, **changes).body.decode()
    return {
        (
            sample.name.removeprefix("copilot_broker_"),
            *map(sample.labels.get, named(sample)),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_request_is_counted_by_all_that_it_was():
    counted = counters()
    for _ in range(2):
        counted.begun()
        counted.ended(
            CHAT, 200, account="default", model="gpt", client="editor", seconds=3.0,
            head_seconds=0.2, usage=Usage(10, 5, 4, 15),
        )  # fmt: skip
    counted.begun()
    counted.ended(CHAT, 429, account="default", model="gpt", client="editor", code="rate_limited")
    counted.begun()
    found = samples(counted)
    whose = ("default", "gpt", "editor")
    assert found["requests_total", CHAT, "2xx", *whose] == 2
    assert found["requests_total", CHAT, "4xx", *whose] == 1
    assert found["tokens_total", "prompt", *whose] == 20
    assert found["tokens_total", "completion", *whose] == 10
    assert found["tokens_total", "cached", *whose] == 8
    assert found["errors_total", CHAT, "rate_limited"] == 1
    assert found["requests_in_flight",] == 1


def test_latencies_are_counted_up_to_each_bound():
    counted = counters()
    for seconds in (0.01, 0.05, 0.2, 61.0, 1e9):
        counted.begun()
        counted.ended(CHAT, 200, seconds=seconds, head_seconds=seconds)
    found = samples(counted)
    assert found["head_seconds_bucket", CHAT, "0.05"] == 2
    assert found["head_seconds_bucket", CHAT, "0.25"] == 3
    assert found["head_seconds_bucket", CHAT, "60.0"] == 3
    assert found["head_seconds_bucket", CHAT, "+Inf"] == found["head_seconds_count", CHAT] == 5
    assert found["request_seconds_bucket", CHAT, "120.0"] == 4
    assert found["head_seconds_sum", CHAT] == pytest.approx(1e9 + 61.26)


def test_who_leaves_before_an_answer_has_no_latency():
    counted = counters()
    counted.begun()
    counted.ended(CHAT, 0, client="editor", seconds=9.0)
    found = samples(counted)
    assert found["requests_total", CHAT, "left", "none", "none", "editor"] == 1
    assert ("request_seconds_count", CHAT) not in found


def test_what_callers_think_up_is_bounded():
    counted = counters()
    for number in range(3 * MAX_MODELS):
        counted.begun()
        counted.ended(
            CHAT,
            400,
            account="default",
            model=f"m{number}",
            client=f"c{number}",
            code=f"e{number}",
        )
    assert {labels[3] for labels in counted.requests} == {"other"}
    assert len({labels[4] for labels in counted.requests}) == MAX_CLIENTS + 1
    assert len(counted.errors) == MAX_CODES + 1
    assert (
        counted.requests[CHAT, "4xx", "default", "other", "other"] == 3 * MAX_MODELS - MAX_CLIENTS
    )


def test_models_that_there_are_have_their_names_listed_or_not():
    counted = counters()
    for status, model in (
        (400, "gpt"),
        (200, "gpt-41-copilot"),
        (400, "gpt-41-copilot"),
        (404, "x"),
    ):
        counted.begun()
        counted.ended(CHAT, status, account="default", model=model)
    assert [labels[3] for labels in counted.requests] == [
        "gpt", "gpt-41-copilot", "gpt-41-copilot", "other",
    ]  # fmt: skip
    for number in range(2 * MAX_MODELS):
        counted.begun()
        counted.ended(CHAT, 200, account="default", model=f"real{number}")
    assert len({labels[3] for labels in counted.requests}) == MAX_MODELS + 1


def test_the_rest_of_the_broker_is_told_too():
    gate = replace(calm(), cooldown_in=7.5, models={"gpt": 3.0}, circuit="open", queued=2)
    found = samples(counters(), pacing=lambda name: gate if name == "work" else calm())
    assert found["exchanges_total", "default", ""] == 3
    assert found["exchanges_total", "work", "network"] == 2
    assert found["cooldown_seconds", "default", ""] == 0
    assert found["cooldown_seconds", "work", ""] == 7.5
    assert found["cooldown_seconds", "work", "gpt"] == 3
    assert (found["circuit_open", "default"], found["circuit_open", "work"]) == (0, 1)
    assert found["requests_queued", "work"] == 2
    assert (found["connections", "http"], found["connections", "rpc"]) == (4, 1)


def test_accounts_that_a_caller_may_not_know_are_not_on_its_page():
    counted = counters()
    for account in ("default", "work", ""):
        counted.begun()
        counted.ended(CHAT, 200, account=account, usage=Usage(1, 1, None, 2))
    rule = Rule(where="test", listener="http", accounts=("default",))
    text = scraped(counted, rules=[rule]).body.decode()
    assert 'account="work"' not in text
    assert {'account="default"', 'account="none"'} <= {
        part for line in text.splitlines() for part in line.replace("{", ",").split(",")
    }


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("text/html", "text/plain"),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", "application/openmetrics-text"),
    ],
)  # fmt: skip
def test_the_scraper_says_which_form_it_wants(accept, kind):
    reply = scraped(counters(), accept=accept)
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, kind)
    assert reply.body.endswith(b"# EOF\n") == ("openmetrics" in kind)


@pytest.mark.parametrize("missing", ["prometheus_client", "prometheus_client.exposition"])
def test_without_the_library_the_page_says_so(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    reply = scraped(counters())
    assert (reply.status, reply.headers["content-type"]) == (501, "text/plain; charset=utf-8")
    assert reply.body.decode().rstrip().endswith("sudo apt install python3-prometheus-client")


def test_a_client_is_called_by_its_key_else_its_unit_else_its_program():
    peer = Peer(pid=1, uid=1, gid=1, comm="curl")
    assert client_of(peer) == "curl"
    assert client_of(replace(peer, unit="editor.scope")) == "editor.scope"
    assert client_of(replace(peer, unit="editor.scope", key="laptop")) == "laptop"


def test_a_histogram_takes_a_bound_as_within_it():
    histogram = Histogram((1.0, 2.0))
    for seconds in (0.0, 1.0, 1.1, 2.0, 3.0):
        histogram.add(seconds)
    assert histogram.counts == [2, 2, 1]
