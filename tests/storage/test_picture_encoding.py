"""Re-encoded pictures: formats, colors, orientation, metadata and cost."""

import io
import struct
import zlib

import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps

from livebackend.storage.picture_encoding import reencode
from tests.support.pictures import (
    RED,
    TRANSLUCENT,
    cmyk_profile,
    display_p3_profile,
    encode_image,
    gif_with_small_frame,
    jpeg_with_scans,
    long_icc_pipeline,
    one_bit_png,
    png_16_bit,
    png_chunk,
    png_with_transparent_sample,
)

FORMATS_WITH_EXIF = ["JPEG", "PNG", "WEBP"]


def reencode_and_open(content: bytes) -> tuple[str, Image.Image]:
    """Re-encode a picture; return its extension and the decoded result."""
    extension, result = reencode(content)
    picture = Image.open(io.BytesIO(result))
    picture.load()
    return extension, picture


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        pytest.param(encode_image(RED, "JPEG"), "jpg", id="jpeg"),
        pytest.param(encode_image(RED, "JPEG", progressive=True), "jpg", id="progressive jpeg"),
        pytest.param(jpeg_with_scans(100), "jpg", id="jpeg with 100 scans"),
        pytest.param(
            jpeg_with_scans(10) + b"\xff\xda" * 200,
            "jpg",
            id="jpeg with 200 markers in appended data",
        ),
        pytest.param(encode_image(RED, "PNG"), "jpg", id="png"),
        pytest.param(encode_image(RED, "WEBP"), "jpg", id="webp"),
        pytest.param(encode_image(RED, "GIF"), "jpg", id="gif"),
        pytest.param(encode_image(TRANSLUCENT, "PNG"), "png", id="transparent png"),
        pytest.param(encode_image(TRANSLUCENT.convert("LA"), "PNG"), "png", id="transparent grey"),
        pytest.param(encode_image(TRANSLUCENT, "WEBP"), "png", id="transparent webp"),
        pytest.param(encode_image(RED.convert("RGBA"), "PNG"), "jpg", id="opaque rgba"),
        pytest.param(encode_image(RED.convert("CMYK"), "JPEG"), "jpg", id="cmyk"),
        pytest.param(encode_image(RED.convert("L"), "JPEG"), "jpg", id="grey"),
        pytest.param(encode_image(RED.convert("1"), "PNG"), "jpg", id="black and white"),
        pytest.param(
            encode_image(TRANSLUCENT.convert("P"), "PNG", transparency=0), "png", id="palette"
        ),
        pytest.param(
            encode_image(RED, "PNG", transparency=(200, 10, 10)), "png", id="transparent color"
        ),
        pytest.param(
            encode_image(RED, "PNG") + b"<?php system($_GET[0]);", "jpg", id="png with appended php"
        ),
    ],
)
def test_picture_in_a_common_format_is_accepted(content: bytes, extension: str) -> None:
    actual_extension, picture = reencode_and_open(content)
    assert actual_extension == extension
    assert picture.size in ((60, 40), (64, 64))
    assert picture.format == {"jpg": "JPEG", "png": "PNG"}[extension]


@pytest.mark.parametrize(
    ("mode", "sample", "color"),
    [
        ("L", (0x8000,), (0x80, 0x80, 0x80)),
        ("RGB", (0xC800, 0x0A00, 0x0A00), (200, 10, 10)),
        ("LA", (0x8000, 0xFFFF), (0x80, 0x80, 0x80)),
        ("RGBA", (0xC800, 0x0A00, 0x0A00, 0xFFFF), (200, 10, 10)),
    ],
)
def test_16_bit_picture_is_converted_to_8_bits(
    mode: str, sample: tuple[int, ...], color: tuple[int, int, int]
) -> None:
    for size in ((60, 40), (1500, 1000)):
        _, picture = reencode_and_open(png_16_bit(mode, size, sample))
        assert picture.convert("RGB").getpixel((5, 5)) == pytest.approx(color, abs=4)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP"])
def test_first_frame_of_an_animation_is_stored(file_format: str) -> None:
    other_frames = [Image.new("RGB", (60, 40), color) for color in ("blue", "green")]
    content = encode_image(RED, file_format, save_all=True, append_images=other_frames)
    _, picture = reencode_and_open(content)
    assert picture.size == (60, 40)
    assert picture.getpixel((30, 20)) == pytest.approx((200, 10, 10), abs=8)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="one byte"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", id="svg"),
        pytest.param(b"<html><script>alert(1)</script></html>", id="html"),
        pytest.param(b"%PDF-1.7\n%%EOF", id="pdf"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0", id="heic"),
        pytest.param(encode_image(RED, "BMP"), id="bmp"),
        pytest.param(encode_image(RED, "TIFF"), id="tiff"),
        pytest.param(encode_image(RED, "EPS"), id="eps"),
        pytest.param(encode_image(RED, "JPEG")[:400], id="truncated jpeg"),
        pytest.param(encode_image(RED, "PNG")[:60], id="truncated png"),
        pytest.param(one_bit_png(4097, 10), id="too wide"),
        pytest.param(one_bit_png(10, 4097), id="too high"),
        pytest.param(one_bit_png(10_000, 10_000), id="100 megapixels"),
        pytest.param(one_bit_png(20_000, 20_000), id="400 megapixels"),
        pytest.param(
            one_bit_png(9, 9, png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(70_000_000), 9))),
            id="compressed text of 70 MB",
        ),
        pytest.param(jpeg_with_scans(101), id="jpeg with 101 scans"),
    ],
)
def test_invalid_or_oversized_picture_is_rejected(content: bytes) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  # decoders raise exceptions of any type
        reencode(content)


