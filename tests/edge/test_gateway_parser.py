"""What the HTTP door takes for a request, and what it does not even look at."""

from __future__ import annotations

import pytest

from brokerd.gateway import parser as parsing
from brokerd.gateway.known_heads import LONGEST, MOST, KnownHeads
from brokerd.gateway.messages import Head, Request
from brokerd.gateway.parser import MAX_BODY, MAX_HEAD, MAX_HEADERS, MAX_LINE, Parser, RefusedError


POST = b"POST /v1/chat/completions?beta=true HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


def read(data: bytes, **options) -> Request | None:
    """The first request in it; None where more has to come."""
    parser = Parser(**options)
    return parser.take() if parser.receive(data) else None


def read_by_byte(data: bytes, **options) -> None:
    parser = Parser(**options)
    for byte in data:
        parser.receive(bytes([byte]))


def refusal(data: bytes, **options) -> tuple[int, str]:
    """Why it is none, the same whether it comes at once or byte by byte."""
    with pytest.raises(RefusedError) as whole:
        read(data, **options)
    with pytest.raises(RefusedError) as cut:
        read_by_byte(data, **options)
    assert cut.value.status == whole.value.status
    return whole.value.status, whole.value.reason


def test_a_request_is_read_whole():
    request = read(POST + JSON + b"X-Api-Key: \t k y \t\r\nContent-Length: 5\r\n\r\nhello")
    headers = {"host": "localhost", "content-type": "application/json", "x-api-key": "k y"}
    head = Head("POST", "/v1/chat/completions", "beta=true", headers, has_body=True)
    assert request == Request(head, b"hello")
    assert "hello" not in repr(request)
    assert "k y" not in repr(request)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (POST + b"Content-Length: 0\r\n\r\n", b""),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (
            POST
            + b"transfer-encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
            b"hello",
        ),
        (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
        (b"\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    ],
    ids=["length", "empty", "chunked", "extension-and-trailer", "none", "empty-line-before"],
)
def test_it_may_be_cut_anywhere(data, body):
    whole = read(data)
    assert whole.body == body
    for at in range(1, len(data)):
        parser = Parser()
        assert not parser.receive(data[:at]), at
        assert parser.receive(data[at:]), at
        assert parser.take() == whole
        assert not parser.has_begun
    parser = Parser()
    assert [parser.receive(bytes([byte])) for byte in data].index(True) == len(data) - 1
    assert parser.take() == whole


def test_what_comes_behind_waits_for_its_turn():
    first = POST + b"Content-Length: 1\r\n\r\n"
    parser = Parser()
    assert parser.receive(first + b"a" + first + b"b" + first[:20])
    assert parser.take().body == b"a"
    parser.wait(first[20:])
    assert parser.receive(b"")
    assert parser.take().body == b"b"
    assert not parser.receive(b"")
    assert parser.in_body
    assert parser.receive(b"c")
    assert parser.take().body == b"c"
    assert not parser.receive(b"")
    assert not parser.has_begun
    assert parser.held == 0


def test_behind_the_last_chunk_the_connection_ends():
    parser = Parser()
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    assert parser.receive(chunked)
    assert parser.keep_alive
    parser.take()
    assert parser.receive(chunked + b"GET / HTTP/1.1\r\n\r\n")
    assert not parser.keep_alive
    assert parser.take().body == b"a"
    assert not parser.has_begun


@pytest.mark.parametrize(
    "behind",
    [
        POST + b"Content-Length: 5\r\n\r\nother",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nother\r\n0\r\n\r\n",
        POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
        (POST + b"Content-Length: 1\r\n\r\nb") * 3,
    ],
    ids=["length", "chunked", "large", "several"],
)
@pytest.mark.parametrize("cut", [0, 5], ids=["at-once", "late"])
def test_the_body_behind_the_last_chunk_is_no_part_of_the_one_before(behind, cut):
    parser = Parser()
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    if cut:
        assert not parser.receive(chunked[:-cut])
        chunked = chunked[-cut:]
    assert parser.receive(chunked + behind)
    assert parser.take().body == b"a"
    assert not parser.keep_alive


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: x, Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", False),
    ],
)
def test_the_client_says_whether_it_stays(lines, keep_alive):
    parser = Parser()
    assert parser.receive(lines)
    assert parser.keep_alive is keep_alive
    assert parser.take().head.version == lines.partition(b"HTTP/")[2][:3].decode()


