"""Take secrets out of text on its way out. It sits in the sink, so no call site can forget it.

Two nets. Patterns know the look of GitHub's and Copilot's tokens and of headers that carry any.
Registered values are found whatever they look like, plain or as base64 (at any offset), hex or
percent-encoded text. Both are the last line: the first is not to log secrets.
"""

from __future__ import annotations

import base64
import re
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property


__all__ = [
    "MASK",
    "Redactor",
    "forget_all_secrets",
    "forget_secret",
    "redact",
    "register_secret",
]

MASK = "[redacted]"

MIN_LENGTH = 8
"""Shorter values are not registered: they would blacken half of every line, and are no tokens."""

MAX_SECRETS = 256
"""Kept at once, the oldest forgotten: ten accounts' Copilot tokens of the last half day."""

_HEADERS = r"(?:proxy-)?authorization|(?:set-)?cookie|x-api-key"
_KEYS = r"device_code|access_token|refresh_token|client_secret|password"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # `Authorization: token x`, {'authorization': 'x'} and (b'authorization', b'x')
        (
            rf"(?i)({_HEADERS})(['\"]?\s*[:=]\s*b?|['\"]\s*,\s*b?)(['\"]?)[^'\"\r\n]+",
            rf"\1\2\3{MASK}",
        ),
        (rf"(?i)({_KEYS})(['\"]?\s*[:=]\s*b?)(['\"]?)[^'\"\s&,;)}}]+", rf"\1\2\3{MASK}"),
        (r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=;:%-]{8,}", rf"\1 {MASK}"),
        (r"(?:gh[a-z]_|github_pat_)[A-Za-z0-9_.-]{10,}", MASK),  # GitHub's token formats
        (r"Z2h[v1wyz]X[A-Za-z0-9+/_=-]{12,}", MASK),  # gho_ ghu_ ghp_ ghr_ ghs_ in base64
        (r"(?i)6768[0-9a-f]{2}5f(?:[0-9a-f]{2}){10,}", MASK),  # the same in hex
        (r"cpb_[A-Za-z0-9_-]{10,}", MASK),  # a key of the HTTP door
        (r"Y3BiX[A-Za-z0-9+/_=-]{12,}", MASK),  # the same in base64
        (r"(?i)6370625f(?:[0-9a-f]{2}){10,}", MASK),  # and in hex
        (r"(?i)\btid(?:=|%(?:25)*3d)[^\s'\"<>\\]+", MASK),  # a Copilot token
        (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", MASK),  # a JWT (RFC 7519)
        (r"\b[0-9a-f]{40}\b", MASK),  # a device code, a classic token
        (r"(?<=://)[^/\s@'\"]+(?=@)", MASK),  # user:password of a proxy
    )
)
SHORTEST_WORD = 17
"""Characters of the shortest text of nothing but letters and digits that a pattern matches."""

_BASE64_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


class Redactor:
    """A set of registered secrets and the patterns; safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: OrderedDict[str, _Forms] = OrderedDict()
        self._shortest = sys.maxsize
        """Characters of the shortest secret; no form of any is shorter."""

    def register_secret(self, value: str) -> None:
        """From now on take `value` and its encodings out of all text."""
        if len(value) < MIN_LENGTH:
            return
        with self._lock:
            self._secrets[value] = self._secrets.get(value) or _Forms(value)
            self._secrets.move_to_end(value)
            if len(self._secrets) > MAX_SECRETS:
                self._secrets.popitem(last=False)
            self._measure()

    def forget_secret(self, value: str) -> None:
        """Hold `value` no longer; not knowing it is no error."""
        with self._lock:
            self._secrets.pop(value, None)
            self._measure()

    def forget_all_secrets(self) -> None:
        """Hold none any longer; what comes by again is found by the patterns, and registered."""
        with self._lock:
            self._secrets.clear()
            self._measure()

    def _measure(self) -> None:
        self._shortest = min(map(len, self._secrets), default=sys.maxsize)

    def redact(self, text: str) -> str:
        """Return `text` with every secret replaced by MASK.

        Most fields of a record are too short to hold any: they cost nothing, however many secrets
        a daemon that runs for weeks has seen.
        """
        if len(text) >= self._shortest:
            with self._lock:
                secrets = list(self._secrets.values())
            for forms in secrets:
                text = forms.mask(text)
        if len(text) < SHORTEST_WORD and (not text or (text.isascii() and text.isalnum())):
            return text
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


@dataclass(frozen=True)
class _Forms:
    """One secret in every form it is looked for."""

    value: str

    def mask(self, text: str) -> str:
        text = text.replace(self.value, MASK)
        if "%" in text:
            text = self.percent.sub(MASK, text)
        for form in self.hex:
            text = text.replace(form, MASK)
        for form in self.base64:
            text = _mask_base64(text, form)
        return text

    @cached_property
    def percent(self) -> re.Pattern[str]:
        """Any mixture of plain and percent-encoded characters (RFC 3986), encoded once or more."""
        parts = []
        for char in self.value:
            escaped = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in char.encode())
            parts.append(f"(?:{re.escape(char)}|{escaped})")
        return re.compile("".join(parts))

    @cached_property
    def hex(self) -> frozenset[str]:
        plain = self.value.encode().hex()
        return frozenset((plain, plain.upper()))

    @cached_property
    def base64(self) -> frozenset[str]:
        """What is the same in every base64 text that holds the value, at the three offsets."""
        forms = set()
        raw = self.value.encode()
        for offset, foreign in ((0, 0), (1, 2), (2, 3)):  # leading characters shared with others
            text = base64.b64encode(bytes(offset) + raw).rstrip(b"=").decode()
            shared_end = 1 if (offset + len(raw)) % 3 else 0
            core = text[foreign : len(text) - shared_end]
            forms |= {core, core.replace("+", "-").replace("/", "_")}
        return frozenset(forms)


def _mask_base64(text: str, core: str) -> str:
    """Mask `core` and the base64 characters around it: the edges hold bits of the secret too."""
    start = 0
    while (start := text.find(core, start)) >= 0:
        end = start + len(core)
        while start > 0 and text[start - 1] in _BASE64_ALPHABET:
            start -= 1
        while end < len(text) and text[end] in _BASE64_ALPHABET:
            end += 1
        text = text[:start] + MASK + text[end:]
        start += len(MASK)
    return text


_redactor = Redactor()

register_secret = _redactor.register_secret
forget_all_secrets = _redactor.forget_all_secrets
forget_secret = _redactor.forget_secret
redact = _redactor.redact
