"""Uploads of damaged pictures: `make mutate-pictures COUNT=200000`.

Random changes damage pictures in every accepted format. Each damaged picture is uploaded to an
application in hardened mode. No response may have a status of 500 or more, and no picture may take
more than a second of CPU time. The CPU time is that of the decoder's child processes, as Linux
accounts for it.
"""

import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from PIL import Image

from livebackend.container import Services
from livebackend.database.engine import Database
from livebackend.database.migrations import migrate
from livebackend.development.embedded_postgres import EmbeddedPostgres
from tests.support.api import ApiClient
from tests.support.application import PRODUCTION_INI, create_app
from tests.support.decoder_cpu import cpu_of_pictures_s, wait_for_pictures
from tests.support.pictures import (
    cmyk_profile,
    display_p3_profile,
    encode_image,
    jpeg_with_scans,
    long_icc_pipeline,
    png_16_bit,
    upload,
)
from tests.support.servers import hardened_settings

MAX_CPU_S = 1.0
# Bytes that often are limits of lengths and numbers.
INTERESTING_BYTES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\0" * 4, b"\x7f\xff")
MAX_PICTURE_BYTES = 5_242_880
# One of this many pictures is large. Such a picture takes as long as a hundred small ones.
LARGE_PICTURE_INTERVAL = 50
# Number of pictures that one application gets; its folder is emptied at an interval.
BATCH_SIZE = 2000
CLEANUP_INTERVAL = 500

Mutation = Callable[[random.Random, bytearray, bytes], None]


class Pictures(NamedTuple):
    """Pictures to damage."""

    small: list[bytes]
    large: list[bytes]


@dataclass
class Report:
    """The results of some uploads."""

    results: Counter[str] = field(default_factory=Counter)
    slowest_cpu_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        self.results += other.results
        self.slowest_cpu_s = max(self.slowest_cpu_s, other.slowest_cpu_s)
        self.failures += other.failures

    def summary(self) -> str:
        errors = sum(count for result, count in self.results.items() if result.startswith("5"))
        return (
            f"{self.results.total():,} pictures: {errors} responses with status 5xx,"
            f" slowest picture {self.slowest_cpu_s:.2f} s of CPU"
        )


def replace_bytes(rng: random.Random, content: bytearray, other: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(len(content))] = rng.randrange(256)


def flip_bit(rng: random.Random, content: bytearray, other: bytes) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def replace_header_bytes(rng: random.Random, content: bytearray, other: bytes) -> None:
    position = rng.randrange(min(200, len(content)))
    inserted = rng.choice(INTERESTING_BYTES)
    content[position : position + len(inserted)] = inserted


def insert_interesting_bytes(rng: random.Random, content: bytearray, other: bytes) -> None:
    position = rng.randrange(len(content))
    content[position:position] = rng.choice(INTERESTING_BYTES)


def truncate(rng: random.Random, content: bytearray, other: bytes) -> None:
    del content[rng.randrange(len(content)) :]


def delete_slice(rng: random.Random, content: bytearray, other: bytes) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.choice((1, 2, 4, 16, 256))]


def repeat_slice(rng: random.Random, content: bytearray, other: bytes) -> None:
    """Repeat a part, such as a scan, a frame or a chunk, up to ten thousand times."""
    start = rng.randrange(len(content))
    repeated = bytes(content[start : start + rng.choice((2, 16, 256, 4096))])
    count = min(rng.choice((1, 10, 100, 1000, 10_000)), MAX_PICTURE_BYTES // len(repeated) // 2)
    content[start:start] = repeated * count


def insert_other_picture(rng: random.Random, content: bytearray, other: bytes) -> None:
    start = rng.randrange(len(other))
    position = rng.randrange(len(content))
    content[position:position] = other[start : start + rng.choice((16, 256, 65_536))]


MUTATIONS: tuple[Mutation, ...] = (
    replace_bytes,
    flip_bit,
    replace_header_bytes,
    insert_interesting_bytes,
    truncate,
    delete_slice,
    repeat_slice,
    insert_other_picture,
)


def original_pictures(size: tuple[int, int]) -> list[bytes]:
    """Return pictures of a size in every format and mode, with profiles and EXIF data."""
    noise = Image.effect_noise((64, 64), 80)
    rgb_tile = Image.merge("RGB", [noise.rotate(90 * n) for n in range(3)])
    # Pictures without new colors remain smaller than the largest upload.
    rgb = rgb_tile.resize(size, Image.Resampling.NEAREST)
    palette = rgb_tile.quantize(64).resize(size, Image.Resampling.NEAREST)
    rgba = rgb.copy()
    rgba.putalpha(noise.resize(size, Image.Resampling.NEAREST))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    exif.get_ifd(0x8825)[1] = "N"
    profile = display_p3_profile()
    expensive_profile = display_p3_profile(D2B0=long_icc_pipeline(20_000))
    fast: dict[str, Any] = {"compress_level": 1, "method": 0}
    return [
        encode_image(rgb, "JPEG", exif=exif, icc_profile=profile),
        encode_image(rgb, "JPEG", progressive=True, subsampling=0, icc_profile=expensive_profile),
        encode_image(rgb, "JPEG", restart_marker_rows=1, quality=30),
        encode_image(rgb.convert("L"), "JPEG", progressive=True),
        encode_image(rgb.convert("CMYK"), "JPEG", icc_profile=cmyk_profile((107, 194, 183))),
        jpeg_with_scans(90, size),
        encode_image(rgb, "PNG", exif=exif, icc_profile=profile, **fast),
        encode_image(rgba, "PNG", icc_profile=expensive_profile, **fast),
        encode_image(rgba.convert("LA"), "PNG", **fast),
        encode_image(palette, "PNG", transparency=0, **fast),
        encode_image(rgb.convert("1"), "PNG", **fast),
        png_16_bit("L", size, (0x8000,)),
        png_16_bit("RGBA", size, (0x8000, 0, 0xFFFF, 0x1234)),
        encode_image(palette, "GIF"),
        encode_image(
            palette, "GIF", save_all=True, append_images=[palette.rotate(180)], transparency=0
        ),
        encode_image(rgb, "WEBP", exif=exif, icc_profile=profile, **fast),
        encode_image(rgba, "WEBP", lossless=True, **fast),
        encode_image(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], **fast),
    ]


