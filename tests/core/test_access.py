"""Who may do what: the whole matrix spelled out, and that nothing but a listener's rule raises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from brokerd.core.access import (
    COUNTED,
    LISTENER_SCOPES,
    OPERATIONS,
    Policy,
    Rights,
    Rule,
    Scope,
    direct_mode,
    peer_gone,
)
from brokerd.core.access.scopes import OF_AN_ACCOUNT
from brokerd.core.keys import Key, rule_of
from brokerd.core.peer import Peer
from brokerd.errors import ErrorClass


OWN = 1000
STATUS, COMPLETE, TOKEN, ADMIN = Scope


def a_peer(uid: int = OWN, **changes) -> Peer:
    return Peer(**{"pid": 4242, "uid": uid, "gid": uid, **changes})


def decide(*rules: Rule, peer: Peer | None = None, listener: str = "rpc"):
    return Policy(OWN, rules).decide(peer or a_peer(), listener)


def rights(*rules: Rule, peer: Peer | None = None, listener: str = "rpc") -> Rights:
    decision = decide(*rules, peer=peer, listener=listener)
    assert decision.rights is not None
    return decision.rights


def effects(*rules: Rule, peer: Peer | None = None, listener: str = "rpc") -> list[str]:
    return [step.effect for step in decide(*rules, peer=peer, listener=listener).steps]


# -- verbs and sockets, spelled out ------------------------------------------------------------

MATRIX = {
    # operation: (rpc, http, any further socket)
    "broker.hello": (True, True, True),
    "broker.status": (True, True, True),
    "broker.doctor": (True, True, True),
    "broker.refresh": (True, False, False),
    "broker.lock": (True, False, False),
    "broker.unlock": (True, False, False),
    "token.get": (True, False, False),
    "token.watch": (True, False, False),
    "account.login": (True, False, False),
    "account.logout": (True, False, False),
    "account.list": (True, False, False),
    "account.use": (True, False, False),
    "completion.create": (True, True, False),
    "models.list": (True, True, True),
    "models.enable": (True, False, False),
    "quota.get": (True, True, True),
    "usage.report": (True, True, True),
    "quota.set_pat": (True, False, False),
    "quota.forget_pat": (True, False, False),
    "grant.explain": (True, True, True),
    "grant.list": (True, False, False),
    "key.create": (True, False, False),
    "key.lease": (True, False, False),
    "key.list": (True, False, False),
    "key.mint": (True, False, False),
    "key.revoke": (True, False, False),
    "http.request": (True, True, True),
}


def test_the_matrix_leaves_no_verb_out():
    assert set(MATRIX) == set(OPERATIONS)


@pytest.mark.parametrize("operation", MATRIX)
@pytest.mark.parametrize(("column", "listener"), list(enumerate(["rpc", "http", "sandbox"])))
def test_each_verb_on_each_socket(operation, column, listener):
    failure = rights(listener=listener).refuse_operation(operation)
    assert (failure is None) is MATRIX[operation][column]
    if failure is not None:
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "scope_too_low")
        assert OPERATIONS[operation].label in failure.message


@pytest.mark.parametrize("scope", Scope)
def test_the_http_socket_never_reaches_a_token_verb_whatever_the_rule(scope):
    of_http = rights(Rule(listener="http", scope=scope), listener="http")
    assert of_http.scope == min(scope, COMPLETE)
    for operation in ("token.get", "token.watch", "account.login"):
        assert of_http.refuse_operation(operation) is not None


@pytest.mark.parametrize("scope", Scope)
def test_a_further_socket_gives_what_its_rule_says(scope):
    rule = Rule(listener="agents", scope=scope)
    assert rights(rule, listener="agents").scope is scope
    assert rights(rule, listener="others").scope is STATUS
    assert rights(rule, listener="rpc").scope is ADMIN


def test_a_socket_can_be_made_to_give_less():
    assert rights(Rule(listener="rpc", scope=COMPLETE)).scope is COMPLETE
    assert rights(Rule(listener="http", scope=STATUS), listener="http").scope is STATUS


def test_a_token_is_never_lent_below_its_scope_and_logins_need_admin():
    for operation, needed in OPERATIONS.items():
        if operation.startswith("token."):
            assert needed is TOKEN
        if operation.startswith("account."):
            assert needed is ADMIN
    assert COUNTED <= OF_AN_ACCOUNT <= set(OPERATIONS)


@given(st.text())
def test_what_is_not_written_is_refused_whoever_asks(operation):
    assume(operation not in OPERATIONS)
    failure = Rights(ADMIN).refuse_operation(operation)
    assert (failure.error_class, failure.code) == (ErrorClass.USAGE, "unknown_method")
    assert len(failure.message) < 1000


# -- what rules take away ----------------------------------------------------------------------


def test_without_rules_labels_play_no_part():
    for peer in (a_peer(), a_peer(unit="x.scope", label="x", sandbox="flatpak", weak=False)):
        assert rights(peer=peer) == Rights(ADMIN)


@pytest.mark.parametrize(
    ("rule", "peer", "applies"),
    [
        (Rule(), {}, True),
        (Rule(listener="rpc"), {}, True),
        (Rule(listener="http"), {}, False),
        (Rule(uid=OWN), {}, True),
        (Rule(uid=OWN + 1), {}, False),
        (Rule(gid=7), {"gid": 7}, True),
        (Rule(gid=0), {"gid": 7}, False),
        (Rule(unit="app-*.scope"), {"unit": "app-vim-1.scope"}, True),
        (Rule(unit="app-*.scope"), {"unit": "ssh.service"}, False),
        (Rule(unit="app-*.scope"), {"unit": "APP-vim-1.scope"}, False),
        (Rule(unit="app-*.scope"), {"unit": ""}, True),
        (Rule(label="snap.*"), {"label": "snap.code"}, True),
        (Rule(label="snap.*"), {"label": "unconfined"}, False),
        (Rule(label="snap.*"), {"label": ""}, True),
        (Rule(sandbox="snap"), {"sandbox": "snap"}, True),
        (Rule(sandbox="snap"), {"sandbox": "flatpak"}, False),
        (Rule(sandbox="snap"), {"sandbox": "none"}, False),
        (Rule(sandbox="snap"), {"sandbox": ""}, True),
        (Rule(sandbox="any"), {"sandbox": "container"}, True),
        (Rule(sandbox="any"), {"sandbox": ""}, True),
        (Rule(sandbox="any"), {"sandbox": "none"}, False),
        (Rule(unit="a", label="b"), {"unit": "a", "label": "c"}, False),
        (Rule(unit="a", label="b"), {"unit": "", "label": "b"}, True),
        (Rule(listener="http", unit="a"), {"unit": "a"}, False),
    ],
)
def test_whom_a_rule_is_about(rule, peer, applies):
    assert rule.applies_to(a_peer(**peer), "rpc") is applies


def test_the_lowest_scope_holds():
    rules = (Rule(scope=TOKEN), Rule(sandbox="any", scope=COMPLETE))
    assert rights(*rules, peer=a_peer(sandbox="none")).scope is TOKEN
    assert rights(*rules, peer=a_peer(sandbox="snap")).scope is COMPLETE


def test_two_rules_for_one_listener_leave_the_lower():
    rules = (Rule(listener="x", scope=TOKEN), Rule(listener="x", scope=COMPLETE))
    assert rights(*rules, listener="x").scope is COMPLETE


def test_models_leave_no_token_and_accounts_no_admin():
    assert rights(Rule(models=("gpt-*",))).scope is COMPLETE
    assert rights(Rule(accounts=("work",))).scope is TOKEN
    both = Rule(listener="x", scope=ADMIN, models=("*",), accounts=("work",))
    assert rights(both, listener="x").scope is COMPLETE
    assert rights(Rule(models=("gpt-*",), scope=STATUS)).scope is STATUS


def test_every_list_of_models_has_to_allow_it():
    left = rights(Rule(models=("gpt-*", "claude-*")), Rule(unit="a*", models=("*-mini",)))
    assert left.refuse_model("gpt-5-mini") is None
    for model in ("gpt-5", "o4-mini", "GPT-5-mini", "", None, 7, b"gpt-5-mini"):
        failure = left.refuse_model(model)
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "model_not_granted")
        assert failure.hint.endswith("copilot-cred grants")


def test_every_list_of_accounts_has_to_allow_it():
    left = rights(Rule(accounts=("work", "play")), Rule(unit="a*", accounts=("work", "lab")))
    assert left.accounts == {"work"}
    assert left.refuse_account("work") is None
    for account in ("play", "lab", "", None, ["work"], b"work"):
        failure = left.refuse_account(account)
        assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "account_not_granted")
        assert failure.hint.endswith("copilot-cred grants")


def test_accounts_that_have_nothing_in_common_leave_none():
    left = rights(Rule(accounts=("work",)), Rule(uid=OWN, accounts=("play",)))
    assert left.accounts == set()
    assert "granted: none" in left.refuse_account("work").message


def refused(left: Rights, operation: str, account=None, model=None, default="home") -> str:
    failure = left.refuse(operation, account, model, lambda: default)
    return "" if failure is None else failure.code


def test_no_account_is_the_default_account():
    left = rights(Rule(accounts=("work",)))
    for nameless in (None, ""):  # the broker takes both for the default
        assert refused(left, "token.get", nameless) == "account_not_granted"
        assert refused(left, "token.get", nameless, default="work") == ""
    assert refused(left, "token.get", "work") == ""
    assert refused(left, "token.get", 7, default="work") == "account_not_granted"


def test_what_is_about_no_account_needs_none():
    left = rights(Rule(accounts=("work",)))
    for operation in ("broker.hello", "broker.status", "grant.explain"):
        assert refused(left, operation) == ""
        assert refused(left, operation, "home") == "account_not_granted"
    assert refused(left, "models.list") == refused(left, "quota.get") == "account_not_granted"


def test_a_completion_says_its_model_where_models_matter():
    left = rights(Rule(models=("gpt-*",)))
    assert refused(left, "completion.create") == "model_not_granted"
    assert refused(left, "completion.create", None, "gpt-5") == ""
    assert refused(left, "models.list") == ""
    assert refused(rights(), "completion.create") == ""
    assert refused(rights(Rule(models=("*",))), "completion.create", None, "") == ""


def test_every_rate_holds_and_the_smallest_is_told():
    fast, slow = Rule(requests_per_minute=60), Rule(unit="a*", requests_per_minute=6)
    left = rights(fast, slow)
    assert left.limits == {fast, slow}
    assert left.requests_per_minute == 6
    assert rights().requests_per_minute is None


def test_what_is_limited_says_so():
    assert not rights(Rule(scope=STATUS)).is_limited
    for rule in (Rule(models=("*",)), Rule(accounts=("a",)), Rule(requests_per_minute=1)):
        assert rights(rule).is_limited


# -- users -------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [0, 1, 999, 1001, 65534, 4294967294])
def test_every_other_uid_is_refused_root_too(uid):
    decision = decide(Rule(scope=ADMIN), Rule(unit="*", scope=ADMIN), peer=a_peer(uid))
    assert not decision.admitted
    failure = decision.failure
    assert (failure.error_class, failure.code) == (ErrorClass.DENIED, "uid_not_allowed")
    assert failure.hint
    assert [step.where for step in decision.steps] == [f"user id {uid}"]


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        (Rule(uid=2000, scope=ADMIN), True),
        (Rule(gid=7, scope=ADMIN), True),
        (Rule(uid=2000, gid=7, scope=ADMIN), True),
        (Rule(uid=2000, gid=8, scope=ADMIN), False),
        (Rule(uid=2001, scope=ADMIN), False),
        (Rule(uid=2000, listener="rpc", scope=ADMIN), True),
        (Rule(uid=2000, listener="http", scope=ADMIN), False),
        (Rule(uid=2000, unit="a*", scope=ADMIN), False),
        (Rule(uid=2000, label="a*", scope=ADMIN), False),
        (Rule(uid=2000, sandbox="any", scope=ADMIN), False),
        (Rule(listener="rpc", scope=ADMIN), False),
        (Rule(scope=ADMIN), False),
    ],
)
def test_who_lets_another_user_in(rule, admitted):
    stranger = Peer(1, 2000, 7, unit="a", label="a", sandbox="snap")
    decision = decide(rule, peer=stranger)
    assert decision.admitted is admitted
    if admitted:
        assert decision.rights == Rights(TOKEN)


def test_another_user_has_no_more_than_its_rule_and_the_listener_give():
    guest = a_peer(2000)
    assert rights(Rule(uid=2000, scope=STATUS), peer=guest).scope is STATUS
    assert rights(Rule(uid=2000, scope=TOKEN), peer=guest, listener="http").scope is COMPLETE
    assert rights(Rule(uid=2000, scope=TOKEN), peer=guest, listener="x").scope is STATUS
    both = (Rule(uid=2000, scope=TOKEN), Rule(sandbox="any", scope=STATUS))
    assert rights(*both, peer=guest).scope is STATUS  # whether it is in one is not known


# -- whatever the rules ------------------------------------------------------------------------

names = st.sampled_from(["a", "ab", "b", "c*"])
maybe = st.none() | names
units = st.sampled_from(["", "a", "ab", "b", "c"])
rule_keys = {
    "listener": st.none() | st.sampled_from(["rpc", "http", "http-tcp", "x"]),
    "uid": st.sampled_from([None, None, OWN, 2000]),
    "gid": st.sampled_from([None, None, OWN, 7]),
    "unit": maybe,
    "label": maybe,
    "sandbox": st.sampled_from([None, None, "flatpak", "snap", "container", "any"]),
    "key": st.sampled_from([None, None, "a", "b"]),
    "scope": st.none() | st.sampled_from(Scope),
    "models": st.none() | st.lists(names, min_size=1, max_size=2).map(tuple),
    "accounts": st.none() | st.lists(names, min_size=1, max_size=2).map(tuple),
    "requests_per_minute": st.none() | st.integers(1, 3),
}
some_rules = st.lists(st.builds(Rule, **rule_keys), max_size=4).map(tuple)
listeners = st.sampled_from(["rpc", "http", "http-tcp", "x", "y"])
peers = st.builds(
    Peer,
    pid=st.just(1),
    uid=st.sampled_from([OWN, OWN, 2000, 0]),
    gid=st.sampled_from([OWN, 7]),
    weak=st.booleans(),
    unit=units,
    label=units,
    sandbox=st.sampled_from(["", "none", "flatpak", "snap", "container"]),
)


def within(inner: Rights | None, outer: Rights | None) -> bool:
    """Whether everything that `inner` may do `outer` may do too, tried out."""
    if inner is None or outer is None:
        return inner is None
    tried = ["a", "ab", "b", "c", "cc", ""]
    return (
        all(
            inner.refuse(operation, account, model, lambda: "a") is not None
            or outer.refuse(operation, account, model, lambda: "a") is None
            for operation in OPERATIONS
            for account in tried
            for model in tried
        )
        and inner.limits >= outer.limits
    )


@given(some_rules, peers, listeners)
def test_labels_never_raise(rules, peer, listener):
    unlabelled = tuple(rule for rule in rules if not rule.names_a_label)
    labelled = Policy(OWN, rules).decide(peer, listener)
    assert within(labelled.rights, Policy(OWN, unlabelled).decide(peer, listener).rights)


@given(some_rules, peers, listeners)
def test_to_hide_a_label_never_helps(rules, peer, listener):
    hidden = Peer(peer.pid, peer.uid, peer.gid)
    policy = Policy(OWN, rules)
    assert within(policy.decide(hidden, listener).rights, policy.decide(peer, listener).rights)


@given(some_rules, st.builds(Rule, **rule_keys), peers, listeners)
def test_a_rule_more_never_raises_unless_it_speaks_for_a_listener(rules, rule, peer, listener):
    before = Policy(OWN, rules).decide(peer, listener)
    assume(before.admitted)
    raises = rule.scope is not None and rule.listener == listener
    raises = raises and list(rule.who) == ["listener"]
    if not raises:
        after = Policy(OWN, (*rules, rule)).decide(peer, listener)
        assert within(after.rights, before.rights)


@given(some_rules, peers, listeners)
def test_another_user_is_never_admin_and_comes_in_by_no_label(rules, peer, listener):
    assume(peer.uid != OWN)
    decision = Policy(OWN, rules).decide(peer, listener)
    let_in_by = [
        rule
        for rule in rules
        if (rule.uid, rule.gid) != (None, None)
        and rule.uid in (None, peer.uid)
        and rule.gid in (None, peer.gid)
        and rule.listener in (None, listener)
        and (rule.unit, rule.label, rule.sandbox, rule.key) == (None, None, None, None)
    ]
    assert decision.admitted is bool(let_in_by)
    assert decision.rights is None or decision.rights.scope <= TOKEN


@given(some_rules, peers, listeners, st.randoms(use_true_random=False))
def test_the_order_of_the_rules_plays_no_part(rules, peer, listener, random):
    shuffled = random.sample(rules, len(rules))
    first = Policy(OWN, rules).decide(peer, listener)
    assert Policy(OWN, rules).decide(peer, listener) == first
    second = Policy(OWN, tuple(shuffled)).decide(peer, listener)
    assert (second.rights, second.failure) == (first.rights, first.failure)
    assert sorted(second.steps) == sorted(first.steps)


@given(some_rules, peers, st.sampled_from(["http", "http-tcp"]))
def test_no_rule_gets_a_token_out_of_the_http_door(rules, peer, listener):
    decision = Policy(OWN, rules).decide(peer, listener)
    assert decision.rights is None or decision.rights.scope <= COMPLETE


some_keys = st.builds(
    Key,
    name=st.sampled_from(["a", "b"]),
    digest=st.just("00"),
    created=st.just(0),
    models=rule_keys["models"],
    account=st.none() | names,
    requests_per_minute=st.none() | st.integers(1, 3),
)


@given(some_rules, some_keys, peers, listeners)
def test_a_key_never_raises(rules, key, peer, listener):
    policy = Policy(OWN, rules, {key.name: rule_of(key)})
    shown = policy.decide(replace(peer, key=key.name), listener)
    without = policy.decide(peer, listener)
    assert without == Policy(OWN, rules).decide(peer, listener)
    assert within(shown.rights, without.rights)
    assert shown.rights is None or shown.rights.scope <= COMPLETE


@given(some_rules, peers, listeners)
def test_a_key_that_is_not_known_gets_nothing(rules, peer, listener):
    decision = Policy(OWN, rules, {}).decide(replace(peer, key="a"), listener)
    assert decision.rights is None


# -- keys --------------------------------------------------------------------------------------

CI = Key("ci", "00", 0, models=("gpt-*",), account="work", requests_per_minute=60)


def with_key(*rules: Rule, keys: tuple[Key, ...] = (CI,), name: str = "ci"):
    policy = Policy(OWN, rules, {key.name: rule_of(key) for key in keys})
    return policy.decide(a_peer(key=name), "http-tcp")


def test_a_key_is_a_rule_about_whoever_shows_it():
    decision = with_key()
    assert decision.rights is not None
    left, its = decision.rights, " (its key is ci)"
    assert (left.scope, left.accounts, left.models) == (COMPLETE, {"work"}, {("gpt-*",)})
    assert left.requests_per_minute == 60
    assert [tuple(step) for step in decision.steps] == [
        ("listener http-tcp", "gives complete"),
        ("key ci", "leaves at most complete (its key is ci)"),
        (
            "key ci",
            f"leaves the models gpt-*, and no token: a token that was lent knows no models{its}",
        ),
        (
            "key ci",
            f"leaves the accounts work, and nothing that reaches across accounts{its}",
        ),
        (
            "key ci",
            f"allows 60 requests a minute, together for all that it applies to{its}",
        ),
    ]


def test_a_key_that_is_limited_in_nothing_still_lends_no_token():
    plain = with_key(keys=(Key("ci", "00", 0),)).rights
    assert plain is not None
    assert not plain.is_limited
    assert Policy(OWN, (), {"ci": rule_of(CI)}).decide(a_peer(key="ci"), "rpc").rights == (
        with_key().rights
    )


def test_two_keys_with_one_rate_share_no_bucket():
    twins = (CI, replace(CI, name="other"))
    ours, others = (with_key(keys=twins, name=key.name).rights for key in twins)
    assert ours is not None
    assert others is not None
    assert not ours.limits & others.limits


def test_a_rule_may_take_more_from_a_key_and_is_about_nobody_else():
    rule = Rule("config.toml:7", key="ci", scope=STATUS)
    limited, other = with_key(rule).rights, rights(rule, listener="http-tcp")
    assert limited is not None
    assert (limited.scope, other.scope) == (STATUS, COMPLETE)
    foreign = Rule(uid=2000, key="ci", scope=COMPLETE)
    policy = Policy(OWN, (foreign,), {"ci": rule_of(CI)})
    assert not policy.decide(a_peer(2000, key="ci"), "http-tcp").admitted


def test_a_rule_for_a_key_on_one_listener_does_not_speak_for_it():
    rule = Rule("config.toml:7", listener="x", key="ci", scope=ADMIN)
    assert not rule.speaks_for_listener
    assert rule.who == {"listener": "x", "key": "ci"}
    assert rights(rule, listener="x").scope is STATUS


# -- in words ----------------------------------------------------------------------------------


def test_the_steps_say_what_each_rule_did_and_why():
    rules = (
        Rule("config.toml:3", listener="agents", scope=TOKEN, requests_per_minute=30),
        Rule("config.toml:8", unit="editor*", scope=COMPLETE),
        Rule("config.toml:12", sandbox="any", models=("gpt-*", "o4*")),
        Rule("config.toml:20", unit="backup*", scope=STATUS),
        Rule("config.toml:25", uid=2000, accounts=("work",)),
    )
    peer = a_peer(2000, unit="editor.scope")
    assert decide(*rules, peer=peer, listener="agents").steps == (
        ("listener agents", "gives status"),
        ("config.toml:3", "lets the listener agents give token instead"),
        ("user id 2000", "is not the broker's own 1000: token at most"),
        ("config.toml:3", "allows 30 requests a minute, together for all that it applies to"),
        ("config.toml:8", "leaves at most complete (its unit is editor.scope)"),
        (
            "config.toml:12",
            "leaves the models gpt-*, o4*, and no token: a token that was lent knows no models (its sandbox is not known and could match)",
        ),
        (
            "config.toml:25",
            "leaves the accounts work, and nothing that reaches across accounts (its user id is 2000)",
        ),
    )


def test_the_steps_tell_of_what_http_never_gives():
    told = effects(Rule(listener="http", scope=ADMIN), listener="http")
    assert told[-1] == "never gives more than complete"
    assert effects(listener="http") == ["gives complete"]


def test_a_rule_shows_its_keys_as_they_are_written():
    rule = Rule("config.toml:3", listener="x", sandbox="any", scope=TOKEN, models=("a", "b"))
    assert rule.who == {"listener": "x", "sandbox": "any"}
    assert rule.what == {"scope": "token", "models": ["a", "b"]}
    assert rule == Rule("config.toml:4", **{**rule.who, "scope": TOKEN, "models": ("a", "b")})


# -- refusals ----------------------------------------------------------------------------------


def test_a_peers_own_words_come_back_short():
    left = rights(Rule(accounts=("a",), models=("a",)))
    for failure in (left.refuse_account("x" * 9999), left.refuse_model("x" * 9999)):
        assert len(failure.message) < 300


def test_a_dead_peer_is_denied_for_good():
    assert peer_gone().error_class is ErrorClass.DENIED


def test_direct_mode_by_choice_and_by_the_kind_of_login_are_both_mended_by_its_hint():
    by_choice, by_kind = direct_mode("work").hint.split("; else ")
    assert by_choice == 'Where config.toml sets mode = "direct", set "auto" and reload'
    assert by_kind.endswith(": copilot-cred login --account work --client-id vscode")


def test_the_listeners_are_those_of_the_units():
    http = dict.fromkeys(("http", "http-tcp", "http-run"), COMPLETE)
    assert dict(LISTENER_SCOPES) == {"rpc": ADMIN, **http}
