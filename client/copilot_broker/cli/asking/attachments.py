"""Files that go with a question: pictures as they are, text between fences with its name.

What a file is, its first bytes say; its name may lie. Everything is read with a bound, so that a
device that never ends does no harm, and what a model cannot see is refused before it is sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from copilot_broker.cli.asking.request import Image
from copilot_broker.cli.report import PROGRAM, Refusal, printable
from copilot_broker.cli.stdin import MIB
from copilot_broker.errors import ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from copilot_broker.cli.catalogue import Model


__all__ = ["TextFile", "check_seen", "fenced", "read_attachment", "read_bounded", "unusable"]

MAX_IMAGE = 20 * MIB
"""Bytes of a picture: in base64 it just fits into the wire's largest request. Models take less."""

MAX_TEXT = 8 * MIB
"""Bytes of a text: more than the largest context holds, as for what stdin brings."""

_KINDS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
"""How the pictures begin that models take (their file formats' own specifications)."""

_CONTROLS = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f]")
"""In no text that people write; form feeds and escape sequences are."""

_FENCE = "```"


@dataclass(frozen=True)
class TextFile:
    """A text that goes with a question."""

    name: str
    text: str = field(repr=False)


def read_attachment(name: str) -> Image | TextFile:
    """Read a file. Raises Refusal (usage) for what is neither picture nor text, or too large."""
    data = read_bounded(name, MAX_IMAGE)
    if not data:
        raise unusable(f"{name} is empty")
    for beginning, media_type in _KINDS:
        if beginning.match(data):
            return Image(name, media_type, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROLS.search(text):
        raise unusable(f"{name} is neither text (UTF-8) nor a PNG, JPEG, GIF or WebP picture")
    if len(data) > MAX_TEXT:
        raise unusable(f"{name} has more than {MAX_TEXT // MIB} MiB of text")
    return TextFile(name, text)


def read_bounded(name: str, most: int) -> bytes:
    """Return what a file holds, `most` bytes at most. Raises Refusal (usage)."""
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - as it was named: Path would tidy it up
            data = file.read(most + 1)
    except OSError as error:
        raise unusable(f"{name} cannot be read: {error.strerror}") from None
    except ValueError:  # a null byte in its name
        raise unusable("what is to be attached is no file's name") from None
    if len(data) > most:
        raise unusable(f"{name} has more than {most // MIB} MiB")
    return data


def fenced(files: Iterable[TextFile]) -> str:
    """Return texts as they stand in a question, each after its name and between fences."""
    return "\n\n".join(_fenced(file) for file in files)


def _fenced(file: TextFile) -> str:
    runs: list[str] = re.findall(r"`{3,}", file.text)
    fence = max([_FENCE, *(f"{run}`" for run in runs)], key=len)  # no line of it ends the block
    end = "" if file.text.endswith("\n") else "\n"
    return f"{printable(file.name)}:\n{fence}\n{file.text}{end}{fence}"


def check_seen(images: Sequence[Image], model: Model) -> None:
    """Raise Refusal (usage) for pictures that the model does not take, by GitHub's list."""
    if not images:
        return
    if model.vision is None:
        raise _unseen(f"{model.id} takes no pictures")
    most, limit, types = model.vision.count, model.vision.size, model.vision.types
    if most is not None and len(images) > most:
        raise _unseen(f"{model.id} takes {most} pictures at most, these are {len(images)}")
    for image in images:
        if limit is not None and len(image.data) > limit:
            raise _unseen(
                f"{image.name} has {len(image.data):,} bytes, {model.id} takes {limit:,} at most"
            )
        if types and image.media_type not in types:
            raise _unseen(f"{image.name} is {image.media_type}, which {model.id} does not take")


def _unseen(message: str) -> Refusal:
    hint = f"see which models see: {PROGRAM} models"
    return Refusal(ErrorClass.USAGE, "attachment_unusable", message, hint)


def unusable(message: str) -> Refusal:
    """Say that a file cannot go with a question."""
    hint = f"see what can be attached: {PROGRAM} complete --help"
    return Refusal(ErrorClass.USAGE, "attachment_unusable", message, hint)