def mutate(rng: random.Random, pictures: list[bytes]) -> bytes:
    """Return a damaged picture; a PNG file often has correct checksums nevertheless."""
    content = bytearray(rng.choice(pictures))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(MUTATIONS)(rng, content, rng.choice(pictures))
        if not content:
            break
    damaged = bytes(content[:MAX_PICTURE_BYTES])
    return correct_checksums(damaged) if rng.random() < 0.8 else damaged


def correct_checksums(content: bytes) -> bytes:
    """Return a PNG file with correct checksums; other content unchanged."""
    if not content.startswith(b"\x89PNG"):
        return content
    corrected, position = bytearray(content[:8]), 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4])
        end = position + 8 + length
        if end + 4 > len(content):
            break
        corrected += content[position:end]
        corrected += zlib.crc32(content[position + 4 : end]).to_bytes(4)
        position = end + 4
    return bytes(corrected + content[position:])


def upload_mutations(
    database_url: str, parent_folder: Path, pictures: Pictures, seed: int, numbers: range
) -> Report:
    """Upload a damaged picture for each number."""
    folder = parent_folder / f"data-{numbers.start}"
    settings = hardened_settings(database_url) | {
        "limits.upload": "",
        "pictures.min_free_disk_bytes": "0",
    }
    app = create_app(
        database_url,
        folder,
        PRODUCTION_INI,
        **{name.replace(".", "__"): value for name, value in settings.items()},
    )
    services: Services = app.registry.services
    api, report, cpu_before_s = ApiClient(app), Report(), 0.0
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        content = mutate(
            rng, pictures.large if number % LARGE_PICTURE_INTERVAL == 0 else pictures.small
        )
        response = upload(api, content)
        wait_for_pictures(services.picture_decoder)
        cpu_after_s = cpu_of_pictures_s(services.picture_decoder)
        cpu_s, cpu_before_s = cpu_after_s - cpu_before_s, cpu_after_s
        report.results[f"{response.status} {response.error or 'stored'}"] += 1
        report.slowest_cpu_s = max(report.slowest_cpu_s, cpu_s)
        if response.status >= 500 or cpu_s > MAX_CPU_S:
            report.failures.append(
                f"number {number}: status {response.status}, {cpu_s:.2f} s of CPU time,"
                f" {len(content):,} bytes"
            )
        if number % CLEANUP_INTERVAL == 0:
            shutil.rmtree(folder / "pictures", ignore_errors=True)
    services.close()
    shutil.rmtree(folder)
    return report


def batches(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), BATCH_SIZE):
        yield numbers[start : start + BATCH_SIZE]


@click.command()
@click.option("--count", default=200_000, help="Number of damaged pictures.")
@click.option("--first", default=0, help="Number of the first picture; repeats a failure.")
@click.option("--seed", default=1)
@click.option("--processes", default=2)
def main(count: int, first: int, seed: int, processes: int) -> None:
    started_at, report = time.monotonic(), Report()
    with tempfile.TemporaryDirectory(prefix="livebackend-pictures-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded PostgreSQL can run as another user
        postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        url = postgres.start()
        try:
            database = Database(url)
            migrate(database)
            database.close()
            pictures = Pictures(original_pictures((48, 40)), original_pictures((4096, 4096)))
            upload_batch = partial(upload_mutations, url, folder, pictures, seed)
            numbers = batches(range(first, first + count))
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                for batch_report in pool.imap_unordered(upload_batch, numbers):
                    report.add(batch_report)
                    click.echo(report.summary(), err=True)
        finally:
            postgres.close()
    for result, result_count in report.results.most_common():
        click.echo(f"{result_count:8,} {result}")
    click.echo(f"{report.summary()}, in {time.monotonic() - started_at:.0f} s")
    for failure in report.failures:
        click.echo(failure, err=True)
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
