"""How a secret can be written, and a net that finds any of many secrets however it is.

What is looked for is a piece of each end of a secret, so that one that was cut short is found too.
The time taken grows with the text and hardly with the number of secrets: every run of characters
that could be a spelling is cut into windows, and those are looked up.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass


__all__ = ["SUSPICIOUS", "Hit", "Net", "spellings"]

PIECE = 16
"""Characters of either end of a secret that are looked for: 64 bits of a hexadecimal one."""

SUSPICIOUS = re.compile(
    r"[A-Za-z0-9+/_=-]{16,}"  # plain, hexadecimal, base64
    r"|(?:%(?:25)*[0-9A-Fa-f]{2}){8,}"  # percent-encoded, once or more
    r"|\d{1,3}(?:, ?\d{1,3}){7,}"  # the numbers of the bytes
)
"""Where none of it is, no spelling of a secret is."""

SHAPES = re.compile(r"\b(?:gh[oprsu]_|github_pat_)[A-Za-z0-9_]{10}|\btid=\w{6}")
"""How credentials look: also those that no simulator made."""

_AGAIN = re.compile(r"%(?:25)+(?=[0-9a-f]{2})")


@dataclass(frozen=True)
class Hit:
    """A secret that was found; which one it is would be one more leak."""

    kind: str
    spelling: str
    at: int
    """Where in the text the run begins that it stands in."""


def spellings(secret: str) -> dict[str, str]:
    """Return what is looked for: piece → the name of its spelling."""
    whole = secret.encode()
    found = {}
    for end in (secret[:PIECE], secret[-PIECE:]):
        raw = end.encode()
        found[end] = "plain"
        found[raw.hex()] = found[raw.hex().upper()] = "hex"
        found["".join(f"%{byte:02x}" for byte in raw)] = "percent"
        for comma in (", ", ","):
            found[comma.join(map(str, raw))] = "numbers"
    for offset, foreign in ((0, 0), (1, 2), (2, 3)):  # leading characters shared with others
        text = base64.b64encode(bytes(offset) + whole).rstrip(b"=").decode()
        core = text[foreign : len(text) - bool((offset + len(whole)) % 3)]
        for end in (core[:20], core[-20:]):
            found[end] = found[end.replace("+", "-").replace("/", "_")] = "base64"
    return found


class Net:
    """The secrets to look for."""

    def __init__(self) -> None:
        self._starts: dict[str, dict[str, tuple[str, str]]] = {}
        self._secrets: set[str] = set()

    def __len__(self) -> int:
        return len(self._secrets)

    def add(self, secret: str, kind: str) -> None:
        """Look for it from now on; `kind` is what a hit says of it."""
        if secret in self._secrets or len(secret) < PIECE:
            return
        self._secrets.add(secret)
        for piece, spelling in spellings(secret).items():
            self._starts.setdefault(piece[:PIECE], {})[piece] = (kind, spelling)

    def find(self, text: str) -> list[Hit]:
        """Return every secret that stands in `text`, each spelling of it once."""
        found: dict[tuple[str, str], Hit] = {}
        seen: set[str] = set()
        for match in SUSPICIOUS.finditer(text):
            run = match[0]
            if run in seen:
                continue
            seen.add(run)
            if run[0] == "%":
                run = _AGAIN.sub("%", run.lower())
            for at in range(len(run) - PIECE + 1):
                pieces = self._starts.get(run[at : at + PIECE])
                for piece, (kind, spelling) in (pieces or {}).items():
                    if run.startswith(piece, at):
                        found.setdefault((kind, spelling), Hit(kind, spelling, match.start()))
        return list(found.values())

    def shapes(self, text: str) -> list[Hit]:
        """Return what looks like a credential, whoever made it."""
        match = SHAPES.search(text)
        return [Hit(f"{match[0][:4]}…", "plain", match.start())] if match else []
