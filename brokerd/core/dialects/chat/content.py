"""The `content` of a message: a string, or an array of typed parts.

Source: API reference, Chat Completions, `messages[].content`; `image_url.media_type` is
Copilot's own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from brokerd.core.dialects.fields import known, mapping, sequence, text
from brokerd.core.dialects.meaning import Image, Text, UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


__all__ = ["read_content", "write_content"]

_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
"""RFC 2397, the base64 form of it."""


def read_content(message: Mapping[str, Any]) -> tuple[Text | Image, ...]:
    """Return the parts of a message's content. Raises UntranslatableError.

    Empty texts mean nothing and are left out: the other dialects refuse them.
    """
    parts: Iterable[Text | Image] = ()
    if isinstance(message.get("content"), list):
        parts = map(_read_part, sequence(message, "content"))
    else:
        parts = (Text(text(message, "content")),)
    return tuple(part for part in parts if not isinstance(part, Text) or part.text)


def write_content(parts: Sequence[Text | Image]) -> str | list[dict[str, Any]]:
    """Write parts as a string where that says all, else as an array."""
    match parts:
        case []:
            return ""
        case [Text(text=said, is_refusal=False)]:
            return said
    return [_write_part(part) for part in parts]


def _read_part(part: Mapping[str, Any]) -> Text | Image:
    match part.get("type"):
        case "text":
            return Text(text(part, "text"))
        case "refusal":
            return Text(text(part, "refusal"), is_refusal=True)
        case "image_url":
            return _read_image(part)
        case kind:
            raise UntranslatableError(f"a part of a message of type {known(kind)}")


def _read_image(part: Mapping[str, Any]) -> Image:
    told: Mapping[str, Any]
    if isinstance(part.get("image_url"), str):  # not as documented, and yet sent
        told = {"url": part["image_url"]}
    else:
        told = mapping(part, "image_url") or {}
    url, detail = text(told, "url"), text(told, "detail")
    if url[:5].lower() != "data:":
        if not url.lower().startswith(("https://", "http://")):
            raise UntranslatableError("an image_url that is neither http(s) nor data")
        return Image(url=url, detail=detail)
    found = _DATA_URL.match(url)
    media_type = found and (found[1] or text(told, "media_type"))
    if not found or not media_type:
        raise UntranslatableError("a data URL of an image without a media type or base64")
    return Image(data=url[found.end() :], media_type=media_type.lower(), detail=detail)


def _write_part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        kind = "refusal" if part.is_refusal else "text"
        return {"type": kind, kind: part.text}
    url = part.url or f"data:{part.media_type};base64,{part.data}"
    detail = {"detail": part.detail} if part.detail else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}
