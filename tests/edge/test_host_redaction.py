"""No registered or recognisable secret gets out, in whatever form it hides."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest

from brokerd.host.logs.redaction import MASK, MAX_SECRETS, Redactor, _Forms


CANARY = "tid=c4n4ry;exp=1/2;sku=a+b:9f~é?canary"


@pytest.fixture
def redactor() -> Redactor:
    made = Redactor()
    made.register_secret(CANARY)
    return made


def encodings():
    raw = CANARY.encode()
    yield "plain", CANARY
    yield "hex", raw.hex()
    yield "HEX", raw.hex().upper()
    yield "url", quote(CANARY, safe="")
    yield "url path", quote(CANARY)
    yield "url plus", quote_plus(CANARY)
    yield "url lower", quote(CANARY, safe="").replace("%3B", "%3b").replace("%3D", "%3d")
    yield "url twice", quote(quote(CANARY, safe=""), safe="")
    yield "url all", "".join(f"%{byte:02x}" for byte in raw)
    for before in (b"", b"u", b"us", b"user:"):
        for after in (b"", b"x", b"xy"):
            text = base64.b64encode(before + raw + after).decode()
            yield f"base64 {before!r} {after!r}", text
            yield f"base64 bare {before!r} {after!r}", text.rstrip("=")
    yield "base64url", base64.urlsafe_b64encode(raw).decode()


@pytest.mark.parametrize(("name", "form"), [pytest.param(n, f, id=n) for n, f in encodings()])
def test_registered_secrets_are_found_in_every_form(redactor, name, form):
    assert redactor.redact(f"before {form} after, {form}") == f"before {MASK} after, {MASK}"


def test_an_opaque_secret_needs_registering():
    redactor = Redactor()
    assert redactor.redact("hunter2hunter2") == "hunter2hunter2"
    redactor.register_secret("hunter2hunter2")
    assert redactor.redact("hunter2hunter2") == MASK
    redactor.forget_secret("hunter2hunter2")
    redactor.forget_secret("hunter2hunter2")
    assert redactor.redact("hunter2hunter2") == "hunter2hunter2"


def test_all_secrets_can_be_forgotten_and_patterns_stay(redactor):
    redactor.register_secret("hunter2hunter2")
    redactor.forget_all_secrets()
    assert redactor.redact("hunter2hunter2") == "hunter2hunter2"
    assert redactor.redact(CANARY) == MASK


@pytest.mark.parametrize("length", [8, 9, 10, 11])
def test_the_shortest_secrets_are_found_in_the_shortest_texts(length):
    redactor = Redactor()
    secret = "s3cr?t~é..x"[:length]
    redactor.register_secret("x" * 100)
    redactor.register_secret(secret)
    raw = secret.encode()
    for form in (secret, raw.hex(), quote(secret, safe=""), base64.b64encode(raw).decode()):
        assert redactor.redact(form) in (MASK, f"{MASK}=", f"{MASK}==")
    for before in (b"u", b"us"):
        assert MASK in redactor.redact(base64.b64encode(before + raw).decode().rstrip("="))


def test_a_text_that_can_hold_no_secret_is_not_searched_for_any(redactor, monkeypatch):
    monkeypatch.setattr(_Forms, "mask", None)
    for text in ("", "4711", "session-c1.scope", "x" * (len(CANARY) - 1)):
        assert redactor.redact(text) == text
    with pytest.raises(TypeError):
        redactor.redact("x" * len(CANARY))
    redactor.register_secret("hunter2hunter2")
    with pytest.raises(TypeError):
        redactor.redact("session-c1.scope")


def test_short_values_do_not_blacken_everything():
    redactor = Redactor()
    redactor.register_secret("")
    redactor.register_secret("a")
    assert redactor.redact("a banana") == "a banana"


def test_the_memory_is_bounded_and_the_oldest_goes_first():
    redactor = Redactor()
    values = [f"opaque-value-{number:06}" for number in range(MAX_SECRETS + 1)]
    for value in values[:-1]:
        redactor.register_secret(value)
    redactor.register_secret(values[0])  # seen again: young again
    redactor.register_secret(values[-1])
    assert redactor.redact(values[0]) == MASK
    assert redactor.redact(values[-1]) == MASK
    assert redactor.redact(values[1]) == values[1]


TOKEN = "c4n4ryC4N4RYc4n4ryC4N4RYc4n4ryC4N4RY"


@pytest.mark.parametrize(
    "text",
    [
        f"gho_{TOKEN}",
        f"ghu_{TOKEN}",
        f"ghr_{TOKEN}",
        f"ghp_{TOKEN}",
        f"github_pat_11{TOKEN}_{TOKEN}",
        f"x=gho_{TOKEN}&y",
        f"tid={TOKEN};exp=1;sku=x:{TOKEN}",
        f"tid%3D{TOKEN}%3Bexp",
        f"Authorization: token {TOKEN}",
        f"authorization: Bearer {TOKEN}",
        f"{{'authorization': 'token {TOKEN}', 'x': 'y'}}",
        f'{{"Authorization": "token {TOKEN}"}}',
        f"[(b'Authorization', b'token {TOKEN}')]",
        f"Proxy-Authorization: Basic {TOKEN}",
        f"(b'Set-Cookie', b'_gh_sess={TOKEN}; path=/')",
        f"Cookie: user_session={TOKEN}",
        f"Bearer {TOKEN}",
        f"client_id=x&device_code={TOKEN}&grant_type=y",
        f'{{"device_code": "{TOKEN}", "interval": 5}}',
        f"{{'access_token': '{TOKEN}'}}",
        f"refresh_token={TOKEN}",
        f"http://user:{TOKEN}@proxy:3128",
        "3584d83530557fdd1f46af8289938c8ef79f9dc5",
        base64.b64encode(f"gho_{TOKEN}".encode()).decode(),
        f"gho_{TOKEN}".encode().hex(),
        f"cpb_{TOKEN}",
        f"'x-api-key': 'cpb_{TOKEN}'",
        base64.b64encode(f"cpb_{TOKEN}".encode()).decode(),
        f"cpb_{TOKEN}".encode().hex(),
    ],
)
def test_tokens_are_known_by_their_looks(text):
    shown = Redactor().redact(f"before {text} after")
    assert MASK in shown
    assert shown.startswith("before ")
    for secret in (TOKEN, TOKEN.encode().hex(), base64.b64encode(TOKEN.encode()).decode()[4:-4]):
        assert secret not in shown
    assert "3584d835" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "token refreshed (account=default token_fp=1f46af82)",
        "waiting for the device authorization grant, 5 s",
        "GET https://api.github.com/user 200",
        "8d45645703f94f8e8a2b5d7e91e1ab37",
        "run: copilot-cred login",
        "the token is 12 characters; tidy=1",
    ],
)
def test_harmless_text_stays(text):
    assert Redactor().redact(text) == text


def test_a_long_text_takes_no_time(redactor):
    # Quadratic patterns would take minutes here; the suite's timeout is the judge.
    for unit in ("A", "tid", "gho_", "%25", "Authorization: ", "://", "eyJ"):
        redactor.redact(unit * 20_000)