def test_jpeg_with_many_scans_is_rejected_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded_sizes: list[tuple[int, int]] = []
    original_load = ImageFile.ImageFile.load

    def record_and_load(self: ImageFile.ImageFile) -> object:
        decoded_sizes.append(self.size)
        return original_load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", record_and_load)
    with pytest.raises(ValueError, match="more than 100 scans"):
        reencode(jpeg_with_scans(10_000, (2048, 2048)))
    assert decoded_sizes == []
    reencode(jpeg_with_scans(10))
    assert decoded_sizes != []


def test_large_picture_is_scaled_to_1024_pixels() -> None:
    _, picture = reencode_and_open(encode_image(Image.new("RGB", (4096, 2048)), "JPEG"))
    assert picture.size == (1024, 512)
    _, picture = reencode_and_open(one_bit_png(4096, 4096))
    assert picture.size == (1024, 1024)


def test_colors_of_transparent_pixels_do_not_affect_their_neighbors() -> None:
    picture = Image.new("RGBA", (4096, 4096), (0, 255, 0, 0))
    picture.paste((200, 10, 10, 255), (0, 0, 2049, 4096))
    _, reduced = reencode_and_open(encode_image(picture, "PNG", compress_level=1))
    for x in range(508, 516):
        red, green, _, alpha = reduced.getpixel((x, 500))  # type: ignore[misc]
        if alpha > 16:
            assert (red, green) == pytest.approx((200, 10), abs=12)


