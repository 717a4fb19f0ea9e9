"""The pacing rules: what may go up, when, and what a caller is told otherwise."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerd.core.pacing import AccountGate, Circuit, Cooldowns, FairQueue, Limit, model_of
from brokerd.core.pacing.cooldowns import LONGEST_GUESS, MAX_MODELS
from brokerd.core.pacing.limit import PATIENCE, QUIET
from brokerd.core.pacing.refused import queue_full, queued_too_long
from brokerd.core.refusals import Refusal, explain
from brokerd.core.retry_after import MAX_SECONDS
from brokerd.errors import ErrorClass, Failure


def failure(retry_after=None, code="rate_limited"):
    return Failure(
        ErrorClass.TEMPORARY, code, "slow down a little", "See", "https://gh.io/x", retry_after
    )


def limits(retry_after=None, what="account"):
    return Refusal(failure(retry_after), what)


def answer(gate, status, refusal=None, *, now, body=b"{}", round_=None, is_probe=False):
    return gate.answered(
        status,
        refusal,
        body,
        round_=gate.round if round_ is None else round_,
        is_probe=is_probe,
        now=now,
    )


class TestCooldowns:
    def test_lasts_as_long_as_upstream_says_and_no_longer(self):
        cooldowns = Cooldowns()
        cooldowns.begin(None, failure(30), 100.0, is_new=True)
        assert cooldowns.account(129.9).until == 130.0
        assert cooldowns.account(130.0) is None

    def test_a_shorter_one_never_shortens_it(self):
        cooldowns = Cooldowns()
        cooldowns.begin(None, failure(465_000), 100.0, is_new=True)
        cooldowns.begin(None, failure(5), 101.0, is_new=True)
        cooldowns.begin(None, failure(None), 102.0, is_new=True)
        assert cooldowns.account(200.0).until == 465_100.0

    def test_a_longer_one_prolongs_it(self):
        cooldowns = Cooldowns()
        cooldowns.begin("m", failure(5), 100.0, is_new=True)
        cooldowns.begin("m", failure(60), 101.0, is_new=False)
        assert cooldowns.model("m", 160.0).until == 161.0
        assert cooldowns.model("other", 160.0) is None
        assert cooldowns.account(160.0) is None

    def test_guesses_double_up_to_five_minutes(self):
        cooldowns, now, pauses = Cooldowns(), 0.0, []
        for _ in range(8):
            cooldowns.begin(None, failure(), now, is_new=True)
            pauses.append(cooldowns.account(now).until - now)
            now = cooldowns.account(now).until
        assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]

    def test_a_guess_of_the_refusals_explanation_doubles_too(self):
        cooldowns, now, pauses = Cooldowns(), 0.0, []
        for _ in range(4):
            cooldowns.begin(None, failure(60), now, is_new=True, is_guess=True)
            pauses.append(cooldowns.account(now).until - now)
            now = cooldowns.account(now).until
        assert pauses == [60, 120, 240, 300]

    def test_one_burst_is_one_guess(self):
        cooldowns = Cooldowns()
        cooldowns.begin(None, failure(), 0.0, is_new=True)
        for _ in range(5):
            cooldowns.begin(None, failure(), 1.0, is_new=False)
        assert cooldowns.account(1.0).until == 11.0

    @pytest.mark.parametrize("end", ["success", "retry-after", "time"])
    def test_guesses_start_anew(self, end):
        cooldowns, now = Cooldowns(), 10.0
        cooldowns.begin(None, failure(), 0.0, is_new=True)
        if end == "success":
            cooldowns.succeeded(b"{}")
        elif end == "retry-after":
            cooldowns.begin(None, failure(1), now, is_new=True)
            now = 11.0
        else:
            now = 10.0 + LONGEST_GUESS
            assert not cooldowns.has_guesses(now)
        cooldowns.begin(None, failure(), now, is_new=True)
        assert cooldowns.account(now).until == now + 10

    def test_a_success_of_one_model_says_nothing_of_another(self):
        cooldowns = Cooldowns()
        cooldowns.begin("a", failure(), 0.0, is_new=True)
        cooldowns.succeeded(b'{"model": "b"}')
        cooldowns.begin("a", failure(), 10.0, is_new=True)
        assert cooldowns.model("a", 10.0).until == 30.0
        cooldowns.succeeded(b'{"model": "a"}')
        assert not cooldowns.has_guesses(30.0)

    def test_nonsense_is_bounded(self):
        cooldowns = Cooldowns()
        cooldowns.begin(None, failure(0), 0.0, is_new=True)
        assert cooldowns.account(0.0).until == 1.0
        cooldowns.begin(None, failure(1e12), 0.0, is_new=True)
        assert cooldowns.account(0.0).until == MAX_SECONDS

    def test_callers_cannot_grow_it_by_names_of_models(self):
        cooldowns = Cooldowns()
        for number in range(MAX_MODELS + 1):
            cooldowns.begin(str(number), failure(60), 0.0, is_new=True)
        assert len(cooldowns.models(1.0)) == MAX_MODELS
        assert cooldowns.account(1.0).until == 60.0
        assert cooldowns.model("0", 60.0) is None
        assert cooldowns.models(60.0) == {}
        for number in range(MAX_MODELS + 1):
            cooldowns.begin(str(number), failure(), 60.0, is_new=True)
        assert cooldowns.account(60.0).until == 70.0


class TestCircuit:
    def opened(self, now=0.0):
        circuit = Circuit()
        for _ in range(9):
            assert not circuit.failed(now, is_probe=False)
        assert circuit.failed(now, is_probe=False)
        return circuit

    def test_ten_failures_in_a_row_open_it_and_an_answer_starts_the_count_anew(self):
        circuit = Circuit()
        for _ in range(9):
            circuit.failed(0.0, is_probe=False)
        circuit.succeeded(is_probe=False)
        for _ in range(9):
            circuit.failed(0.0, is_probe=False)
        assert circuit.is_closed
        assert circuit.rest(0.0) is None
        circuit.failed(0.0, is_probe=False)
        assert circuit.state == "open"
        assert circuit.rest(1.0) == 4.0

    def test_one_request_tries_and_the_others_are_refused(self):
        circuit = self.opened()
        assert circuit.rest(5.0) is None
        assert circuit.admit()
        assert circuit.state == "half_open"
        assert circuit.rest(5.0) == 5.0
        circuit.succeeded(is_probe=True)
        assert circuit.is_closed
        assert not circuit.admit()

    def test_a_failing_probe_doubles_the_pause_up_to_a_minute(self):
        circuit, now, pauses = self.opened(), 0.0, []
        for _ in range(6):
            pauses.append(circuit.rest(now))
            now += pauses[-1]
            circuit.admit()
            assert circuit.failed(now, is_probe=True)
        assert pauses == [5, 10, 20, 40, 60, 60]

    def test_a_probe_that_was_given_up_says_nothing(self):
        circuit = self.opened()
        assert circuit.admit()
        circuit.abandoned()
        assert circuit.state == "open"
        assert circuit.rest(5.0) is None
        assert circuit.admit()
        circuit.failed(6.0, is_probe=True)
        assert circuit.rest(6.0) == 10.0

    def test_requests_of_before_say_nothing_once_it_is_open(self):
        circuit = self.opened()
        circuit.succeeded(is_probe=False)
        assert not circuit.failed(4.0, is_probe=False)
        assert circuit.rest(4.0) == 1.0


class TestLimit:
    def test_there_is_none_until_upstream_limits_us(self):
        assert Limit().value(0.0) is None

    @pytest.mark.parametrize(("out", "limit"), [(1, 1), (2, 1), (3, 1), (8, 4), (101, 50)])
    def test_half_of_what_was_under_way(self, out, limit):
        it = Limit()
        it.cut(out, 0.0, is_new=True)
        assert it.value(0.0) == limit

    def test_one_burst_cuts_once_and_the_next_halves_the_limit(self):
        it = Limit()
        it.cut(16, 0.0, is_new=True)
        it.cut(15, 0.0, is_new=False)
        it.cut(14, 0.0, is_new=False)
        assert it.value(0.0) == 8
        it.cut(14, 1.0, is_new=True)
        assert it.value(1.0) == 4

    def test_one_more_per_round_of_successes(self):
        it = Limit()
        it.cut(4, 0.0, is_new=True)
        values = []
        for _ in range(2 + 3 + 4):
            it.succeeded()
            values.append(it.value(0.0))
        assert values == [2, 3, 3, 3, 4, 4, 4, 4, 5]

    def test_none_again_after_ten_quiet_minutes(self):
        it = Limit()
        it.cut(4, 0.0, is_new=True)
        it.cut(2, 100.0, is_new=False)
        assert it.ends_at() == 100.0 + QUIET
        assert it.value(99.0 + QUIET) == 2
        assert it.value(100.0 + QUIET) is None

    def test_waiting_widens_it_one_by_one(self):
        it = Limit()
        it.cut(8, 100.0, is_new=True)
        it.refused(100.0)
        assert it.widens_at(50.0) == it.widens_at(100.0) == 100.0 + PATIENCE
        assert it.widens_at(103.0) == 103.0 + PATIENCE
        it.widen(105.0)
        assert it.value(105.0) == 5
        assert it.widens_at(100.0) == 105.0 + PATIENCE
        assert it.ends_at() == 100.0 + QUIET

    def test_waiting_for_what_upstream_has_refused_meanwhile_does_not(self):
        it = Limit()
        it.cut(8, 0.0, is_new=True)
        it.refused(60.0)
        it.refused(3.0)
        assert it.widens_at(1.0) == 60.0 + PATIENCE
        it.cut(5, 70.0, is_new=True)
        assert it.value(70.0) == 2


class TestFairQueue:
    def test_a_process_with_one_is_served_second_at_the_latest(self):
        queue = FairQueue()
        for number in range(100):
            queue.put(1, ("many", number))
        queue.put(2, ("one", 0))
        assert [queue.take() for _ in range(3)] == [("many", 0), ("one", 0), ("many", 1)]
        queue.put(2, ("one", 1))
        assert ("one", 1) in [queue.take(), queue.take()]

    def test_who_leaves_takes_no_turn(self):
        queue = FairQueue()
        queue.put(1, "a")
        queue.put(2, "b")
        assert queue.remove(1, "a")
        assert not queue.remove(1, "a")
        assert len(queue) == 1
        assert queue.take() == "b"
        assert not queue

    @given(st.lists(st.one_of(st.integers(0, 3), st.none()), max_size=60))
    def test_nobody_starves(self, steps):
        """Between putting and taking, each other process comes before it once at most."""
        queue, waiting, number = FairQueue(), {}, 0
        for peer in steps:
            if peer is not None:
                queue.put(peer, (peer, number))
                waiting.setdefault(peer, []).append(number)
                number += 1
            elif queue:
                who, which = queue.take()
                assert which == waiting[who].pop(0)
        assert len(queue) == sum(map(len, waiting.values()))
        left = [peer for peer, numbers in waiting.items() if numbers]
        assert {queue.take()[0] for _ in left} == set(left)


class TestGate:
    def test_a_quiet_gate_says_nothing(self):
        gate = AccountGate()
        assert gate.is_quiet
        assert gate.refuse(b"{}", 0.0) is None
        assert gate.has_room(0.0)

    def test_a_refused_caller_learns_the_reason_the_time_and_the_next_step(self):
        gate = AccountGate()
        gate.admit()
        assert answer(gate, 429, limits(125), now=0.0)
        told = gate.refuse(b"{}", 5.0)
        assert told.error_class is ErrorClass.TEMPORARY
        assert told.code == "cooling_down"
        assert told.message == (
            "Copilot wants no requests for this account for another 2 minutes "
            "(rate_limited: slow down a little)"
        )
        assert told.retry_after == 120.0
        assert told.url == "https://gh.io/x"
        assert told.hint.endswith("copilot-cred status")

    def test_a_model_cools_down_alone(self):
        gate = AccountGate()
        gate.admit()
        answer(gate, 429, limits(60, "model"), body=b'{"model": "big"}', now=0.0)
        told = gate.refuse(b'{"messages": [], "model": "big"}', 1.0)
        assert told.code == "cooling_down"
        assert "'big'" in told.message
        assert gate.refuse(b'{"model": "small"}', 1.0) is None
        assert gate.models(1.0) == {"big": 59.0}
        assert gate.limit(1.0) is None
        gate.settle(60.0)
        assert gate.is_quiet

    def test_a_success_of_a_request_under_way_lifts_nothing(self):
        gate = AccountGate()
        gate.admit()
        gate.admit()
        before = gate.round
        answer(gate, 429, limits(60), now=0.0)
        answer(gate, 200, now=1.0, round_=before)
        assert gate.refuse(b"{}", 59.0).code == "cooling_down"
        assert gate.limit(59.0) == 1
        assert gate.refuse(b"{}", 60.0) is None

    def test_a_burst_of_refusals_is_one(self):
        gate = AccountGate()
        for _ in range(8):
            gate.admit()
        before = gate.round
        for _ in range(8):
            answer(gate, 429, limits(), now=0.0, round_=before)
        assert gate.limit(0.0) == 4
        assert gate.cooldown(0.0).until == 10.0

    def test_what_upstream_does_not_say_is_guessed_ever_longer(self):
        gate = AccountGate()
        for now, until in ((0.0, 60.0), (60.0, 180.0)):
            gate.admit()
            refused = explain(429, {}, b'{"error": {"code": "rate_limited"}}', now=0.0)
            answer(gate, 429, refused, now=now)
            assert gate.cooldown(now).until == until
        refused = explain(429, {"retry-after": "7"}, b"", now=0.0)
        answer(gate, 429, refused, now=180.0)
        assert gate.cooldown(180.0).until == 187.0

    def test_a_503_that_limits_is_no_outage(self):
        gate = AccountGate()
        for _ in range(12):
            answer(gate, 503, limits(1), now=0.0)
        assert gate.circuit == "closed"

    def test_an_outage_is_told_with_its_reason(self):
        gate = AccountGate()
        for _ in range(9):
            gate.lost(is_probe=False, now=0.0)
        refused = Refusal(failure(code="upstream_502"))
        assert answer(gate, 502, refused, now=0.0)
        told = gate.refuse(b"{}", 1.0)
        assert told.code == "upstream_down"
        assert "upstream_502: slow down a little" in told.message
        assert "4 seconds" in told.message
        assert told.retry_after == 4.0
        assert told.hint.endswith("copilot-cred status")
        assert gate.reason(1.0).code == "upstream_down"

    def limited(self, retry_after=1, what="account", *, now=0.0):
        gate = AccountGate()
        for _ in range(4):
            gate.admit()
        answer(gate, 429, limits(retry_after), now=now)
        if what == "model":
            answer(gate, 429, limits(retry_after, "model"), body=b'{"model": "m"}', now=now + 2)
        return gate

    def test_waiting_counts_from_the_end_of_the_cooldown(self):
        assert AccountGate().widens_at(0.0, 0.0) is None
        gate = self.limited(20)
        assert gate.widens_at(0.0, 0.0) == gate.widens_at(0.0, 24.0) == 20.0 + PATIENCE
        assert gate.widens_at(23.0, 24.0) == 23.0 + PATIENCE
        gate.widen(28.0)
        assert gate.limit(28.0) == 3
        assert gate.widens_at(0.0, 0.0 + QUIET) is None

    def test_waiting_counts_from_a_models_refusal_too(self):
        gate = self.limited(1, "model")
        assert gate.widens_at(0.0, 3.0) == 2.0 + PATIENCE

    def test_nobody_goes_for_having_waited_while_a_limit_is_read(self):
        gate = self.limited()
        gate.hold()
        assert gate.widens_at(0.0, 100.0) == 100.0 + PATIENCE
        gate.release()
        assert gate.widens_at(0.0, 100.0) == 1.0 + PATIENCE

    def test_nobody_goes_for_having_waited_while_upstream_is_down(self):
        gate = self.limited()
        for _ in range(10):
            gate.lost(is_probe=False, now=50.0)
        assert gate.widens_at(0.0, 51.0) == 55.0
        assert gate.widens_at(0.0, 55.0) == 1.0 + PATIENCE  # as the one that tries

    def test_a_cooldown_of_before_a_restart_is_one(self):
        gate = AccountGate()
        gate.restore(failure(retry_after=500.0), 10.0)
        assert gate.cooldown(10.0).until == 510.0
        assert not gate.is_quiet
        assert gate.limit(10.0) is None
        gate.settle(510.0)
        assert gate.is_quiet

    def test_answers_that_are_no_outage_close_the_circuit(self):
        gate = AccountGate()
        for _ in range(10):
            answer(gate, 500, now=0.0)
        assert gate.circuit == "open"
        assert gate.refuse(b"{}", 5.0) is None
        assert gate.admit()
        assert gate.refuse(b"{}", 5.0).code == "upstream_down"
        answer(gate, 401, now=6.0, is_probe=True)
        assert gate.is_quiet

    def test_an_outage_that_names_a_time_is_obeyed_and_counts_as_a_failure(self):
        gate = AccountGate()
        for now in range(10):
            assert gate.refuse(b"{}", now * 10.0) is None
            gate.admit()
            told = answer(gate, 502, limits(5, "model"), now=now * 10.0)
            gate.closed()
            assert told
            assert gate.refuse(b"{}", now * 10.0 + 4.9).code == "cooling_down"
        assert gate.circuit == "open"


class TestWords:
    @pytest.mark.parametrize("make", [queue_full, queued_too_long])
    def test_who_waited_for_nothing_learns_why(self, make):
        told = make(failure())
        assert told.code == make.__name__
        assert "(rate_limited: slow down a little)" in told.message
        assert told.hint.endswith("copilot-cred status")
        assert told.retry_after > 0
        assert make(None).message.startswith("Copilot limits this account, and")


NAMES = st.sampled_from(["gpt-4o", "mödel", 'a"b', "x\\y", "", "claude", "m" * 70, "model"])
SCALARS = st.one_of(NAMES, st.integers(), st.none(), st.booleans(), st.floats(-1e9, 1e9))
KEYS = st.sampled_from(["model", "messages", "a", "tools", 'q"model"', ",", "model,", "Model"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)


def expected(body):
    request = json.loads(body)
    name = request.get("model") if isinstance(request, dict) else None
    return name if isinstance(name, str) else ""


class TestModelName:
    @settings(max_examples=400, deadline=None)
    @given(
        st.one_of(VALUES, st.dictionaries(KEYS, VALUES, max_size=4)),
        st.sampled_from([None, 1, "\t"]),
        st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]),
        st.booleans(),
        st.booleans(),
    )
    def test_agrees_with_the_parser(self, value, indent, separators, is_ascii, is_escaped):
        text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=is_ascii)
        if is_escaped:
            text = text.replace("mod", "\\u006dod", 1)
        body = text.encode()
        assert model_of(body) == expected(body)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"model": "a", "model": "b"}',
            b'{"messages": [{"content": "x"}], "stream": true, "model": "m", "n": -1.5e3}',
            b'{"a": {"b": 1, "model": "inner"}}',
            b'{"a": [{"model": "inner"}]}',
            b'{"a": {"model": "inner"}, "c": 1}',
            b'{"x\\"model": "no", "y": "model"}',
            b'{"x": "model"}',
            b'{"x": "say \\"model\\": \\"no\\""}',
            b'{"x,\\"model": "no"}',
            b'{"model": "\\u0061"}',
            b'{"model": 5}',
            b'["model"]',
            b'  {\n"model":"m"}  ',
            b'{"m\\u006Fdel": "m"}',
        ],
    )
    def test_places_that_a_name_hides_in(self, body):
        assert model_of(body) == expected(body)

    @pytest.mark.parametrize(
        "body", [b"", b"{", b'{"model":', b"\xff\xfe", b'{"model": "\xff"}', b"[" * 100_000]
    )
    def test_what_is_no_json_names_no_model(self, body):
        assert model_of(body) == ""

    def test_a_body_that_would_grow_too_much_is_not_parsed(self):
        assert model_of(b'{"x": [%s], "model": "m", "y": {}}' % (b"1," * 600_000 + b"1")) == ""

    def test_a_name_is_bounded(self):
        assert len(model_of(b'{"model": "%s"}' % (b"m" * 5_000))) == 200

    def test_common_bodies_need_no_parser(self, monkeypatch):
        def parse(_body):
            raise AssertionError

        monkeypatch.setattr("brokerd.core.pacing.model_name.json.loads", parse)
        assert model_of(b'{"model": "m", "messages": [{"role": "user"}], "tools": [{}]}') == "m"
        assert model_of(b'{"messages": [{"role": "user"}], "model": "m", "stream": true}') == "m"
        assert model_of(b'{"messages": []}') == ""
