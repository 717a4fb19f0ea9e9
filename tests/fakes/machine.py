"""A token machine on a bench: virtual time, answers by hand, and the values they hold."""

from dataclasses import replace

from brokerd.core.machine import events as ev
from brokerd.core.machine.effects import (
    ExchangeToken,
    IdentifyUser,
    PollDeviceGrant,
    PrepareDirect,
    RenewToken,
    SaveLogin,
)
from brokerd.core.machine.states import Ready
from brokerd.core.machine.token_machine import TokenMachine
from brokerd.core.tokens import CopilotToken, DeviceCode, GitHubToken, Login, User
from brokerd.errors import ErrorClass, Failure


CODE = DeviceCode("canary-device", "WDJB-MJHT", "https://github.com/login/device", 900.0, 5.0)
GRANT = GitHubToken("gho_canary")
USER = User(42, "octocat")
LOGIN = Login("github.com", USER, GRANT, "app")
NEWER = Login("github.com", USER, GitHubToken("gho_newer"), "app")
COPILOT = CopilotToken("tid=canary:mac", 1800.0, 1500.0, "https://api.example.com")
DOWN = Failure(ErrorClass.TEMPORARY, "network_down", "the network is down")
LIMITED = Failure(ErrorClass.TEMPORARY, "rate_limited", "slower", retry_after=600.0)
BAD = Failure(ErrorClass.LOGIN_REQUIRED, "bad_credentials", "GitHub refused the login")
BAD_REFRESH = Failure(ErrorClass.LOGIN_REQUIRED, "bad_refresh_token", "GitHub refused to renew")
NO_PLAN = Failure(ErrorClass.DENIED, "no_copilot_access", "no plan")
NOT_FOUND = Failure(ErrorClass.DENIED, "exchange_not_found", "no exchange for this app")
LOCKED = Failure(ErrorClass.LOCKED, "store_locked", "the store is locked")
GONE = Failure(ErrorClass.STORE_UNAVAILABLE, "no_store", "the store is gone")

HOURS_8 = 28_800.0
OLD_PAIR = GitHubToken("ghu_canary_1", "ghr_canary_1", expires_in=HOURS_8)
NEW_PAIR = GitHubToken("ghu_canary_2", "ghr_canary_2", expires_in=HOURS_8)


def direct_token(token, lifetime=86_400.0):
    """What PrepareDirect brings."""
    base = "https://api.example.com"
    return CopilotToken(token.value, lifetime, lifetime / 2, base, is_direct=True)


class Bench:
    """A machine, a clock and the question that is open."""

    def __init__(self, chance=lambda: 0.0, mode="auto"):
        self.mode = mode
        self.machine = TokenMachine(
            host="github.com", client_id="app", chance=chance, mode=lambda: self.mode
        )
        self.now = 1000.0

    @property
    def state(self):
        return self.machine.state

    @property
    def question(self):
        return self.machine.question

    def lease(self):
        return self.machine.lease(self.now)

    def do(self, event):
        effects = self.machine.handle(event, self.now)
        assert not effects or effects[-1] is self.question
        return effects

    def answer(self, kind, *values):
        return self.do(kind(self.question.generation, *values))

    def fail(self, failure, *, permanent=False):
        return self.do(ev.QuestionFailed(self.question.generation, failure, permanent))

    def refuse(self, failure):
        return self.fail(failure, permanent=True)

    def to_deadline(self):
        self.now = max(self.now, self.machine.deadline())
        return self.machine.handle_timer(self.now)

    def code_issued(self):
        self.do(ev.LoginRequested())
        self.answer(ev.DeviceCodeIssued, CODE)
        return self

    def polling(self):
        self.code_issued().to_deadline()
        assert isinstance(self.question, PollDeviceGrant)
        return self

    def identifying(self, token=GRANT):
        self.polling().answer(ev.DeviceGranted, token)
        assert isinstance(self.question, IdentifyUser)
        return self

    def saving(self, token=GRANT):
        self.identifying(token).answer(ev.UserIdentified, USER)
        assert isinstance(self.question, SaveLogin)
        return self

    def minting(self, token=GRANT):
        self.saving(token).answer(ev.LoginSaved)
        assert isinstance(self.question, (ExchangeToken, PrepareDirect))
        return self

    def ready(self, token=GRANT, copilot=COPILOT):
        self.minting(token).answer(ev.TokenIssued, copilot)
        assert isinstance(self.state, Ready)
        return self

    def loaded(self, token, expires_in=None):
        """Start with a login that its store keeps."""
        self.do(ev.LoginKept())
        self.answer(ev.LoginLoaded, replace(LOGIN, token=token), expires_in)
        return self

    def renewing(self, copilot=COPILOT):
        """Be ready with a pair that is about to expire, and renew it."""
        self.ready(OLD_PAIR, copilot)
        while not isinstance(self.question, RenewToken):
            self.to_deadline()
            if isinstance(self.question, (ExchangeToken, PrepareDirect)):
                self.answer(ev.TokenIssued, copilot)
        return self
