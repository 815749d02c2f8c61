"""Re-encoded pictures: accepted and rejected formats, size, metadata, concurrency."""

import io
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from livebackend.storage.protocol import InvalidImage, StorageFailed
from livebackend.storage.reencoding import ReencodingPictureStore, reencode
from tests.support.pictures import RED, TRANSLUCENT, encode_image, one_bit_png, png_chunk


def reencode_and_open(content: bytes) -> tuple[str, Image.Image]:
    """Re-encode a picture; return its extension and the decoded result."""
    extension, result = reencode(io.BytesIO(content))
    picture = Image.open(io.BytesIO(result))
    picture.load()
    return extension, picture


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        pytest.param(encode_image(RED, "JPEG"), "jpg", id="jpeg"),
        pytest.param(encode_image(RED, "PNG"), "jpg", id="png"),
        pytest.param(encode_image(RED, "WEBP"), "jpg", id="webp"),
        pytest.param(encode_image(RED, "GIF"), "jpg", id="gif"),
        pytest.param(encode_image(TRANSLUCENT, "PNG"), "png", id="transparent png"),
        pytest.param(encode_image(TRANSLUCENT, "WEBP"), "png", id="transparent webp"),
        pytest.param(encode_image(RED.convert("CMYK"), "JPEG"), "jpg", id="cmyk"),
        pytest.param(encode_image(RED.convert("L"), "JPEG"), "jpg", id="grey"),
        pytest.param(encode_image(RED.convert("1"), "PNG"), "jpg", id="black and white"),
        pytest.param(
            encode_image(TRANSLUCENT.convert("P"), "PNG", transparency=0), "png", id="palette"
        ),
        pytest.param(
            encode_image(RED, "WEBP", save_all=True, append_images=[TRANSLUCENT.convert("RGB")]),
            "jpg",
            id="animated webp",
        ),
        pytest.param(
            encode_image(RED, "GIF", save_all=True, append_images=[RED.rotate(90)]),
            "jpg",
            id="animated gif",
        ),
        pytest.param(
            encode_image(RED, "PNG") + b"<?php system($_GET[0]);", "jpg", id="png with appended php"
        ),
    ],
)
def test_picture_in_a_common_format_is_accepted(content: bytes, extension: str) -> None:
    actual_extension, picture = reencode_and_open(content)
    assert actual_extension == extension
    assert picture.size == (60, 40)
    assert picture.format == {"jpg": "JPEG", "png": "PNG"}[extension]


def test_16_bit_grey_picture_is_converted_to_8_bits() -> None:
    grey_16_bit = Image.new("I;16", (60, 40), 0x8000)
    _, picture = reencode_and_open(encode_image(grey_16_bit, "PNG"))
    red, green, blue = picture.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red == green == blue
    assert abs(red - 0x80) < 4


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
    ],
)
def test_invalid_or_oversized_picture_is_rejected(content: bytes) -> None:
    with pytest.raises(InvalidImage):
        reencode(io.BytesIO(content))


def test_large_picture_is_scaled_to_1024_pixels() -> None:
    _, picture = reencode_and_open(encode_image(Image.new("RGB", (4096, 2048)), "JPEG"))
    assert picture.size == (1024, 512)
    _, picture = reencode_and_open(one_bit_png(4096, 4096))
    assert picture.size == (1024, 1024)


def test_reencoded_picture_is_upright_and_has_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90°
    exif[0x010E] = "a description"
    exif.get_ifd(0x8825)[1] = "N"  # GPS position: northern latitude
    uploaded = encode_image(RED, "JPEG", exif=exif, comment=b"secret", xmp=b"<x:xmpmeta/>")
    _, picture = reencode_and_open(uploaded)
    assert picture.size == (40, 60)
    assert not picture.getexif()
    assert not {"exif", "xmp", "comment", "icc_profile"} & picture.info.keys()


def test_picture_with_a_color_profile_keeps_its_colors() -> None:
    lab_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # A profile of another color space and an invalid profile are ignored.
    for profile in (srgb_profile, lab_profile, b"nonsense"):
        _, picture = reencode_and_open(encode_image(RED, "PNG", icc_profile=profile))
        assert picture.getpixel((5, 5)) == pytest.approx((200, 10, 10), abs=3)
        assert "icc_profile" not in picture.info


@pytest.fixture
def store(tmp_path: Path) -> ReencodingPictureStore:
    return ReencodingPictureStore(
        tmp_path, public_url="https://live.example/api/", min_free_bytes=0
    )


def test_location_of_a_picture_is_its_url(store: ReencodingPictureStore, tmp_path: Path) -> None:
    location = store.save("../../etc/passwd", io.BytesIO(encode_image(RED, "PNG")), print)
    assert location.startswith("https://live.example/api/pictures/")
    folder, name = location.split("/")[-2:]
    stored = store.find(folder, name)
    assert stored
    assert stored.media_type == "image/jpeg"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["picture.jpg"]
    store.remove(location)
    assert list(tmp_path.iterdir()) == []


def test_rejected_picture_leaves_no_file(store: ReencodingPictureStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidImage):
        store.save("x.png", io.BytesIO(b"x"), print)
    store_on_full_disk = ReencodingPictureStore(
        tmp_path, public_url="https://live.example", min_free_bytes=2**60
    )
    with pytest.raises(StorageFailed, match="nearly full"):
        store_on_full_disk.save("x.png", io.BytesIO(encode_image(RED, "PNG")), print)
    assert list(tmp_path.iterdir()) == []


class SlowFile(io.BytesIO):
    """A file whose reads block until `proceed` is set."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.read_started = threading.Event()
        self.proceed = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.read_started.set()
        assert self.proceed.wait(10)
        return super().read(size)


def test_second_concurrent_picture_is_rejected_after_the_timeout(tmp_path: Path) -> None:
    store = ReencodingPictureStore(
        tmp_path, public_url="https://x", min_free_bytes=0, queue_timeout_s=0.01
    )
    picture = encode_image(RED, "PNG")
    slow_file = SlowFile(picture)
    first_upload = threading.Thread(target=store.save, args=["x.png", slow_file, print])
    first_upload.start()
    assert slow_file.read_started.wait(10)
    with pytest.raises(StorageFailed, match="too many"):
        store.save("x.png", io.BytesIO(picture), print)
    slow_file.proceed.set()
    first_upload.join()
    assert store.save("x.png", io.BytesIO(picture), print)
