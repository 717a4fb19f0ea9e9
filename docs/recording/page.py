"""All of it on one page."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from recording import copilot, sign_in, tenants, tokens, wire


if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from brokerd.errors import Failure
    from brokerd.simulator.records import RecordedRequest
    from recording.stage import Part, Section


__all__ = ["COMMAND", "page"]

COMMAND = "python docs/record_upstream.py"

WIDTH = 116

SECTIONS: tuple[Callable[[], Awaitable[Section]], ...] = (
    sign_in.grant, sign_in.polls, sign_in.renewal, sign_in.person, tokens.exchange,
    tokens.direct_mode, copilot.models, copilot.completions, copilot.refused, tokens.quota,
    tokens.revocation,
)  # fmt: skip

INTRODUCTION = f"""\
Every request that copilot-broker makes, in the order in which a login needs them, and what is
answered.

This page is written by a program: `{COMMAND}` has the broker's own code ask a
simulated GitHub (`brokerd.simulator`) and writes down what was sent; a test fails when the page is
not what the code does now. So the **requests** are exact: method, address, headers in their order
and spelling, body. The simulator stands in for GitHub, so the **answers** are its own: their
shapes are those of GitHub's documentation and of what open-source clients expect and report, their
contents are made up, like all names that begin with `sim-`. Of their headers, those that nothing
acts on are left out, and so is `Content-Type` for JSON that is called JSON; those that are alike
for all answers of a host (`Date`, `x-request-id`, `x-ratelimit-*`, `x-quota-snapshot-*`; GitHub's
request id with a success) are shown once for each host, and where they matter.

What stands for something else:

- `<GitHub token>`, `<refresh token>`, `<Copilot token>`, `<device code>`, `<user code>`,
  `<session token>`: secrets;
- `<request id>`, `<uuid>`, `<id>`, `<unix time>`, `<length>`, `<version>`: what differs from one
  time to the next;
- all dates follow from one clock that stands at noon of 2026-01-05 (UTC);
- JSON is laid out for reading, and a form a field a line; `…` is a cut of this page's.

Each answer that is no success says what the broker takes it for: the stable code that
`copilot-cred`, the RPC door and `status` show (see [PROTOCOL.md](../client/PROTOCOL.md)), and its
class.
"""

TENANT_TEXT = f"""\
An account of a data-residency tenant has the same steps on the tenant's own hosts. Its credentials
never go to the public ones, nor theirs to it. Here for an account with Copilot Business and the
tenant `{tenants.TENANT}`:
"""


async def page() -> str:
    """Ask everything anew and write the page."""
    sections = [await make() for make in SECTIONS]
    titles = [each.title for each in sections] + ["On a tenant"]
    lines = ["# What is asked of GitHub and Copilot", "", *_filled(INTRODUCTION)]
    for number, title in enumerate(titles, 1):
        lines.append(f"{number}. [{title}](#{_anchor(f'{number} {title}')})")
    requests = _Requests()
    for number, section in enumerate(sections, 1):
        chapter = f"{number} {section.title}"
        lines += ["", f"## {chapter}", "", _wrapped(section.about)]
        if len(section.parts) == 1:
            lines += ["", *_part(section.parts[0], chapter, requests)]
            continue
        for index, part in enumerate(section.parts, 1):
            heading = f"{number}.{index} {part.title}"
            lines += ["", f"### {heading}", "", *_part(part, heading, requests)]
    lines += ["", f"## {len(titles)} {titles[-1]}", "", *_filled(TENANT_TEXT), *await _tenants()]
    return "\n".join(lines) + "\n"


class _Requests:
    """Writes each whole once; later ones refer to what they have in common with it."""

    def __init__(self) -> None:
        self._whole: dict[tuple[str, ...], str] = {}
        self._headers: dict[tuple[str, ...], str] = {}

    def written(self, request: RecordedRequest, heading: str) -> tuple[str, list[str]]:
        """Return a sentence, or none, and the lines of a block, or none."""
        line, headers = wire.request_line(request), wire.request_headers(request)
        body = wire.request_body(request)
        body = ["", *body] if body else []
        link = _link(heading)
        first = self._whole.setdefault((line, *headers, *body), link)
        if first != link:
            return f" The request is that of {first}.", []
        known = _likest(headers, self._headers)
        self._headers.setdefault(tuple(headers), link)
        if known:
            return f" The headers are those of {known}.", _block([line, *body])
        return "", _block([line, *headers, *body])


def _likest(headers: list[str], known: dict[tuple[str, ...], str]) -> str:
    """Say which of the known ones these are, give or take one; empty = none."""
    if link := known.get(tuple(headers)):
        return link
    for those, link in known.items():
        for at, line in enumerate(headers):
            if (*headers[:at], *headers[at + 1 :]) == those:
                return f"{link}, with `{line}` below `{headers[at - 1].partition(':')[0]}`"
        for at, line in enumerate(those):
            if (*those[:at], *those[at + 1 :]) == tuple(headers):
                return f"{link} without `{line.partition(':')[0]}`"
    return ""


def _part(part: Part, heading: str, requests: _Requests) -> list[str]:
    asked, *others = part.exchanges
    more, block = requests.written(asked, heading)
    if part.answered_like:
        more += f" The answer is like that of {_link(part.answered_like)}."
    else:
        block += _block(wire.response_lines(asked, all_headers=part.all_headers, cut=part.kept))
    lines = [_wrapped(part.about + more), "", *block]
    outcome = []
    if others:
        outcome.append(f"Then, by itself: {', '.join(map(wire.summary, others))}.")
    if part.failure is not None:
        outcome.append(_taken_for(part.failure))
    if outcome:
        lines += ["", _wrapped(" ".join(outcome))]
    return lines


def _taken_for(failure: Failure) -> str:
    text = f"Taken for `{failure.code}` (class {failure.error_class.name})"
    if failure.retry_after is not None:
        text += f", to be asked again after {failure.retry_after:g} seconds"
    if failure.url is not None:
        text += f", with the page {failure.url}"
    return f"{text}."


async def _tenants() -> list[str]:
    public, own = [await tenants.hosts(host) for host in ("github.com", tenants.TENANT)]
    rows = [f"| `{asked}` | `{host}` | `{own[asked]}` |" for asked, host in public.items()]
    return ["| request | github.com | tenant |", "|---|---|---|", *rows]


def _block(lines: list[str]) -> list[str]:
    return ["```http", *lines, "```"]


def _link(heading: str) -> str:
    return f"[{heading.split(maxsplit=1)[0]}](#{_anchor(heading)})"


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _filled(text: str) -> list[str]:
    """Wrap anew: paragraphs, and lists."""
    lines = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("- "):
            lines += [_wrapped(each, "  ") for each in re.split(r"\n(?=- )", paragraph)]
        else:
            lines.append(_wrapped(paragraph))
        lines.append("")
    return lines
