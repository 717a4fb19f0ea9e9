"""Bytes of a client → requests, one after the other (RFC 9112); httptools is in this file only.

Strict where two readers of the same bytes could see different requests: framing said twice, folded
lines, bare CR or LF, control characters, names and targets that are none. We are the last reader,
so nobody is smuggled past us; but whoever sends such bytes is no client of ours.

The head is looked at as a whole, then the library reads it, unless the very same was read before
(`known_heads`). A body is never decoded but for the transfer coding. What comes behind a request
waits till it is answered.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from brokerd.gateway.known_heads import KnownHeads
from brokerd.gateway.messages import Head, Request


__all__ = ["MAX_BODY", "MAX_HEAD", "MAX_HEADERS", "MAX_LINE", "Parser", "RefusedError"]

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head; common servers allow 8 to 64 KiB."""

MAX_HEADERS: Final = 100
"""Lines of a head; agents send thirty."""

MAX_LINE: Final = 8 * 1024
"""Bytes of a request line (RFC 9112 §3 recommends to support 8000)."""

MAX_BODY: Final = 32 * 1024 * 1024
"""Bytes of a body: images travel inside a prompt. The same as at the RPC door."""

MAX_OVERHEAD: Final = 64 * 1024
"""Bytes that chunks may cost beyond eight times what they carry: extensions, trailers."""

_LINE: Final = re.compile(
    rb"([A-Za-z]{1,32}) ([\x21-\x22\x24-\x7e]+) HTTP/1\.([01])\r\n",
)
_PARTIAL_LINE: Final = re.compile(rb"[A-Za-z]{1,32}(?: |\Z)")
_CONTROLS: Final = bytes(each for each in range(32) if each not in b"\t\r\n") + b"\x7f"
_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_AUTHORITY: Final = re.compile(r"http://([^/?#]*)(.*)", re.DOTALL)
_OFFER: Final = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)
"""JDK's HTTP client offers HTTP/2 with every request; nobody has to take it (RFC 9110 §7.8)."""

_ONCE: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "content-type", "authorization", "expect"}
)
_KNOWN: Final = {
    spelled.encode(): name
    for name in [
        "accept",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "transfer-encoding",
        "user-agent",
        "x-api-key",
        "x-stainless-arch",
        "x-stainless-lang",
        "x-stainless-os",
        "x-stainless-runtime",
        "x-stainless-runtime-version",
        "x-stainless-package-version",
        "x-stainless-retry-count",
        "x-stainless-timeout",
        "x-stainless-async",
        "x-stainless-read-timeout",
    ]
    for spelled in (name, name.title())
}
"""Names that nearly every request has, in the spellings that they are sent in."""


class RefusedError(Exception):
    """It is no request that we read; answer with `status` and close."""

    def __init__(self, status: int, reason: str, path: str = "") -> None:
        """`reason` is a word for the log, `path` where it is known already."""
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.path = path


