"""Storage of re-encoded pictures: location, file names, rejected pictures."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from livebackend.storage.picture_decoder import PictureDecoder
from livebackend.storage.protocol import InvalidImage, StorageFailed
from livebackend.storage.reencoding import ReencodingPictureStore
from tests.support.pictures import RED, encode_image


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    decoder = PictureDecoder(max_cpu_s=1.0, max_concurrent=2, max_callers=8)
    yield decoder
    decoder.close()


@pytest.fixture
def store(tmp_path: Path, decoder: PictureDecoder) -> ReencodingPictureStore:
    return ReencodingPictureStore(
        tmp_path, decoder, public_url="https://live.example/api/", min_free_bytes=0
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


def test_rejected_picture_leaves_no_file(
    store: ReencodingPictureStore, decoder: PictureDecoder, tmp_path: Path
) -> None:
    with pytest.raises(InvalidImage):
        store.save("x.png", io.BytesIO(b"x"), print)
    store_on_full_disk = ReencodingPictureStore(
        tmp_path, decoder, public_url="https://live.example", min_free_bytes=2**60
    )
    with pytest.raises(StorageFailed, match="nearly full"):
        store_on_full_disk.save("x.png", io.BytesIO(encode_image(RED, "PNG")), print)
    assert list(tmp_path.iterdir()) == []
