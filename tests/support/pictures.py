"""Pictures for the tests, and a function that uploads a picture."""

import io
import struct
import zlib
from collections.abc import Mapping
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


def png_with_transparent_sample(bits: int, transparent: int, other: int) -> bytes:
    """Return a grey PNG of 16 × 8 pixels, whose left half has the transparent sample."""
    samples = [transparent] * 8 + [other] * 8
    row = int("".join(f"{sample:0{bits}b}" for sample in samples), 2).to_bytes(2 * bits, "big")
    header_chunk = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 8, bits, 0, 0, 0, 0))
    color_chunk = png_chunk(b"tRNS", struct.pack(">H", transparent))
    final_chunks = png_chunk(b"IDAT", zlib.compress((b"\0" + row) * 8)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header_chunk + color_chunk + final_chunks


def gif_with_small_frame(box: tuple[int, int, int, int], canvas: tuple[int, int]) -> bytes:
    """Return a GIF whose green frame covers only a box of its red canvas."""
    left, upper, right, lower = box
    frame = Image.new("P", (right - left, lower - upper), 1)
    frame.putpalette([255, 0, 0, 0, 255, 0])
    content = bytearray(encode_image(frame, "GIF", optimize=False))
    # The size of the canvas is in the header; the position of the frame follows the first comma
    # after the color table (GIF89a, sections 18 and 20).
    struct.pack_into("<HH", content, 6, *canvas)
    color_table_end = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    struct.pack_into("<HH", content, content.index(b",", color_table_end) + 1, left, upper)
    return bytes(content)


def icc_profile(
    color_space: bytes, tags: Mapping[bytes, bytes], *, version: int = 0x02400000
) -> bytes:
    """Return an ICC profile of a display or printer, with the required tags."""
    all_tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"x\0",
        b"wtpt": icc_xyz(0.9642, 1, 0.8249),
        **tags,
    }
    table, data = struct.pack(">I", len(all_tags)), b""
    data_offset = 128 + 4 + 12 * len(all_tags)
    for signature, value in all_tags.items():
        table += signature + struct.pack(">II", data_offset + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    device_class, connection_space = (
        (b"prtr", b"Lab ") if color_space == b"CMYK" else (b"mntr", b"XYZ ")
    )
    header = struct.pack(">I4sI", data_offset + len(data), b"lcms", version)
    header += (
        device_class + color_space + connection_space + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    )
    header += b"acsp" + bytes(28) + icc_xyz(0.9642, 1, 0.8249)[8:]
    return header.ljust(128, b"\0") + table + data


def icc_xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def display_p3_profile(**extra_tags: bytes) -> bytes:
    """Return a profile with the primaries of Display P3, and a gamma of 2.2."""
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256))
    return icc_profile(
        b"RGB ",
        {
            b"rXYZ": icc_xyz(0.51512, 0.2412, -0.00105),
            b"gXYZ": icc_xyz(0.29198, 0.69225, 0.04189),
            b"bXYZ": icc_xyz(0.1571, 0.06657, 0.78407),
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma),
            **{name.encode(): value for name, value in extra_tags.items()},
        },
        version=0x04400000 if extra_tags else 0x02400000,
    )


def cmyk_profile(lab_of_cyan: tuple[int, int, int]) -> bytes:
    """Return a profile in which cyan has any Lab color and other inks are black."""
    identity = bytes(range(256))
    white, black = bytes((255, 128, 128)), bytes((0, 128, 128))
    colors = white + black * 7 + bytes(lab_of_cyan) + black * 7
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    table += struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    return icc_profile(b"CMYK", {b"A2B0": table + identity * 4 + colors + identity * 3})


def long_icc_pipeline(length: int) -> bytes:
    """Return the value of a tag D2B0 that applies `length` curves to each pixel."""
    curve = b"curf" + bytes(4) + struct.pack(">HH", 1, 0)
    curve += b"parf" + bytes(4) + struct.pack(">HH4f", 0, 0, 1.01, 1, 0, 0)
    curves = b"cvst" + bytes(4) + struct.pack(">HH", 3, 3) + struct.pack(">II", 36, 32) * 3 + curve
    offset = 16 + 8 * length
    positions = struct.pack(">II", offset, len(curves)) * length
    return b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, length) + positions + curves


def jpeg_with_scans(scan_count: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    jpeg = encode_image(Image.new("RGB", size, (200, 10, 10)), "JPEG", progressive=True)
    last_scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    added_scans = last_scan * (scan_count - jpeg.count(b"\xff\xda"))
    return jpeg[:-2] + added_scans + b"\xff\xd9"


def png_16_bit(mode: str, size: tuple[int, int], sample: tuple[int, ...]) -> bytes:
    """Return a PNG with 16 bits per sample, in which all pixels are equal."""
    width, height = size
    color_type = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[mode]
    row = b"\0" + struct.pack(f">{len(sample)}H", *sample) * width
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(row * height, 1))
    return b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b"")


PNG = encode_image(RED, "PNG")


def upload(api: ApiClient, content: bytes, name: str = "me.png") -> ApiResponse:
    return api.post_form("/upload", {}, upload_files=[("img", name, content)])
