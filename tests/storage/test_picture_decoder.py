"""The picture decoder: CPU time, memory, concurrency, failures of its process."""

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from livebackend.storage.picture_decoder import PictureDecoder, parse_response
from livebackend.storage.protocol import InvalidImage, StorageFailed
from tests.support.decoder_cpu import cpu_of_pictures_s, wait_for_pictures
from tests.support.pictures import (
    PNG,
    TRANSLUCENT,
    display_p3_profile,
    encode_image,
    jpeg_with_scans,
    long_icc_pipeline,
    png_16_bit,
)
from tests.support.waiting import wait_until

OPTIONS: dict[str, Any] = {"max_cpu_s": 1.0, "max_concurrent": 2, "max_callers": 48}
LARGE = TRANSLUCENT.resize((4096, 4096))
PHOTO = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * n) for n in range(3)])
EXIF = Image.Exif()
EXIF[0x0112] = 6


@contextmanager
def picture_decoder(**options: Any) -> Iterator[PictureDecoder]:
    decoder = PictureDecoder(**{**OPTIONS, **options})
    try:
        yield decoder
    finally:
        decoder.close()


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    with picture_decoder() as decoder:
        yield decoder


def is_decoded(decoder: PictureDecoder) -> bool:
    """Decode a picture; return False if this took too long on a machine under load."""
    with suppress(StorageFailed):
        return bool(decoder.reencode(PNG))
    return False


@contextmanager
def stopped_process(decoder: PictureDecoder) -> Iterator[None]:
    """Stop the decoder process, so that pictures wait."""
    wait_until(lambda: is_decoded(decoder), 30, "the start of the decoder process")
    assert decoder.process_id
    os.kill(decoder.process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(decoder.process_id, signal.SIGCONT)


@pytest.mark.parametrize(
    ("content", "size"),
    [
        pytest.param(
            encode_image(
                PHOTO.resize((4000, 3000)),
                "JPEG",
                progressive=True,
                icc_profile=display_p3_profile(),
                exif=EXIF,
            ),
            (768, 1024),
            id="progressive JPEG of 12 megapixels in Display P3",
        ),
        pytest.param(
            encode_image(PHOTO.resize((4096, 4096)).convert("CMYK"), "JPEG", progressive=True),
            (1024, 1024),
            id="progressive CMYK JPEG",
        ),
        *[
            pytest.param(
                encode_image(PHOTO.resize((4096, 4096)), *file_format, method=0),
                (1024, 1024),
                id=f"{file_format[0]} of 4096 × 4096 pixels",
            )
            for file_format in (("JPEG",), ("PNG",), ("WEBP",), ("GIF",))
        ],
        pytest.param(
            encode_image(LARGE, "PNG", compress_level=1), (1024, 1024), id="transparent PNG"
        ),
        pytest.param(
            encode_image(LARGE, "WEBP", lossless=True, method=0), (1024, 1024), id="lossless WebP"
        ),
        pytest.param(
            encode_image(
                LARGE, "WEBP", method=0, save_all=True, append_images=[LARGE.rotate(90)]
            ),
            (1024, 1024),
            id="transparent animated WebP",
        ),
        pytest.param(
            png_16_bit("L", (4096, 4096), (0x8000,)), (1024, 1024), id="16-bit grey PNG"
        ),
        pytest.param(
            png_16_bit("RGBA", (4096, 4096), (0x8000, 0, 0, 0x8000)),
            (1024, 1024),
            id="16-bit transparent PNG",
        ),
    ],
)  # fmt: skip
def test_largest_legal_picture_is_accepted(
    content: bytes, size: tuple[int, int], decoder: PictureDecoder
) -> None:
    _, encoded_file = decoder.reencode(content)
    assert Image.open(io.BytesIO(encoded_file)).size == size


def test_picture_that_exceeds_the_cpu_time_is_rejected() -> None:
    with picture_decoder(max_cpu_s=0.15) as decoder:
        with pytest.raises(InvalidImage, match="too much CPU time"):
            decoder.reencode(encode_image(LARGE, "PNG", compress_level=1))
        wait_for_pictures(decoder)
        assert cpu_of_pictures_s(decoder) <= 0.2
        assert decoder.reencode(PNG)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(jpeg_with_scans(10_000, (4096, 4096)), id="10,000 scans"),
        pytest.param(jpeg_with_scans(100, (4096, 4096)), id="100 scans"),
        pytest.param(
            encode_image(
                PHOTO.resize((1024, 1024)),
                "PNG",
                icc_profile=display_p3_profile(D2B0=long_icc_pipeline(20_000)),
            ),
            id="color profile with 20,000 curves",
        ),
    ],
)
def test_picture_made_to_be_expensive_costs_at_most_a_second(
    content: bytes, decoder: PictureDecoder
) -> None:
    cpu_before_s = cpu_of_pictures_s(decoder)
    with suppress(InvalidImage):
        decoder.reencode(content)
    wait_for_pictures(decoder)
    assert cpu_of_pictures_s(decoder) - cpu_before_s <= 1.0


