"""Pictures for the tests, and a function that uploads a picture."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

from tests.support.api import ApiClient, ApiResponse

RED = Image.new("RGB", (60, 40), (200, 10, 10))
TRANSLUCENT = Image.new("RGBA", (60, 40), (200, 10, 10, 128))


def encode_image(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(chunk_type: bytes, data: bytes) -> bytes:
    return (
        struct.pack(">I", len(data))
        + chunk_type
        + data
        + struct.pack(">I", zlib.crc32(chunk_type + data))
    )


def one_bit_png(width: int, height: int, *extra_chunks: bytes) -> bytes:
    """Return a blank one-bit-per-pixel PNG, a small file even for huge dimensions."""
    header_chunk = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    final_chunks = png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header_chunk + b"".join(extra_chunks) + final_chunks


PNG = encode_image(RED, "PNG")


def upload(api: ApiClient, content: bytes, name: str = "me.png") -> ApiResponse:
    return api.post_form("/upload", {}, upload_files=[("img", name, content)])