def test_headers_that_come_twice_are_joined():
    request = read(b"GET / HTTP/1.1\r\nAccept: a\r\nX-Forwarded-For:\r\naccept: b\r\n\r\n")
    assert request.head.headers == {"accept": "a, b", "x-forwarded-for": ""}
    assert not request.head.has_body


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/a?b?c=%20", "/a", "b?c=%20"),
        (b"//a/../b", "//a/../b", ""),
        (b"*", "*", ""),
        (b"http://localhost/a?b", "/a", "b"),
        (b"http://LOCALHOST", "/", ""),
    ],
)
def test_targets(target, path, query):
    request = read(b"OPTIONS %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
    assert (request.head.path, request.head.query) == (path, query)


def test_an_offer_of_http2_is_not_taken():
    """As JDK's client makes it with every request."""
    request = read(
        POST + b"Connection: Upgrade, HTTP2-Settings\r\nContent-Length: 5\r\n"
        b"HTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\n\r\nhello"
    )
    assert request.body == b"hello"
    assert "upgrade" not in request.head.headers


def test_whoever_waits_for_a_word_before_the_body_is_known():
    parser = Parser()
    assert not parser.receive(POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
    assert parser.wants_continue
    assert not parser.receive(b"a")
    assert not parser.wants_continue
    assert parser.receive(b"b")


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        POST + b"Content-Length: 5, 5\r\n\r\nhello",
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST + b"Content-Length: -5\r\n\r\nhello",
        POST + b"Content-Length: 0x5\r\n\r\nhello",
        POST + b"Content-Length:\r\n\r\nhello",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + b"Content-Length : 5\r\n\r\nhello",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: identity\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nG\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
        POST + b"A: b\r\n c\r\n\r\n",
        POST + b"A: b\r\n\tc\r\n\r\n",
        POST + b"A: b\n\r\n",
        POST + b"A: b\rc\r\n\r\n",
        POST + b"\n\r\n",
        b"GET / HTTP/1.1\nHost: localhost\n\n",
        POST + b"A: \x00\r\n\r\n",
        POST + b"A: \x1b[31m\r\n\r\n",
        POST + b": x\r\n\r\n",
        POST + b"A b: x\r\n\r\n",
        POST + b"A\xe4: x\r\n\r\n",
        POST + b"A\r\n\r\n",
        POST + b"Host: localhost\r\n\r\n",
        POST + b"Authorization: a\r\nAuthorization: b\r\n\r\n",
        POST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        POST + b"Upgrade: websocket\r\n\r\n",
        b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost@evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://localhost/ HTTP/1.1\r\n\r\n",
        b"GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /#a HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
        b"GET / a HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\n\r\n",
        b" GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x94\x00\x01\xa9token.get\x91\x80",
        b"FROBNICATE / HTTP/1.1\r\n\r\n",
        b"\n\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(data):
    assert refusal(data)[0] == 400


def test_garbage_is_not_waited_for():
    for start in (b"\x16", b"\x94", b"{", b"GET\0", b"GET /\r\n", b"GET / HTTP/1.1\r\nA\n"):
        assert refusal(start)[0] == 400


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET /" + b"a" * MAX_LINE, (414, "line_too_long")),
        (b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\n\r\n", (414, "line_too_long")),
        (POST + b"A: b\r\n" * MAX_HEADERS + b"\r\n", (431, "too_many_headers")),
        (POST + b"A: " + b"b" * MAX_HEAD, (431, "head_too_long")),
        (POST + b"A: " + b"b" * MAX_HEAD + b"\r\n\r\n", (431, "head_too_long")),
        (POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY + 1), (413, "body_too_large")),
        (POST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\n", (417, "unknown_expectation")),
    ],
    ids=["line", "whole-line", "headers", "head", "whole-head", "body", "expectation"],
)
def test_too_much_is_refused_by_its_name(data, said, monkeypatch):
    assert refusal(data) == said


def test_as_much_as_is_allowed_is_read():
    line = b"GET /" + b"a" * (MAX_LINE - len(b"GET / HTTP/1.1")) + b" HTTP/1.1\r\n"
    lines = b"A: b\r\n" * (MAX_HEADERS - 1)
    room = MAX_HEAD - len(line + lines + b"C: \r\n\r\n")
    request = read(line + lines + b"C: %b\r\n\r\n" % (b"d" * room))
    assert len(request.head.headers["c"]) == room
    body = b"x" * 1000
    assert read(POST + b"Content-Length: 1000\r\n\r\n" + body, max_body=1000).body == body


def test_a_body_in_chunks_is_bounded_as_it_comes():
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert refusal(head + b"b\r\nhello world\r\n", max_body=10) == (413, "body_too_large")


def test_neither_extensions_nor_trailers_go_on_for_ever(monkeypatch):
    monkeypatch.setattr(parsing, "MAX_OVERHEAD", 1000)
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for endless in (b"1;" + b"a" * 2000, b"1\r\na\r\n0\r\n" + b"a: b\r\n" * 400):
        assert refusal(head + endless) == (400, "bad_chunks")


def test_the_path_of_what_is_too_large_is_known():
    with pytest.raises(RefusedError) as raised:
        read(POST + b"Content-Length: 99\r\n\r\n", max_body=9)
    assert raised.value.path == "/v1/chat/completions"


def test_nothing_is_held_once_it_is_over():
    parser = Parser()
    parser.receive(POST + b"Content-Length: 100\r\n\r\nabc")
    assert parser.held == 3
    parser.discard()
    assert parser.held == 0


# -- heads that were read before ----------------------------------------------------------------

USUAL = POST + JSON + b"Authorization: Bearer none\r\n"


def taken(known: KnownHeads, data: bytes) -> tuple[Request, bool]:
    """Read one request in two pieces, the second of them its last byte."""
    parser = Parser(known=known)
    assert not parser.receive(data[:-1])
    assert parser.receive(data[-1:])
    return parser.take(), parser.keep_alive


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n", b"X-Api-Key: k\r\n"])
def test_a_head_that_was_read_before_says_the_same(more):
    known = KnownHeads()
    first = taken(known, USUAL + more + b"Content-Length: 2\r\n\r\nab")
    again = taken(known, USUAL + more + b"Content-Length: 3\r\n\r\nabc")
    assert again[0].head is first[0].head
    assert again[1] is first[1]
    assert (first[0].body, again[0].body) == (b"ab", b"abc")


def test_on_one_connection_known_and_new_heads_take_turns():
    known = KnownHeads()
    taken(known, USUAL + b"Content-Length: 1\r\n\r\na")
    chunked = USUAL + b"Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\n\r\n"
    parser = Parser(known=known)
    for body in (b"a", b"b", b"", b"c"):
        data = USUAL + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        assert parser.receive(chunked if body == b"b" else data)
        assert parser.take().body == body
        assert parser.receive(b"GET / HTTP/1.1\r\nX: %b\r\n\r\n" % (body or b"-"))
        assert parser.take().head.method == "GET"


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"Content-Length: 1\r\n", b"Content-Length: 9\r\n"),
        (b"Content-Length: 1\r\n", b"Content-Length: \r\n"),
        (b"Content-Length: 1\r\n", b"Content-Length: 1\r\nContent-Length: 1\r\n"),
        (b"Content-Length: 1\r\n", b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        (b"", b"Content-Length: 1x\r\n"),
    ],
    ids=["too-long", "no-length", "twice", "two-framings", "no-number"],
)
def test_what_is_no_request_is_none_behind_a_known_head(first, then):
    known = KnownHeads()
    if first:
        taken(known, USUAL + first + b"\r\na")
    parser = Parser(max_body=8, known=known)
    with pytest.raises(RefusedError) as told:
        parser.receive(USUAL + then + b"\r\n")
    with pytest.raises(RefusedError) as alone:
        Parser(max_body=8).receive(USUAL + then + b"\r\n")
    assert told.value.reason == alone.value.reason


def test_a_known_head_waits_for_leave_to_send_its_body():
    known = KnownHeads()
    expecting = USUAL + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    for size, waits in [(0, False), (2, True), (0, False)]:
        parser = Parser(known=known)
        assert parser.receive(expecting % size) is not waits
        assert parser.wants_continue is waits


def test_heads_that_are_remembered_are_bounded():
    known = KnownHeads()
    for number in range(2 * MOST):
        taken(known, USUAL + b"X: %d\r\nContent-Length: 1\r\n\r\na" % number)
    taken(known, USUAL + b"X: %b\r\nContent-Length: 1\r\n\r\na" % (b"x" * LONGEST))
    assert len(known._known) == MOST
    assert all(len(b"".join(key)) <= LONGEST for key in known._known)
