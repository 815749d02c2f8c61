"""Pictures made anew: what is taken, what is refused before it costs anything, what is left."""

import io
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from livebackend.storage.protocol import NotAPicture, NotKept
from livebackend.storage.reencoding import PicturesReEncoded, re_encoded
from tests.support.pictures import HALF, RED, chunk, encoded, png


def made(content: bytes) -> tuple[str, Image.Image]:
    """What becomes of a picture: its ending, and the picture that a viewer sees."""
    ending, anew = re_encoded(io.BytesIO(content))
    picture = Image.open(io.BytesIO(anew))
    picture.load()
    return ending, picture


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        pytest.param(encoded(RED, "JPEG"), "jpg", id="jpeg"),
        pytest.param(encoded(RED, "PNG"), "jpg", id="png"),
        pytest.param(encoded(RED, "WEBP"), "jpg", id="webp"),
        pytest.param(encoded(RED, "GIF"), "jpg", id="gif"),
        pytest.param(encoded(HALF, "PNG"), "png", id="transparent png"),
        pytest.param(encoded(HALF, "WEBP"), "png", id="transparent webp"),
        pytest.param(encoded(RED.convert("CMYK"), "JPEG"), "jpg", id="cmyk"),
        pytest.param(encoded(RED.convert("L"), "JPEG"), "jpg", id="grey"),
        pytest.param(encoded(RED.convert("1"), "PNG"), "jpg", id="black and white"),
        pytest.param(encoded(HALF.convert("P"), "PNG", transparency=0), "png", id="palette"),
        pytest.param(
            encoded(RED, "WEBP", save_all=True, append_images=[HALF.convert("RGB")]),
            "jpg",
            id="animated webp",
        ),
        pytest.param(
            encoded(RED, "GIF", save_all=True, append_images=[RED.rotate(90)]),
            "jpg",
            id="animated gif",
        ),
        pytest.param(encoded(RED, "PNG") + b"<?php system($_GET[0]);", "jpg", id="tail"),
    ],
)
def test_what_a_viewer_shows_is_taken(content: bytes, ending: str) -> None:
    found, picture = made(content)
    assert found == ending
    assert picture.size == (60, 40)
    assert picture.format == {"jpg": "JPEG", "png": "PNG"}[ending]


def test_16_bits_become_8() -> None:
    deep = Image.new("I;16", (60, 40), 0x8000)
    _, picture = made(encoded(deep, "PNG"))
    red, green, blue = picture.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red == green == blue
    assert abs(red - 0x80) < 4


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"x", id="one byte"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", id="svg"),
        pytest.param(b"<html><script>alert(1)</script></html>", id="html"),
        pytest.param(b"%PDF-1.7\n%%EOF", id="pdf"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0", id="heic"),
        pytest.param(encoded(RED, "BMP"), id="bmp"),
        pytest.param(encoded(RED, "TIFF"), id="tiff"),
        pytest.param(encoded(RED, "EPS"), id="eps"),
        pytest.param(encoded(RED, "JPEG")[:400], id="truncated jpeg"),
        pytest.param(encoded(RED, "PNG")[:60], id="truncated png"),
        pytest.param(png(4097, 10), id="too wide"),
        pytest.param(png(10, 4097), id="too high"),
        pytest.param(png(10_000, 10_000), id="10000 × 10000"),
        pytest.param(png(20_000, 20_000), id="20000 × 20000"),
        pytest.param(
            png(9, 9, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(70_000_000), 9))), id="ztxt"
        ),
    ],
)
def test_anything_else_is_no_picture(content: bytes) -> None:
    with pytest.raises(NotAPicture):
        re_encoded(io.BytesIO(content))


def test_a_large_one_is_made_smaller() -> None:
    _, picture = made(encoded(Image.new("RGB", (4096, 2048)), "JPEG"))
    assert picture.size == (1024, 512)
    _, picture = made(png(4096, 4096))
    assert picture.size == (1024, 1024)


def test_it_is_upright_and_says_nothing_of_where_it_was_taken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "a description"
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    sent = encoded(RED, "JPEG", exif=exif, comment=b"secret", xmp=b"<x:xmpmeta/>")
    _, picture = made(sent)
    assert picture.size == (40, 60)
    assert not picture.getexif()
    assert not {"exif", "xmp", "comment", "icc_profile"} & picture.info.keys()


def test_colours_of_another_profile_are_turned_into_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, lab, b"nonsense"):  # the second and third do not fit
        _, picture = made(encoded(RED, "PNG", icc_profile=profile))
        assert picture.getpixel((5, 5)) == pytest.approx((200, 10, 10), abs=3)
        assert "icc_profile" not in picture.info


@pytest.fixture
def store(tmp_path: Path) -> PicturesReEncoded:
    return PicturesReEncoded(tmp_path, url="https://live.example/api/", free_bytes_min=0)


def test_its_location_is_its_url(store: PicturesReEncoded, tmp_path: Path) -> None:
    location = store.keep("../../etc/passwd", io.BytesIO(encoded(RED, "PNG")), print)
    assert location.startswith("https://live.example/api/pictures/")
    folder, name = location.split("/")[-2:]
    kept = store.find(folder, name)
    assert kept
    assert kept.media_type == "image/jpeg"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["picture.jpg"]
    store.remove(location)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_what_is_refused(store: PicturesReEncoded, tmp_path: Path) -> None:
    with pytest.raises(NotAPicture):
        store.keep("x.png", io.BytesIO(b"x"), print)
    full = PicturesReEncoded(tmp_path, url="https://live.example", free_bytes_min=2**60)
    with pytest.raises(NotKept, match="nearly full"):
        full.keep("x.png", io.BytesIO(encoded(RED, "PNG")), print)
    assert list(tmp_path.iterdir()) == []


class SlowFile(io.BytesIO):
    """A picture whose bytes come only after `go` is set."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.is_read = threading.Event()
        self.go = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        self.is_read.set()
        assert self.go.wait(10)
        return super().read(size)


def test_no_more_is_read_at_once_than_one(tmp_path: Path) -> None:
    store = PicturesReEncoded(tmp_path, url="https://x", free_bytes_min=0, wait_s=0.01)
    picture = encoded(RED, "PNG")
    slow = SlowFile(picture)
    first = threading.Thread(target=store.keep, args=["x.png", slow, print])
    first.start()
    assert slow.is_read.wait(10)
    with pytest.raises(NotKept, match="too many"):
        store.keep("x.png", io.BytesIO(picture), print)
    slow.go.set()
    first.join()
    assert store.keep("x.png", io.BytesIO(picture), print)
