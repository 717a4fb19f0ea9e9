"""What is inside of a message: words and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from brokerd.core.dialects import fields
from brokerd.core.dialects.meaning import Image, Text, UntranslatableError


if TYPE_CHECKING:
    from collections.abc import Iterable

    from brokerd.core.dialects.fields import Json


__all__ = ["read_content", "read_text", "write_said", "write_shown"]

_BASE64: Final = ";base64"


def read_content(content: object, where: str) -> tuple[Text | Image, ...]:
    """Read content: a string, or a list of parts. Raises UntranslatableError."""
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    if not isinstance(content, list):
        raise UntranslatableError(f"the content of {where} has to be a string or a list")
    return tuple(_read_part(fields.entry(each, f"a part of {where}")) for each in content)


def _read_part(part: Json) -> Text | Image:
    said = read_text(part)
    if said is not None:
        return said
    if fields.type_of(part) == "input_image":
        return _read_image(part)
    raise UntranslatableError(f"content of type {fields.known(fields.type_of(part))}")


def read_text(part: Json) -> Text | None:
    """Read a part that is words; None for any other."""
    kind = fields.type_of(part)
    if kind in {"input_text", "output_text", "text"}:
        return Text(fields.text(part, "text"))
    if kind == "refusal":
        return Text(fields.text(part, "refusal"), is_refusal=True)
    return None


def _read_image(part: Json) -> Image:
    url, detail = fields.text(part, "image_url"), fields.text(part, "detail")
    scheme, _, rest = url.partition(":")
    if scheme.lower() in {"http", "https"}:
        return Image(url=url, detail=detail)
    kind, comma, data = rest.partition(",")
    if scheme.lower() == "data" and comma and kind.endswith(_BASE64):
        return Image(data=data, media_type=kind.removesuffix(_BASE64), detail=detail)
    if not url:
        raise UntranslatableError("an image by the id of a file (file_id)")
    raise UntranslatableError("an image_url that is neither http(s) nor base64 data")


def write_shown(parts: Iterable[Text | Image], where: str) -> list[dict[str, Any]]:
    """Write what the model is to read."""
    return [_shown(part, where) for part in parts]


def _shown(part: Text | Image, where: str) -> dict[str, Any]:
    if isinstance(part, Text):
        if part.is_refusal:
            raise UntranslatableError(f"a refusal in {where}")
        return {"type": "input_text", "text": part.text}
    url = part.url or f"data:{part.media_type}{_BASE64},{part.data}"
    detail = {"detail": part.detail} if part.detail else {}
    return {"type": "input_image", "image_url": url, **detail}


def write_said(text: Text) -> dict[str, Any]:
    """Write what the model itself said in an earlier turn."""
    if text.is_refusal:
        return {"type": "refusal", "refusal": text.text}
    return {"type": "output_text", "text": text.text}