class Parser:
    """Of one connection. `receive` everything; once it says True, `take`, and then `receive(b"")`.

    After a RefusedError nothing more can be read.
    """

    __slots__ = (
        "_body",
        "_checked",
        "_end",
        "_head",
        "_is_behind",
        "_is_known",
        "_is_whole",
        "_known",
        "_left",
        "_library",
        "_max_body",
        "_overhead",
        "_pieces",
        "_raw",
        "buffer",
        "in_body",
        "keep_alive",
        "on_body",
        "size",
        "wants_continue",
    )

    def __init__(self, max_body: int = MAX_BODY, known: KnownHeads | None = None) -> None:
        """`known` are the heads that all connections of a door have in common."""
        self._max_body = max_body
        self._known = known or KnownHeads()
        self.buffer = bytearray()
        """What is not read yet: part of a head, or what came behind a request."""
        self._checked = 0
        """How much of it has been looked at in vain."""
        self._raw: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # the library calls it; a list's own is cheapest
        self._library = httptools.HttpRequestParser(self)
        self._head: Head | None = None
        self._is_known = False
        """The library has not seen this head, and is not shown its body."""
        self._body: bytearray | None = None
        """What chunks have brought."""
        self._left = self.size = self._overhead = 0
        self._is_whole = self._is_behind = False
        self._end = 0
        """How many pieces there were when it became whole."""
        self.in_body = False
        """A head has been read whose body is not here yet."""
        self.keep_alive = True
        """Whether the connection may live on behind the request that was taken last."""
        self.wants_continue = False
        """It waits for `100 Continue` before it sends the body."""

    @property
    def held(self) -> int:
        """Bytes kept."""
        return len(self.buffer) + self.size

    @property
    def has_begun(self) -> bool:
        """Whether there is more than nothing of a request that was not taken yet."""
        return bool(self.buffer) or self.in_body

    @property
    def head(self) -> Head | None:
        """Of what is not taken yet."""
        return self._head

    def wait(self, data: bytes) -> None:
        """Keep what came while a request is being answered."""
        self.buffer += data

    def receive(self, data: bytes) -> bool:
        """Read on; True: a request is whole, `take` it. Raises RefusedError."""
        if self.in_body:
            self._read_body(data)
        else:
            if self.buffer:
                self.buffer += data
                data = bytes(self.buffer)
            if not data or not self._read_head(data):
                return False
        return not self.in_body

    def take(self) -> Request:
        """Return the request that is whole."""
        head, self._head = self._head, None
        assert head is not None
        if self._body is not None:
            body = bytes(self._body)
            self._body = None
        else:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return Request(head, body)

    def discard(self) -> None:
        """Forget everything; it is over."""
        self.buffer.clear()
        self._pieces.clear()
        self._body = self._head = None
        self.size = 0
        del self._library  # it holds our own methods

    # -- the head -----------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> bool:
        if data.startswith(b"\r\n"):  # an empty line before it (RFC 9112 §2.2)
            data = data[2:]
        end = data.find(b"\r\n\r\n", max(0, self._checked - 3))
        if end < 0 or end + 4 > MAX_HEAD:
            self._look_at_part(data, whole=end >= 0)
            self.buffer[:] = data
            return False
        end += 4
        head = data if end == len(data) else data[:end]
        self._checked = 0
        self.buffer.clear()
        known, key, length = self._known.find(head)
        self._is_known = known is not None
        if known is None:
            self._understand(head, key, length)
        else:
            self._head, self.keep_alive, expects = known
            self._expect_body(max(0, length), self._head.path)
            self.wants_continue = expects and self.in_body
        if end < len(data):
            if self.in_body:
                self._read_body(data[end:])
            else:
                self.buffer += data[end:]
        return True

    def _look_at_part(self, data: bytes, *, whole: bool) -> None:
        """Refuse at once what can become no head any more."""
        line = data.find(b"\r\n")
        if (line if line >= 0 else len(data)) > MAX_LINE and _PARTIAL_LINE.match(data):
            raise RefusedError(414, "line_too_long")
        if whole or len(data) > MAX_HEAD:
            raise RefusedError(431, "head_too_long", _path_in(data))
        part = data[max(0, self._checked - 1) :].removesuffix(b"\r")
        _refuse_odd(part.removeprefix(b"\n") if self._checked else part)
        if line >= 0:
            if not _LINE.match(data):
                raise RefusedError(400, "bad_request_line")
        elif data and data != b"\r" and not _PARTIAL_LINE.match(data):
            raise RefusedError(400, "bad_request_line")
        self._checked = len(data)

    def _understand(self, head: bytes, key: tuple[bytes, bytes], length: int) -> None:
        line = _LINE.match(head)
        if line is None:
            raise RefusedError(400, "bad_request_line")
        if line.end() > MAX_LINE + 2:
            raise RefusedError(414, "line_too_long")
        if head.count(b"\r\n") > MAX_HEADERS + 2:
            raise RefusedError(431, "too_many_headers", _path_in(head))
        _refuse_odd(head)
        if b"\n " in head or b"\n\t" in head:
            raise RefusedError(400, "folded_line")
        if b"h2c" in head:
            head = _OFFER.sub(b"", head)
        raw = self._raw
        raw.clear()
        self._is_whole = False
        try:
            self._library.feed_data(head)
        except httptools.HttpParserError:
            raise RefusedError(400, "bad_head") from None
        except httptools.HttpParserUpgrade:
            raise RefusedError(400, "upgrade") from None
        headers = _headers_of(raw)
        raw.clear()
        method, target, minor = line.groups()
        path, query = _target_of(target.decode("ascii"), headers)
        version = "1.1" if minor == b"1" else "1.0"
        if method == b"CONNECT" or "upgrade" in headers:
            raise RefusedError(400, "upgrade")
        told = headers.pop("content-length", None)
        has_body = told is not None or "transfer-encoding" in headers
        self._head = Head(method.decode("ascii"), path, query, headers, has_body, version)
        expects = self._frame(self._head, told)
        if self._body is None and (told is None or length >= 0):
            self._known.remember(key, (self._head, self.keep_alive, expects))

    def _frame(self, head: Head, length: str | None) -> bool:
        """Find out where the body ends (RFC 9112 §6.3); return whether it wants `100 Continue`."""
        headers, version, path = head.headers, head.version, head.path
        self.wants_continue = False
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if length is not None or version == "1.0" or coding.lower() != "chunked":
                raise RefusedError(400, "bad_framing")
            self._body = bytearray()
            self._overhead = 0
            self.in_body = True
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise RefusedError(400, "bad_framing")
            self._expect_body(int(length), path)
        expected = headers.get("expect")
        if expected is None or version != "1.1":
            return False
        if expected.lower() != "100-continue":
            raise RefusedError(417, "unknown_expectation", path)
        self.wants_continue = self.in_body
        return True

    def _expect_body(self, length: int, path: str) -> None:
        if length > self._max_body:
            raise RefusedError(413, "body_too_large", path)
        self._left = length
        self.in_body = length > 0

    # -- the body -----------------------------------------------------------------------------

    def _read_body(self, data: bytes) -> None:
        self.wants_continue = False
        if self._body is not None:
            self._read_chunks(data)
            return
        if len(data) > self._left:
            self.buffer += data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        self.size += len(data)
        if self._is_known:
            self._pieces.append(data)
        else:
            self._feed(data)
        self.in_body = self._left > 0

    def _read_chunks(self, data: bytes) -> None:
        body, pieces = self._body, self._pieces
        assert body is not None
        assert self._head is not None
        self._is_whole = self._is_behind = False
        self._feed(data)
        if self._is_whole:
            del pieces[self._end :]  # the body of a request behind it
        body += b"".join(pieces)
        pieces.clear()
        self._raw.clear()  # trailers are nobody's
        self._overhead += len(data)
        self.size = len(body)
        if self.size > self._max_body:
            raise RefusedError(413, "body_too_large", self._head.path)
        if not self._is_behind and self._overhead > 8 * self.size + MAX_OVERHEAD:
            raise RefusedError(400, "bad_chunks")
        if self._is_whole:
            self.in_body = False
            # Where in `data` it ended is not told; what came behind is not taken for a request.
            self.keep_alive = self.keep_alive and not self._is_behind

    def _feed(self, data: bytes) -> None:
        try:
            self._library.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._is_whole:
                raise RefusedError(400, "bad_chunks") from None
            self._is_behind = True

    # -- what the library finds ---------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a line of the head."""
        self._raw.append((name, value))

    def on_headers_complete(self) -> None:
        """Ask what it only knows now."""
        if not self._is_whole:
            self.keep_alive = self._library.should_keep_alive()

    def on_message_begin(self) -> None:
        """Notice what comes behind the last chunk."""
        self._is_behind = self._is_whole

    def on_message_complete(self) -> None:
        """Notice the end of the body."""
        if not self._is_whole:
            self._is_whole, self._end = True, len(self._pieces)


