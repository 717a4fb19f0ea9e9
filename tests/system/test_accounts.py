"""Two logins side by side: each request is made with the one it names, and with no other."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from brokerd.simulator import minting
from brokerd.simulator.refusals import error_text
from brokerd.simulator.world import Fault
from fakes.real_names import RealNamesThread
from system.github import EXCHANGE
from system.scripted import AT_DEBUG, CHAT, CONFIG, account, fault, good, refused
from system.session import SERVICE, eventually


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fakes.real_names import RealNames
    from system.github import GitHub
    from system.session import Session


TENANT = "acme.ghe.com"
AT_WORK = ("--account", "work")
CHAT_BODY = json.dumps({"model": "sim-chat", "messages": [{"role": "user", "content": "hello"}]})
HELLO = ("chat", "--model", "sim-chat", "hello")


@pytest.fixture
def names(github: GitHub, tmp_path: Path) -> Iterator[RealNames]:
    with RealNamesThread(github.url, tmp_path) as names:
        yield names


@pytest.fixture
def two(session: Session, names: RealNames, github: GitHub) -> Session:
    """`default` is octocat on github.com, `work` is hubot on a tenant."""
    session.write("authority.pem", names.ca_file.read_text())
    session.write(
        CONFIG,
        f'[network]\nproxy = "{names.url}"\nca_file = "{session.home}/authority.pem"\n'
        f'[store]\nkind = "file"\n{AT_DEBUG}'
        f'[accounts.work]\nhost = "{TENANT}"\nclient_id = "copilot"\n',
    )
    session.systemctl("start", "copilot-broker.socket")
    good(session, "login")
    github.world.settings.change({"login": "hubot", "user_id": 1})
    good(session, "login", *AT_WORK)
    return session


def people(github: GitHub) -> list[str]:
    """Return who asked for completions, by the names that their tokens bear."""
    known = {
        minting.tracking_id(minting.Person(583231, "octocat")): "octocat",
        minting.tracking_id(minting.Person(1, "hubot")): "hubot",
    }
    return [
        known.get(each.account, "nobody")
        for each in list(github.world.requests)
        if each.path == CHAT
    ]


def lines(table: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in table.splitlines()[1:]}


def test_the_list_and_the_default(two: Session) -> None:
    shown = lines(good(two, "account", "list"))
    assert shown["default"][:4] == ["default", "octocat", "github.com", "exchange"]
    assert shown["work"][:4] == ["work", "hubot", TENANT, "exchange"]
    assert (shown["default"][-1], shown["work"][-1]) == ("yes", "-")
    as_json = json.loads(good(two, "account", "list", "--json"))["accounts"]
    assert [each["client_id"] for each in as_json] == [
        "01ab8ac9400c4e429b23",
        "Iv1.b507a08c87ecfe98",
    ], "the account's own client id, from the configuration"

    done = two.cred("account", "use", "work")
    assert (done.returncode, "now work" in done.stderr) == (0, True)
    for again in (False, True):
        if again:
            two.systemctl("restart", SERVICE)
        assert json.loads(good(two, "get", "--format", "json"))["account"] == "work"
    error = refused(two, "account", "use", "home")
    assert (error["class"], error["code"]) == (2, "unknown_account")
    assert json.loads(good(two, "get", "--format", "json"))["account"] == "work"


def test_every_verb_takes_the_account_it_is_told(two: Session, github: GitHub) -> None:
    lease = json.loads(good(two, "get", "--format", "json", *AT_WORK))
    assert (lease["account"], lease["api_base"]) == ("work", f"https://copilot-api.{TENANT}")
    assert json.loads(good(two, "get", "--format", "json"))["account"] == "default"
    assert "work" in good(two, "status", *AT_WORK)
    assert "octocat" not in good(two, "status", *AT_WORK).split("default:")[-1].split("work:")[-1]
    good(two, "models", *AT_WORK)
    good(two, "models", "enable", "--yes", *AT_WORK, "sim-premium")
    good(two, *HELLO, *AT_WORK)
    good(two, "api", CHAT, "--body", CHAT_BODY, *AT_WORK)
    before = {each["name"]: each["token_id"] for each in two.status()["accounts"]}
    done = two.cred("refresh", *AT_WORK)
    assert "The token of work is now" in done.stderr
    after = {each["name"]: each["token_id"] for each in two.status()["accounts"]}
    assert before["default"] == after["default"]
    assert before["work"] != after["work"]
    with two.spawn(f"{two.home}/.local/bin/copilot-cred", "watch", "--json", *AT_WORK) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["account"] == "work"
        watching.terminate()

    asked = [each for each in github.world.requests if each.path.startswith(("/models", CHAT))]
    assert {each.headers["host"] for each in asked} == {f"copilot-api.{TENANT}"}
    assert people(github) == ["hubot", "hubot"]
    good(two, *HELLO)
    assert people(github)[-1] == "octocat"

    good(two, "logout", *AT_WORK)
    assert [each["name"] for each in two.status()["accounts"]] == ["default"]
    error = refused(two, "get", *AT_WORK)
    assert (error["class"], error["hint"].endswith("--account work")) == (4, True), error


def test_an_answer_says_whose_it_was(two: Session) -> None:
    for more, name in ((AT_WORK, "work"), ((), "default")):
        for form in ((), ("--stream",)):
            told = good(two, "api", "-i", CHAT, "--body", CHAT_BODY, *form, *more)
            assert f"\nx-copilot-broker-account: {name}\n" in told.partition("\n\n")[0] + "\n"


def test_what_is_refused_to_one_is_not_asked_with_the_other(two: Session, github: GitHub) -> None:
    github.world.queue_faults(
        CHAT, [Fault(429, {"retry-after": "60"}, error_text("rate_limited", "Slow down"))]
    )
    assert refused(two, *HELLO)["code"] == "rate_limited"
    assert refused(two, *HELLO)["code"] == "cooling_down"
    assert people(github) == ["octocat"]
    assert account(two, "work")["pacing"]["cooldown_in"] is None
    good(two, *HELLO, *AT_WORK)
    assert people(github) == ["octocat", "hubot"]

    fault(github, CHAT, "402_quota_exceeded")
    error = refused(two, *HELLO, *AT_WORK)
    assert error["code"] == "quota_exceeded"
    assert error["hint"].endswith("copilot-cred status --account work")
    assert people(github) == ["octocat", "hubot", "hubot"]
    assert account(two)["refusal"]["code"] == "rate_limited"
    assert account(two, "work")["refusal"]["code"] == "quota_exceeded"


def test_one_dead_login_leaves_the_other_alone(two: Session, github: GitHub) -> None:
    fault(github, EXCHANGE, "401")
    assert refused(two, "refresh")["class"] == 4
    assert refused(two, "get")["class"] == 4
    assert refused(two, *HELLO)["class"] == 4
    assert people(github) == []
    good(two, "get", *AT_WORK)
    good(two, *HELLO, *AT_WORK)
    assert people(github) == ["hubot"]


def test_each_record_about_an_account_names_it(two: Session, github: GitHub) -> None:
    began = time.time()
    good(two, "get", *AT_WORK)
    good(two, *HELLO, *AT_WORK)
    fault(github, CHAT, "429_rate_limited")
    refused(two, *HELLO, *AT_WORK)
    fault(github, EXCHANGE, "500")
    refused(two, "refresh")
    good(two, "login", *AT_WORK)
    good(two, "logout", *AT_WORK)

    def records() -> list[dict[str, object]]:
        found = two.journal(f"--since=@{began:.6f}", "SYSLOG_IDENTIFIER=copilot-brokerd")
        return found if any(each["MESSAGE"] == "signed out" for each in found) else []

    about = {}
    for record in eventually(records):
        about.setdefault(str(record["MESSAGE"]), set()).add(record.get("ACCOUNT"))
        if "TOKEN_FP" in record:
            assert record.get("ACCOUNT") in {"work", "default"}, record
    of_work = {
        "token granted", "token lent", "completion granted", "completion ended",
        "completion refused", "upstream wants fewer requests", "signed in", "signed out",
    }  # fmt: skip
    assert {message: about.get(message) for message in of_work} == {
        message: {"work"} for message in of_work
    }
    assert about["token not refreshed"] == {"default"}
    of_nobody = {message for message, named in about.items() if None in named}
    assert of_nobody <= {
        "connection closed", "configuration reloaded", "ready",
        "connections served",
    }  # fmt: skip
