"""Picture storage that decodes and re-encodes every upload."""

import io
from pathlib import Path
from typing import BinaryIO

from livebackend.storage.local_disk import PictureFiles, new_folder_name
from livebackend.storage.picture_decoder import PictureDecoder
from livebackend.storage.protocol import OnLocationAssigned


class ReencodingPictureStore:
    """Stores pictures upright, at most 1024 × 1024 pixels, without metadata.

    The format is JPEG, or PNG for pictures with transparency. Of an animation, only the first frame
    is stored. The location is a URL below `public_url`.
    """

    def __init__(
        self, root: Path, decoder: PictureDecoder, *, public_url: str, min_free_bytes: int
    ) -> None:
        self._files = PictureFiles(root, min_free_bytes=min_free_bytes)
        self._decoder = decoder
        self._public_url = public_url.rstrip("/")
        self.find = self._files.find

    def save(
        self, filename: str, content: BinaryIO, on_location_assigned: OnLocationAssigned
    ) -> str:
        extension, encoded_file = self._decoder.reencode(content.read())
        folder, name = new_folder_name(), f"picture.{extension}"
        location = f"{self._public_url}/pictures/{folder}/{name}"
        on_location_assigned(location)
        self._files.write(folder, name, io.BytesIO(encoded_file))
        return location

    def remove(self, location: str) -> None:
        self._files.remove(location.rsplit("/", 2)[-2])