def _refuse_odd(part: bytes) -> None:
    """Raise for a CR or LF that stands alone, and for control characters (RFC 9110 §5.5)."""
    ends = part.count(b"\r\n")
    if part.count(b"\n") != ends or part.count(b"\r") != ends:
        raise RefusedError(400, "bare_line_end")
    if len(part.translate(None, _CONTROLS)) != len(part):
        raise RefusedError(400, "control_character")


def _headers_of(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for spelled, value in raw:
        name = _KNOWN.get(spelled)
        if name is None:
            if not _NAME.fullmatch(spelled):
                raise RefusedError(400, "bad_header_name")
            name = spelled.decode("ascii").lower()
        text = value.decode("latin-1").strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise RefusedError(400, "header_twice")
            text = f"{headers[name]}, {text}"
        headers[name] = text
    return headers


def _target_of(target: str, headers: dict[str, str]) -> tuple[str, str]:
    """Return path and query (RFC 9112 §3.2); an authority in it has to be the one of Host."""
    if not target.startswith("/"):
        absolute = _AUTHORITY.fullmatch(target)
        if absolute is not None:
            authority, target = absolute.groups()
            if authority.lower() != headers.get("host", "").lower():
                raise RefusedError(400, "other_authority")
            if not target.startswith("/"):
                target = f"/{target}"
        elif target != "*":
            raise RefusedError(400, "bad_target")
    path, _, query = target.partition("?")
    return path, query


def _path_in(head: bytes) -> str:
    line = _LINE.match(head)
    return line[2].decode("ascii").partition("?")[0] if line else ""