def test_picture_that_exceeds_the_memory_is_rejected() -> None:
    with picture_decoder(max_memory_bytes=100 * 2**20) as decoder:
        with pytest.raises(InvalidImage):
            decoder.reencode(encode_image(LARGE, "PNG", compress_level=1))
        assert decoder.reencode(PNG)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xd8\xff" + bytes(100), PNG[:60]])
def test_invalid_picture_is_rejected(content: bytes, decoder: PictureDecoder) -> None:
    with pytest.raises(InvalidImage, match="Error"):
        decoder.reencode(content)


@pytest.mark.parametrize(
    ("options", "upload_count", "message"),
    [
        ({"max_concurrent": 1, "queue_timeout_s": 0.01}, 2, "waited 0.01 s"),
        ({"max_concurrent": 2, "max_callers": 2}, 3, "too many concurrent uploads"),
    ],
)
def test_one_picture_too_many_is_not_stored_and_does_not_affect_the_others(
    options: dict[str, Any], upload_count: int, message: str
) -> None:
    results: list[Any] = []

    def upload(decoder: PictureDecoder) -> None:
        try:
            results.append(decoder.reencode(PNG))
        except StorageFailed as error:
            results.append(error)

    with picture_decoder(**options) as decoder:
        uploads = [threading.Thread(target=upload, args=[decoder]) for _ in range(upload_count)]
        with stopped_process(decoder):
            for thread in uploads:
                thread.start()
            wait_until(lambda: results, 5, "a refused upload")
        for thread in uploads:
            thread.join(10)
        assert decoder.reencode(PNG)
    assert message in str(results[0])
    assert [result[0] for result in results[1:]] == ["jpg"] * (upload_count - 1)


def test_picture_is_not_stored_if_the_process_does_not_respond() -> None:
    with picture_decoder(timeout_s=1.0) as decoder:
        with stopped_process(decoder), pytest.raises(StorageFailed, match="TimeoutError"):
            decoder.reencode(PNG)
        wait_until(lambda: is_decoded(decoder), 30, "a decoded picture")


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(b"+jpg 4\nabc", id="the process ended within the picture"),
        pytest.param(b"+jpg 4", id="the process ended before the picture"),
        pytest.param(b"+../../x 3\nabc", id="unknown extension"),
        pytest.param(b"+\n\xff", id="reason that is not UTF-8"),
    ],
)
def test_picture_without_a_complete_response_is_rejected(response: bytes) -> None:
    with pytest.raises(InvalidImage):
        parse_response(response)


def test_response_of_the_process_is_limited() -> None:
    with (
        picture_decoder(max_response_bytes=10) as decoder,
        pytest.raises(StorageFailed, match="more than 10 bytes"),
    ):
        decoder.reencode(PNG)


def test_signals_that_the_server_blocks_end_pictures() -> None:
    blocked_signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with picture_decoder(max_cpu_s=0.1) as decoder, pytest.raises(InvalidImage):
            decoder.reencode(encode_image(LARGE, "PNG"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_signals)


def test_process_starts_again_after_it_was_killed(decoder: PictureDecoder) -> None:
    decoder.reencode(PNG)
    killed_process_id = decoder.process_id
    assert killed_process_id
    os.kill(killed_process_id, signal.SIGKILL)
    status = Path(f"/proc/{killed_process_id}/stat")
    wait_until(lambda: status.read_text().split()[2] == "Z", 5, "the end of the process")
    assert decoder.reencode(PNG)
    assert decoder.process_id != killed_process_id


def test_signals_to_stop_do_not_end_the_process(decoder: PictureDecoder) -> None:
    decoder.reencode(PNG)
    process_id = decoder.process_id
    assert process_id
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process_id, signal_number)
    assert decoder.reencode(PNG)
    assert decoder.process_id == process_id


def test_process_has_no_secrets_and_no_files_of_the_worker(decoder: PictureDecoder) -> None:
    decoder.reencode(PNG)
    folder = Path(f"/proc/{decoder.process_id}")
    variables = folder.joinpath("environ").read_text().split("\0")
    assert [variable.partition("=")[0] for variable in variables if variable] == ["PYTHONPATH"]
    # Standard input is the socket to the worker. The process can have a copy of it, and has a pair
    # of sockets that reports the end of its child processes.
    files = [str(file.readlink()) for file in folder.joinpath("fd").iterdir() if file.name > "2"]
    assert {file.partition(":")[0] for file in files} <= {"socket"}
    assert len(files) <= 3


def test_closed_decoder_has_no_process() -> None:
    decoder = PictureDecoder(**OPTIONS)
    decoder.close()
    decoder.reencode(PNG)
    process_id = decoder.process_id
    decoder.close()
    assert decoder.process_id is None
    assert not Path(f"/proc/{process_id}").exists()
