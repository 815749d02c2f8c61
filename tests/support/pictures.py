"""Pictures for the tests, and a function that uploads one."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

from tests.support.api import Answer, Api

RED = Image.new("RGB", (60, 40), (200, 10, 10))
HALF = Image.new("RGBA", (60, 40), (200, 10, 10, 128))


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """Return a blank PNG with one bit per pixel, small even at huge dimensions."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    end = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + end


PNG = encoded(RED, "PNG")


def upload(api: Api, content: bytes, name: str = "me.png") -> Answer:
    return api.send("/upload", {}, upload_files=[("img", name, content)])
