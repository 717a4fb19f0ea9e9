"""What is left of a plan, as a person is told it: every plan, every source, every mistake.

The token that may read the bill goes in on stdin and comes out nowhere; the page that it opens is
asked with it, and for the user that GitHub itself names.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from system.github import EXCHANGE
from system.scripted import CHAT, GITHUB_TOKEN, LOGINS, fault, good, refused, reloaded, with_more
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator

    from brokerd.simulator.records import RecordedRequest
    from system.github import GitHub
    from system.session import Session


SEAT = "/copilot_internal/user"
PREMIUM = "premium_interactions"
HELLO = ("chat", "--model", "sim-chat", "hello")
MYSTATUS = ".config/opencode/copilot-quota-token.json"
SOURCES = ["billing", "seat", "headers", "token"]


def bill(login: str = "octocat", page: str = "premium_request") -> str:
    return f"/users/{login}/settings/billing/{page}/usage"


def quota(session: Session, *more: str) -> dict[str, Any]:
    """Return what `quota --json` says, asked anew."""
    told = good(session, "quota", "--json", "--fresh", *more)
    assert not GITHUB_TOKEN.search(told)
    return dict(json.loads(told))


def anew(session: Session) -> None:
    """Have a daemon that has read nothing yet: no other asks twice within ten seconds."""
    session.systemctl("reset-failed", SERVICE)  # systemd counts its starts
    session.systemctl("restart", SERVICE)
    good(session, "get")


def verbose(session: Session, *more: str) -> tuple[str, str]:
    """Return stdout and stderr of `quota -v`, each in one line."""
    done = session.cred("quota", "-v", *more)
    assert done.returncode == 0, done.stderr
    assert not GITHUB_TOKEN.search(done.stdout + done.stderr)
    return " ".join(done.stdout.split()), " ".join(done.stderr.split())


def outcomes(answer: dict[str, Any]) -> list[str]:
    assert [each["source"] for each in answer["tried"]] == SOURCES, "in this order"
    return [each["outcome"] for each in answer["tried"]]


def requests(github: GitHub, path: str) -> list[RecordedRequest]:
    return [each for each in list(github.world.requests) if each.path == path]


def shown_as(token: str) -> str:
    """Return what the simulator records of a request that bears it."""
    return f"Bearer sha256:{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def give(session: Session, github: GitHub, *more: str, login: str | None = None) -> str:
    """Enter a new token that may read a bill; return it."""
    token = github.world.mint("github_pat_", login)
    good(session, "quota", "set-pat", *more, stdin=f"{token}\n")
    return token


def kept_in(session: Session, token: str) -> list[str]:
    """Return the files of the state folder that hold it."""
    grep = ("grep", "-rlF", "-f", "-", ".local/state/copilot-broker")  # not on a command line
    return session.run(*grep, stdin=token).stdout.split()


# Every plan.

PLANS: dict[str, tuple[dict[str, Any], str, dict[str, Any], str]] = {
    "paid, and overdrawn": (
        {"user_form": "paid"},
        PREMIUM,
        {"remaining": -2.33, "used": 302.33, "overage": 2.33, "overage_permitted": True},
        "302.33 of 300 used, 0 % left, 2.33 beyond it",
    ),
    "fractional": (
        {"user_form": "fractional"},
        PREMIUM,
        {"remaining": 204.67, "used": 95.33, "entitlement": 300},
        "95.33 of 300 used, 68 % left",
    ),
    "unlimited": (
        {"user_form": "unlimited"},
        PREMIUM,
        {"unlimited": True, "remaining": None, "entitlement": None},
        "premium_interactions unlimited",
    ),
    "exhausted": (
        {"user_form": "exhausted"},
        PREMIUM,
        {"remaining": 0, "percent_remaining": 0, "blocked": True},
        "[--------------------] 300 of 300 used, 0 % left",
    ),
    "free": (
        {"user_form": "free", "exchange_form": "free"},
        "chat",
        {"remaining": 37, "entitlement": 50, "percent_remaining": 74},
        "13 of 50 used, 74 % left",
    ),
    "AI credits": (
        {"user_form": "ai_credits"},
        PREMIUM,
        {"remaining": 1204.25, "used": 295.75, "unit": "credits"},
        "295.75 of 1500 credits used, 80 % left",
    ),
    "wrong types": (
        {"user_form": "odd"},
        PREMIUM,
        {"remaining": 29.7, "entitlement": 300, "resets_at": None},
        "270.3 of 300 used",
    ),
    "a seat without numbers": (
        {"user_form": "nulls"},
        "chat",
        {"remaining": None, "used": None, "unlimited": False},
        "chat no figures",
    ),
}


def test_every_plan_is_shown_as_it_is(signed_in: Session, github: GitHub) -> None:
    for name, (settings, kind, told, words) in PLANS.items():
        github.forget(**settings)
        anew(signed_in)
        answer = quota(signed_in)
        assert answer["source"] == "seat", name
        assert answer["kinds"][kind].items() >= told.items(), name
        said, _ = verbose(signed_in)
        assert words in said, name
        assert "octocat on github.com (account default)" in said
        assert "told by the account's Copilot seat" in said
        assert len(requests(github, SEAT)) == 1, "asked once, whoever reads it how often"


def test_what_copilot_knows_is_added_to_a_seat_without_numbers(
    signed_in: Session, github: GitHub
) -> None:
    github.forget(user_form="nulls")
    good(signed_in, *HELLO)
    answer = quota(signed_in)
    assert (answer["source"], outcomes(answer)[1]) == ("headers", "nothing")
    assert answer["kinds"][PREMIUM]["percent_remaining"] == 87.5
    said, _ = verbose(signed_in)
    assert "told by Copilot, beside its last answers" in said


def test_somebody_without_copilot_is_told_so(signed_in: Session, github: GitHub) -> None:
    github.forget(user_form="no_access")
    answer = quota(signed_in)
    assert (answer["source"], answer["sku"], answer["kinds"]) == ("seat", "no_access", {})
    assert "no figures" in verbose(signed_in)[0]


# Every source.


def test_the_four_sources_in_their_order(signed_in: Session, github: GitHub) -> None:
    give(signed_in, github)
    answer = quota(signed_in)
    assert outcomes(answer) == ["used", "added", "not_needed", "not_needed"]
    said, _ = verbose(signed_in)
    assert "told by GitHub's billing pages" in said
    assert "the rest by the account's Copilot seat" in said

    good(signed_in, "quota", "forget-pat")
    answer = quota(signed_in)
    assert outcomes(answer) == ["not_configured", "used", "not_needed", "not_needed"]
    said, why = verbose(signed_in)
    assert "told by the account's Copilot seat" in said
    assert "billing: no personal access token is kept" in why
    assert "copilot-cred quota set-pat" in why

    anew(signed_in)
    good(signed_in, *HELLO)
    fault(github, SEAT, "404")
    answer = quota(signed_in)
    assert outcomes(answer) == ["not_configured", "failed", "used", "not_needed"]
    assert answer["kinds"][PREMIUM]["percent_remaining"] == 87.5
    said, why = verbose(signed_in)
    assert "told by Copilot, beside its last answers" in said
    assert "seat: GitHub does not show the seat" in why

    # a daemon that has heard nothing yet, and a plan whose token tells
    github.forget(exchange_form="free")
    anew(signed_in)
    fault(github, SEAT, "404")
    answer = quota(signed_in)
    assert outcomes(answer) == ["not_configured", "failed", "nothing", "used"]
    assert answer["kinds"]["chat"]["remaining"] == 37
    said, why = verbose(signed_in)
    assert "told by the account's Copilot token" in said
    assert "headers: no answer of Copilot's has told a quota" in why


def test_nobody_tells(signed_in: Session, github: GitHub) -> None:
    fault(github, SEAT, "404")
    error = refused(signed_in, "quota")
    assert (error["class"], error["code"]) == (5, "seat_hidden")
    assert "copilot-cred quota set-pat" in error["hint"]


def test_a_seat_that_fails_is_told_by_its_own_words(signed_in: Session, github: GitHub) -> None:
    fault(github, SEAT, "429")
    for _ in range(2):
        error = refused(signed_in, "quota", "--fresh")
        assert (error["class"], error["code"]) == (7, "rate_limited")
        assert 50 < error["retry_after"] <= 60
    assert len(requests(github, SEAT)) == 1, "not before the time that GitHub named"


def test_a_402_has_it_read_anew(signed_in: Session, github: GitHub) -> None:
    assert quota(signed_in)["kinds"][PREMIUM]["remaining"] == -2.33
    github.world.settings.change({"user_form": "exhausted"})
    fault(github, CHAT, "402_quota_exceeded")
    assert refused(signed_in, *HELLO)["code"] == "quota_exceeded"
    eventually(lambda: len(requests(github, SEAT)) == 2)  # nobody asked for it
    told = json.loads(good(signed_in, "quota", "--json"))
    assert told["kinds"][PREMIUM]["blocked"] is True
    assert len(requests(github, SEAT)) == 2


def test_a_dead_login_is_shown_once(signed_in: Session, github: GitHub) -> None:
    github.world.revoke_all()
    for _ in range(2):
        error = refused(signed_in, "quota", "--fresh")
        assert (error["class"], error["code"]) == (4, "bad_credentials")
        assert error["hint"].endswith("copilot-cred login")
    wrong = [each.path for each in list(github.world.requests) if each.status == 401]
    assert len(wrong) == 1
    assert wrong[0] in (SEAT, EXCHANGE)


# The bill.


def test_a_token_of_ones_own_opens_the_bill(signed_in: Session, github: GitHub) -> None:
    token = give(signed_in, github)
    assert {each.headers["authorization"] for each in requests(github, bill())} == {
        shown_as(token)
    }
    assert [each.status for each in requests(github, bill())] == [200]
    (place,) = kept_in(signed_in, token)
    assert place.startswith(LOGINS)
    assert signed_in.good("stat", "--format=%a", place).strip() == "600"

    answer = quota(signed_in)
    assert (answer["source"], answer["has_pat"]) == ("billing", True)
    assert answer["kinds"][PREMIUM].items() >= {"used": 53.58, "entitlement": 300}.items()
    assert answer["models"] == {
        "Simulated 4.5": 41,
        "Simulated Mini": 12.33,
        "Simulated Large": 0.25,
    }
    said, more = verbose(signed_in)
    assert "53.58 of 300 used" in said
    assert "by model: Simulated 4.5 41" in more
    assert "Simulated Mini 12.33" in more

    # it is nobody's login: Copilot and the seat never see it
    others = [
        each for each in list(github.world.requests) if "/settings/billing/" not in each.path
    ]
    assert shown_as(token) not in {each.headers.get("authorization") for each in others}

    signed_in.systemctl("restart", SERVICE)
    assert quota(signed_in)["source"] == "billing"
    said = signed_in.cred("quota", "forget-pat")
    assert (said.returncode, "GitHub still takes it" in said.stderr) == (0, True)
    assert kept_in(signed_in, token) == []
    assert quota(signed_in)["source"] == "seat"
    assert "None was kept" in signed_in.cred("quota", "forget-pat").stderr


def test_the_bill_may_be_in_credits_or_empty(signed_in: Session, github: GitHub) -> None:
    github.forget(billing_form="ai_credits", user_form="ai_credits")
    give(signed_in, github)
    answer = quota(signed_in)
    kind = answer["kinds"]["ai_credits"]
    assert (kind["used"], kind["entitlement"], kind["unit"]) == (53.58, 1500, "credits")
    assert "53.58 of 1500 credits used" in verbose(signed_in)[0]

    github.forget(billing_form="empty")
    anew(signed_in)
    answer = quota(signed_in)
    assert (answer["source"], outcomes(answer)[0]) == ("seat", "nothing")
    assert "billing: GitHub's billing pages list no use" in verbose(signed_in)[1]


def test_the_token_is_taken_from_stdin_only(signed_in: Session, github: GitHub) -> None:
    token = f"github_pat_{'x' * 82}"
    done = signed_in.cred("quota", "set-pat", token, stdin=token)
    assert (done.returncode, token in done.stderr + done.stdout) == (2, False), done.stderr
    for kind, words in (("ghp_", "classic"), ("gho_", "")):
        error = refused(signed_in, "quota", "set-pat", stdin=github.world.mint(kind))
        assert (error["class"], words in error["message"]) == (2, True), error
        assert not GITHUB_TOKEN.search(str(error))
    assert refused(signed_in, "quota", "set-pat")["class"] == 2  # nothing on it
    assert requests(github, bill()) == []


class Mistake(NamedTuple):
    """A token that opens no bill."""

    settings: dict[str, Any]
    login: str
    """Whose token it is."""
    status: int
    code: str
    words: str


MISTAKES = {
    "no permission": Mistake(
        {"billing_form": "no_permission"}, "octocat", 403, "pat_permission", "permission Plan"
    ),
    "expired": Mistake(
        {"billing_form": "expired"}, "octocat", 401, "pat_refused", "it has expired"
    ),
    "another person's": Mistake({}, "hubot", 404, "pat_user_unknown", "no bill of octocat"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_says_what_to_change(
    signed_in: Session, github: GitHub, mistake: Mistake
) -> None:
    github.forget(**mistake.settings)
    token = github.world.mint("github_pat_", mistake.login)
    error = refused(signed_in, "quota", "set-pat", stdin=token)
    assert (error["class"], error["code"]) == (5, mistake.code)
    assert mistake.words in error["message"]
    assert "copilot-cred quota set-pat" in error["hint"]
    assert [each.status for each in requests(github, bill())] == [mistake.status]
    assert kept_in(signed_in, token) == [], "what does not work is not kept"
    assert quota(signed_in)["has_pat"] is False
    good(signed_in, "get")  # the login is not in question


def test_a_kept_token_that_stops_working_is_named(signed_in: Session, github: GitHub) -> None:
    for form, status, words in (
        ("no_permission", 403, "/settings/personal-access-tokens, or make a new one"),
        ("unknown_user", 404, "Make one while signed in as octocat"),
        ("expired", 401, "Make a new fine-grained one"),
    ):
        github.forget()
        give(signed_in, github)
        github.forget(billing_form=form)
        anew(signed_in)
        answer = quota(signed_in)
        assert (answer["source"], outcomes(answer)[:2]) == ("seat", ["failed", "used"]), form
        assert quota(signed_in)["source"] == "seat"
        statuses = [each.status for each in requests(github, bill())]
        assert statuses == [status], "nobody is asked twice at once"
        assert words in verbose(signed_in)[1]
        assert "Not everybody who was asked answered" in signed_in.cred("quota").stderr


def test_logout_forgets_the_token_too(signed_in: Session, github: GitHub) -> None:
    token = give(signed_in, github)
    good(signed_in, "logout")
    assert kept_in(signed_in, token) == []
    assert signed_in.run("ls", LOGINS).stdout == ""
    assert refused(signed_in, "quota")["class"] == 4
    good(signed_in, "login")
    answer = quota(signed_in)
    assert (answer["source"], answer["has_pat"]) == ("seat", False)


# What opencode-mystatus keeps.


@pytest.fixture
def mystatus(signed_in: Session) -> Iterator[Session]:
    yield signed_in
    signed_in.good("rm", "-rf", MYSTATUS.rpartition("/")[0])


def write_mystatus(session: Session, mode: str, **said: str) -> None:
    session.write(MYSTATUS, json.dumps(said))
    session.good("chmod", mode, MYSTATUS)


def test_the_token_of_mystatus_is_used_and_not_kept(mystatus: Session, github: GitHub) -> None:
    token = github.world.mint("github_pat_")
    write_mystatus(mystatus, "600", token=token, username="octocat", tier="pro+")
    answer = quota(mystatus)
    assert (answer["source"], answer["has_pat"], answer["tier"]) == ("billing", False, "")
    assert requests(github, bill())[-1].headers["authorization"] == shown_as(token)
    assert answer["kinds"][PREMIUM]["entitlement"] == 300, "the seat knows better than the file"
    assert kept_in(mystatus, token) == []

    anew(mystatus)
    fault(github, SEAT, "404")
    answer = quota(mystatus)
    assert (answer["tier"], answer["kinds"][PREMIUM]["entitlement"]) == ("pro+", 1500)
    fault(github, SEAT, "404")
    assert "only your own word" in verbose(mystatus)[0]

    github.world.requests.clear()
    own = give(mystatus, github)
    assert quota(mystatus)["has_pat"] is True
    assert {each.headers["authorization"] for each in requests(github, bill())} == {shown_as(own)}


def test_a_file_of_mystatus_that_others_can_read_is_not_used(
    mystatus: Session, github: GitHub
) -> None:
    token = github.world.mint("github_pat_")
    write_mystatus(mystatus, "644", token=token, username="octocat")
    said = " ".join(mystatus.cred("quota").stderr.split())  # also without -v: it is dangerous
    assert "others may read or change the token in it (mode 0644)" in said
    assert f"chmod 600 {mystatus.home}/{MYSTATUS}" in said
    assert requests(github, bill()) == []

    write_mystatus(mystatus, "600", token=token, username="hubot")
    assert "it is hubot's, not octocat's" in verbose(mystatus)[1]
    mystatus.write(MYSTATUS, "{")
    assert "it is no JSON" in verbose(mystatus)[1]
    assert requests(github, bill()) == []


# Several accounts.


def test_each_account_has_a_plan_and_a_token_of_its_own(
    signed_in: Session, github: GitHub
) -> None:
    with_more(signed_in, '[accounts.work]\nclient_id = "copilot"\n')
    reloaded(signed_in)
    github.world.settings.change({"login": "hubot", "user_id": 1})
    good(signed_in, "login", "--account", "work")
    token = give(signed_in, github, "--account", "work")
    assert requests(github, bill("hubot"))[-1].headers["authorization"] == shown_as(token)

    answer = quota(signed_in, "--account", "work")
    assert (answer["account"], answer["login"], answer["source"]) == ("work", "hubot", "billing")
    assert "hubot on github.com (account work)" in verbose(signed_in, "--account", "work")[0]
    answer = quota(signed_in)
    assert (answer["account"], answer["login"], answer["source"]) == ("default", "octocat", "seat")
    assert requests(github, bill("octocat")) == []
    assert "copilot-cred quota set-pat" in verbose(signed_in)[1]

    good(signed_in, "quota", "forget-pat", "--account", "work")
    _, why = verbose(signed_in, "--account", "work", "--fresh")
    assert "copilot-cred quota set-pat --account work" in why
    assert refused(signed_in, "quota", "--account", "home")["code"] == "login_required"
