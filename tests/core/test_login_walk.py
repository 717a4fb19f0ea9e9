"""A random walk of an expiring login past a GitHub that keeps the books.

The books say which tokens live, what rests in the store, and when GitHub wants to be left alone.
Whatever people, callers, suspends and failures do in whatever order, the machine must not lose a
login that nobody refused, use tokens before they are saved, or lend what is dead.
"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from brokerd.core.machine import events as ev
from brokerd.core.machine.effects import (
    ExchangeToken,
    LoadLogin,
    PrepareDirect,
    RenewToken,
    SaveLogin,
)
from brokerd.core.machine.states import SignedOut
from brokerd.core.tokens import CopilotToken, GitHubToken
from brokerd.errors import ErrorClass
from fakes.machine import (
    BAD,
    BAD_REFRESH,
    DOWN,
    GONE,
    LIMITED,
    LOCKED,
    LOGIN,
    NO_PLAN,
    NOT_FOUND,
    Bench,
    direct_token,
)


WISHES = [
    ev.LoginKept(),
    ev.LeaseWanted(),
    ev.FresherTokenWanted(),
    ev.RefreshRequested(),
    ev.Resumed(),
    ev.Resumed(slept=False),
]
FAILURES = [DOWN, LIMITED, NO_PLAN, NOT_FOUND, LOCKED, GONE]
PAUSES = [0.0, 0.3, 2.0, 40.0, 500.0, 2000.0, 30_000.0]


class Books:
    """What GitHub and the store know, and an account that deals with them."""

    def __init__(self, chance, mode, life, expires_in):
        self.bench = Bench(chance, mode)
        self.life = life
        self.serial = 0
        self.living = self.stored = self.pair()
        self.limit = 0.0
        self.refused = False
        self.asked = None
        self.bench.loaded(self.living, expires_in)
        self.look()

    def pair(self):
        self.serial += 1
        return GitHubToken(f"ghu_{self.serial}", f"ghr_{self.serial}", expires_in=self.life)

    def look(self):
        """Check everything that must hold at every moment."""
        bench = self.bench
        question, now = bench.question, bench.now
        if question is not self.asked:
            if self.asked is not None and question is not None:
                assert question.generation > self.asked.generation
            self.asked = question
            if isinstance(question, (ExchangeToken, PrepareDirect, RenewToken)):
                assert now >= self.limit, "asked earlier than GitHub permits"
                assert question.token == self.stored, "used before it was saved"
            if isinstance(question, SaveLogin):
                assert question.login.token == self.living
        if self.living != self.stored:
            held = bench.state.step.login.token
            assert held == self.living, "the only living tokens are lost"
        if not self.refused:
            assert not isinstance(bench.state, SignedOut), "a login was lost"
        lease = bench.lease()
        if lease is not None:
            assert lease.expires_at_boot > now
            if lease.token.is_direct:
                assert lease.token.value == self.stored.value == self.living.value
        deadline = bench.machine.deadline()
        assert deadline is None or deadline >= now
        if bench.machine.failure is None:
            assert deadline is not None, "an account that works towards a token never stalls"

    def answer(self):
        """Let GitHub or the store do what it is asked."""
        match self.bench.question:
            case ExchangeToken(token=token):
                if token == self.living:
                    minted = CopilotToken(f"tid={self.serial}", 1800.0, 1500.0, "https://x")
                    self.bench.answer(ev.TokenIssued, minted)
                else:
                    self.refuse(BAD)
            case PrepareDirect(token=token):
                self.bench.answer(ev.TokenIssued, direct_token(token))
            case RenewToken(token=token):
                if token == self.living:
                    self.living = self.pair()
                    self.bench.answer(ev.LoginRenewed, self.living)
                else:
                    self.refuse(BAD_REFRESH)
            case SaveLogin(login=login):
                self.stored = login.token
                self.bench.answer(ev.LoginSaved)
            case LoadLogin():
                self.bench.answer(ev.LoginLoaded, replace(LOGIN, token=self.stored), None)

    def fail(self, failure, *, permanent):
        if failure.retry_after and not permanent:
            self.limit = max(self.limit, self.bench.now + failure.retry_after)
        self.bench.fail(failure, permanent=permanent)

    def refuse(self, failure):
        assert failure.error_class is ErrorClass.LOGIN_REQUIRED
        self.refused = True
        self.bench.refuse(failure)

    def lose_answer(self):
        """GitHub renews, and nobody hears of it: only then is a login really lost."""
        if isinstance(self.bench.question, RenewToken):
            return
        self.bench.now += 90.0
        self.bench.machine.handle_timer(self.bench.now)

    def step(self, what, rng):
        bench = self.bench
        if what == "reject":
            if bench.lease():
                bench.do(ev.TokenRejected(bench.lease().token))
        elif what == "deadline":
            if bench.machine.deadline() is not None and bench.question is None:
                bench.to_deadline()
        elif isinstance(what, float):
            if bench.question is None or what < 1.0:
                bench.now += what
                bench.machine.handle_timer(bench.now)
        elif what in WISHES:
            bench.do(what)
        elif bench.question is None:
            return
        elif what == "answer":
            self.answer()
        elif what == "lose":
            self.lose_answer()
        elif what == "refuse":
            if isinstance(bench.question, (ExchangeToken, PrepareDirect)):
                self.refuse(BAD)
        else:
            permanent = rng.random() < 0.5
            self.fail(what, permanent=permanent)


STEPS = st.one_of(
    st.sampled_from(["answer", "deadline"]),
    st.sampled_from(["answer", "deadline", "reject", "lose"]),
    st.sampled_from(WISHES),
    st.sampled_from(FAILURES),
    st.sampled_from(PAUSES),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(STEPS, max_size=80),
    st.sampled_from(["auto", "exchange", "direct"]),
    st.sampled_from([28_800.0, 3000.0, 400.0]),
    st.sampled_from([None, -1e9, -5.0, 100.0, 2000.0, 20_000.0]),
    st.randoms(use_true_random=False),
)
def test_no_login_is_lost_that_nobody_refused(steps, mode, life, expires_in, rng):
    books = Books(rng.random, mode, life, expires_in)
    for what in steps:
        books.step(what, rng)
        books.look()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(STEPS | st.just("refuse"), max_size=80),
    st.sampled_from(["auto", "direct"]),
    st.sampled_from([28_800.0, 400.0]),
    st.randoms(use_true_random=False),
)
def test_a_refused_login_never_disturbs_what_is_saved(steps, mode, life, rng):
    books = Books(rng.random, mode, life, 20_000.0)
    for what in steps:
        books.step(what, rng)
        if not isinstance(books.bench.state, SignedOut):
            books.look()
        elif books.living != books.stored:
            raise AssertionError("a login was given up whose tokens were never saved")
