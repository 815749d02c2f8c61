"""The CPU time of the picture decoder's processes."""

import os
from pathlib import Path

from livebackend.storage.picture_decoder import PictureDecoder
from tests.support.waiting import wait_until


def cpu_of_pictures_s(decoder: PictureDecoder) -> float:
    """Return the CPU time of all ended processes that have decoded a picture."""
    if decoder.process_id is None:
        return 0.0
    fields = Path(f"/proc/{decoder.process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def wait_for_pictures(decoder: PictureDecoder) -> None:
    """Wait until no process decodes a picture."""
    process_id = decoder.process_id
    children = Path(f"/proc/{process_id}/task/{process_id}/children")
    if process_id is not None:
        wait_until(lambda: not children.read_text(), 60, "the end of the process")
