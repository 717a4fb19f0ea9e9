"""What a request's tokens are estimated by."""

import base64
import struct

import pytest

from brokerd.core.token_estimate import (
    MAX_IMAGE,
    MESSAGE,
    TOOL,
    TOOLS,
    estimate,
    image_tokens,
    text_tokens,
)


def said(content):
    return {"messages": [{"role": "user", "content": content}]}


def image(data):
    return {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}


def png(width, height):
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\0" * 20


def jpeg(width, height):
    extra = b"\xff\xe0" + struct.pack(">H", 2000) + b"\0" * 1998
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + b"\0" * 12
    return b"\xff\xd8" + extra + frame


def test_every_part_of_a_request_counts():
    text = "The quick brown fox jumps over the lazy dog. " * 20
    plain = text_tokens(text)
    assert estimate(said(text)) == round(MESSAGE + plain)
    assert estimate(said([{"type": "text", "text": text}])) == round(MESSAGE + plain)
    assert estimate({**said(text), "system": text}) == round(2 * (MESSAGE + plain))
    result = [
        {
            "type": "tool_result",
            "tool_use_id": "x" * 99,
            "content": [{"type": "text", "text": text}],
        }
    ]
    assert estimate(said(result)) == round(MESSAGE + TOOL + plain)
    assert estimate({**said(text), "tools": [{"name": "f"}]}) > MESSAGE + plain + TOOLS + TOOL
    use = [{"type": "tool_use", "id": "x", "name": "f", "input": {"a": text}}]
    assert estimate(said(use)) > MESSAGE + TOOL + plain


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("a" * 400, 50, 150),
        ("漢" * 100, 70, 130),
        ("é" * 100, 30, 90),
        ("😀" * 100, 70, 300),
        ("", 0, 0),
    ],
)
def test_each_kind_of_character_has_its_share(text, least, most):
    assert least <= text_tokens(text) <= most


@pytest.mark.parametrize(
    ("data", "tokens"),
    [
        (png(200, 200), 53),
        (png(1000, 1000), 1333),
        (png(15680, 1568), 328),
        (jpeg(750, 100), 100),
        (b"GIF89a" + struct.pack("<HH", 75, 100), 10),
        (b"RIFF1234WEBPVP8X" + b"\0" * 8 + b"\x4a\0\0\x63\0\0", 10),
        (b"RIFF1234WEBPVP8 " + b"\0" * 10 + struct.pack("<HH", 75, 100), 10),
        (b"no image", MAX_IMAGE),
        (b"\x89PNG", MAX_IMAGE),
        (b"\xff\xd8\xff", MAX_IMAGE),
    ],
)
def test_an_image_counts_by_its_size(data, tokens):
    assert image_tokens(image(data)) == tokens
    assert estimate(said([{"type": "image", "source": image(data)}])) == MESSAGE + tokens


@pytest.mark.parametrize("source", [None, {}, {"url": "https://x"}, {"data": "!"}, {"data": 7}])
def test_an_image_that_cannot_be_read_counts_as_a_large_one(source):
    assert image_tokens(source) == MAX_IMAGE


@pytest.mark.parametrize("body", [{}, {"messages": 7}, {"messages": [7, None]}, {"tools": "x"}])
def test_odd_requests_have_some_tokens(body):
    assert estimate(body) >= 1


def test_halves_of_characters_are_no_error():
    assert text_tokens("\ud83d") > 0