@pytest.mark.parametrize("file_format", FORMATS_WITH_EXIF)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (1800, 1200)])
def test_orientation_is_applied(file_format: str, orientation: int, size: tuple[int, int]) -> None:
    uploaded = Image.new("RGB", size, (200, 10, 10))
    width, height = size
    uploaded.paste((10, 10, 200), (0, 0, width // 2, height // 2))
    uploaded.paste((10, 200, 10), (width // 2, 0, width, height // 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode_image(uploaded, file_format, exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    _, picture = reencode_and_open(content)
    expected.thumbnail((1024, 1024))
    assert picture.size == expected.size
    for x in (1, 3):
        for y in (1, 3):
            position = picture.width * x // 4, picture.height * y // 4
            assert picture.getpixel(position) == pytest.approx(expected.getpixel(position), abs=12)


def test_reencoded_picture_has_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90°
    exif[0x010E] = "a description"
    exif.get_ifd(0x8825)[1] = "N"  # GPS position: northern latitude
    uploaded = encode_image(RED, "JPEG", exif=exif, comment=b"secret", xmp=b"<x:xmpmeta/>")
    _, picture = reencode_and_open(uploaded)
    assert picture.size == (40, 60)
    assert not picture.getexif()
    assert not {"exif", "xmp", "comment", "icc_profile"} & picture.info.keys()


@pytest.mark.parametrize(
    "tag",
    [
        pytest.param(struct.pack("<HHI", 0x010F, 1, 1) + b"\x27\xa8\xab\x9f", id="bytes as text"),
        pytest.param(struct.pack("<HHIf", 0x9286, 11, 1, 1.0), id="float as text"),
        pytest.param(struct.pack("<HHIi", 0x8825, 9, 1, -1), id="negative offset"),
        pytest.param(struct.pack("<HHII", 0x010E, 2, 2**31, 8), id="size over 2 GB"),
        pytest.param(struct.pack("<HHII", 0x0112, 5, 1, 0), id="fraction as orientation"),
    ],
)
def test_damaged_exif_is_ignored(tag: bytes) -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tag
    exif += struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    for file_format in FORMATS_WITH_EXIF:
        _, picture = reencode_and_open(encode_image(RED, file_format, exif=exif))
        assert picture.size in ((40, 60), (60, 40))


@pytest.mark.parametrize("file_format", FORMATS_WITH_EXIF)
@pytest.mark.parametrize("exif", [b"", b"rubbish", b"II*\0", b"II*\0\xff\xff\xff\xff", bytes(9000)])
def test_picture_with_rubbish_as_exif_is_accepted(exif: bytes, file_format: str) -> None:
    content = encode_image(RED, file_format, exif=b"Exif\0\0" + exif)
    _, picture = reencode_and_open(content)
    assert picture.size == (60, 40)
    assert not picture.getexif()


@pytest.mark.parametrize("file_format", FORMATS_WITH_EXIF)
@pytest.mark.parametrize(("numerator", "denominator"), [(-5, 2), (1, 0), (0, 0), (-1, -1)])
def test_odd_resolution_does_not_change_the_orientation(
    numerator: int, denominator: int, file_format: str
) -> None:
    # XResolution as SRATIONAL; its value follows the two tags.
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    exif += struct.pack("<ii", numerator, denominator)
    _, picture = reencode_and_open(encode_image(RED, file_format, exif=exif))
    assert picture.size == (40, 60)


@pytest.mark.parametrize(
    ("bits", "transparent", "other"),
    [
        *((bits, sample, 1 - sample) for bits in (1, 2, 4, 8) for sample in (0, 1)),
        *((bits, 2**bits - 1, 2**bits - 2) for bits in (2, 4, 8)),
        (16, 0x1234, 0x1300),
    ],
)
def test_transparent_color_of_a_grey_png_stays_transparent(
    bits: int, transparent: int, other: int
) -> None:
    extension, picture = reencode_and_open(png_with_transparent_sample(bits, transparent, other))
    assert extension == "png"
    alpha = picture.getchannel("A")
    assert (alpha.getpixel((0, 0)), alpha.getpixel((15, 7))) == (0, 255)


def test_transparent_color_of_a_16_bit_png_stays_transparent() -> None:
    sample = (0x1234, 0x5678, 0x9ABC)
    content = png_16_bit("RGB", (60, 40), sample)
    header_end = 8 + 25
    color_chunk = png_chunk(b"tRNS", struct.pack(">HHH", *sample))
    extension, picture = reencode_and_open(
        content[:header_end] + color_chunk + content[header_end:]
    )
    assert extension == "png"
    assert picture.getchannel("A").getextrema() == (0, 0)


@pytest.mark.parametrize("box", [(5, 5, 15, 15), (0, 0, 20, 10), (10, 0, 20, 20)])
def test_area_outside_the_frame_of_a_gif_is_transparent(box: tuple[int, int, int, int]) -> None:
    _, picture = reencode_and_open(gif_with_small_frame(box, (20, 20)))
    frame = Image.new("L", (20, 20))
    frame.paste(255, box)
    assert picture.size == (20, 20)
    assert picture.getchannel("A").tobytes() == frame.tobytes()
    assert picture.getpixel((box[0], box[1])) == (0, 255, 0, 255)


def test_picture_with_a_color_profile_keeps_its_colors() -> None:
    lab_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # A profile of another color space and an invalid profile are ignored.
    for profile in (srgb_profile, lab_profile, cmyk_profile((0, 0, 0)), b"nonsense"):
        _, picture = reencode_and_open(encode_image(RED, "PNG", icc_profile=profile))
        assert picture.getpixel((5, 5)) == pytest.approx((200, 10, 10), abs=3)
        assert "icc_profile" not in picture.info


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_picture_in_display_p3_is_converted_to_srgb(mode: str) -> None:
    uploaded = Image.new(mode, (60, 40), (234, 51, 35, 128)[: len(mode)])
    content = encode_image(uploaded, "PNG", icc_profile=display_p3_profile())
    _, picture = reencode_and_open(content)
    # This color is the red primary of sRGB.
    assert picture.getpixel((5, 5)) == pytest.approx((255, 0, 0, 128)[: len(mode)], abs=12)


def test_cmyk_picture_without_a_profile_has_the_colors_of_the_inks() -> None:
    cyan = Image.new("CMYK", (60, 40), (255, 0, 0, 0))
    _, picture = reencode_and_open(encode_image(cyan, "JPEG", quality=95))
    assert picture.getpixel((5, 5)) == pytest.approx((0, 255, 255), abs=6)


def test_profile_of_a_cmyk_picture_is_applied() -> None:
    cyan = Image.new("CMYK", (60, 40), (255, 0, 0, 0))
    # L* 42, a* 66 and b* 55 are (200, 10, 10) in sRGB.
    profile = cmyk_profile((round(42 * 2.55), 128 + 66, 128 + 55))
    _, picture = reencode_and_open(encode_image(cyan, "JPEG", quality=95, icc_profile=profile))
    assert picture.getpixel((5, 5)) == pytest.approx((200, 10, 10), abs=15)


@pytest.mark.parametrize("tag", ["D2B0", "D2B1", "D2B2", "D2B3"])
def test_long_pipeline_in_a_color_profile_is_not_applied(tag: str) -> None:
    profile = display_p3_profile(**{tag: long_icc_pipeline(3)})
    uploaded = Image.new("RGB", (60, 40), (234, 51, 35))
    _, picture = reencode_and_open(encode_image(uploaded, "PNG", icc_profile=profile))
    # The matrix of the profile is applied instead.
    assert picture.getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=12)
