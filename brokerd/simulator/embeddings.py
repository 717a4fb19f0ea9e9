"""Embeddings that mean nothing, but the same nothing for the same text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["MAX_DIMENSIONS", "embeddings", "texts_of"]

MAX_DIMENSIONS = 1536


def texts_of(given: Any) -> list[str] | None:
    """Read `input`: a string or strings; None when it is neither, or nothing."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        return None
    return texts if all(isinstance(each, str) and each for each in texts) else None


def embeddings(model: str, texts: Sequence[str], dimensions: int) -> dict[str, Any]:
    """Answer `POST /embeddings`."""
    tokens = max(1, sum(map(len, texts)) // 4)
    data = [
        {"object": "embedding", "embedding": _vector(text, dimensions), "index": index}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _vector(text: str, dimensions: int) -> list[float]:
    """Make numbers between -1 and 1 of a text's digest, over and over."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return [digest[at % len(digest)] / 127.5 - 1 for at in range(dimensions)]
