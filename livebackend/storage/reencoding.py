"""Picture storage that decodes and re-encodes every upload."""

import io
import warnings
from pathlib import Path
from threading import BoundedSemaphore
from typing import BinaryIO

from PIL import Image, ImageCms, ImageOps

from livebackend.storage.local_disk import PictureFiles, new_folder_name
from livebackend.storage.protocol import InvalidImage, OnLocationAssigned, StorageFailed

# The formats that Pillow may decode; fewer decoders limit the attack surface.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
_MAX_UPLOADED_SIDE_PX = 4096
_MAX_STORED_SIDE_PX = 1024
_JPEG_QUALITY = 85
# How long an upload waits for other uploads. Pictures are processed one at a time, because decoding
# a picture needs up to 64 MiB.
_QUEUE_TIMEOUT_S = 3
# The exceptions that Pillow raises for invalid files.
_DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    KeyError,
    TypeError,
    IndexError,
    Warning,
)


class ReencodingPictureStore:
    """Stores pictures upright, at most 1024 × 1024 pixels, without metadata.

    The format is JPEG, or PNG for pictures with transparency. Of an animation, only the first frame
    is stored. The location is a URL below `public_url`.
    """

    def __init__(
        self,
        root: Path,
        *,
        public_url: str,
        min_free_bytes: int,
        queue_timeout_s: float = _QUEUE_TIMEOUT_S,
    ) -> None:
        """Configure the store; an upload waits up to `queue_timeout_s` for other uploads."""
        self._files = PictureFiles(root, min_free_bytes=min_free_bytes)
        self._public_url = public_url.rstrip("/")
        self._queue_timeout_s = queue_timeout_s
        self._semaphore = BoundedSemaphore(1)
        self.find = self._files.find

    def save(
        self, filename: str, content: BinaryIO, on_location_assigned: OnLocationAssigned
    ) -> str:
        if not self._semaphore.acquire(timeout=self._queue_timeout_s):
            raise StorageFailed(f"too many concurrent uploads: waited {self._queue_timeout_s} s")
        try:
            extension, encoded_file = reencode(content)
        finally:
            self._semaphore.release()
        folder, name = new_folder_name(), f"picture.{extension}"
        location = f"{self._public_url}/pictures/{folder}/{name}"
        on_location_assigned(location)
        self._files.write(folder, name, io.BytesIO(encoded_file))
        return location

    def remove(self, location: str) -> None:
        self._files.remove(location.rsplit("/", 2)[-2])


def reencode(content: BinaryIO) -> tuple[str, bytes]:
    """Re-encode a picture; return its file name extension and bytes. Raises InvalidImage."""
    try:
        # Pillow's warnings about large pictures are ignored, because `_decode` rejects them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(content, formats=_FORMATS) as uploaded:
                return _encode(_decode(uploaded))
    except (*_DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise InvalidImage(f"{type(error).__name__}: {error}") from error


def _decode(uploaded: Image.Image) -> Image.Image:
    """Return the picture upright, in sRGB, and reduced to the stored size.

    Raises ValueError before decoding if a side is longer than _MAX_UPLOADED_SIDE_PX.
    """
    if max(uploaded.size) > _MAX_UPLOADED_SIDE_PX:
        raise ValueError(
            f"the picture has {uploaded.width} × {uploaded.height} pixels;"
            f" the maximum is {_MAX_UPLOADED_SIDE_PX} × {_MAX_UPLOADED_SIDE_PX}"
        )
    # The JPEG decoder reduces a large picture while decoding: much faster than resizing it later.
    uploaded.draft(None, (2 * _MAX_STORED_SIDE_PX, 2 * _MAX_STORED_SIDE_PX))
    uploaded.load()
    # The profile of a CMYK picture is ignored, because a CMYK profile does not apply to RGB pixels.
    profile = uploaded.info.get("icc_profile") if uploaded.mode != "CMYK" else None
    picture = _convert_to_8_bits(uploaded)
    is_transparent = "A" in picture.getbands() or "transparency" in picture.info
    picture = picture.convert("RGBA" if is_transparent else "RGB")
    picture.thumbnail((_MAX_STORED_SIDE_PX, _MAX_STORED_SIDE_PX), Image.Resampling.LANCZOS)
    picture = ImageOps.exif_transpose(picture)
    return _convert_to_srgb(picture, profile) if profile else picture


def _convert_to_8_bits(picture: Image.Image) -> Image.Image:
    """Convert a 16-bit grey picture to 8 bits; return other pictures unchanged."""
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda value: value / 256).convert("L")
    return picture


def _convert_to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture from its ICC profile to sRGB; ignore an invalid profile."""
    try:
        source_profile = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted_picture = ImageCms.profileToProfile(
            picture, source_profile, ImageCms.createProfile("sRGB")
        )
    except (ImageCms.PyCMSError, OSError):
        return picture
    return converted_picture or picture


def _encode(picture: Image.Image) -> tuple[str, bytes]:
    """Encode a picture as JPEG or PNG; return the file name extension and the bytes."""
    # Only the pixels are copied: otherwise, Pillow would also save the metadata of the upload.
    pixels = Image.new(picture.mode, picture.size)
    pixels.paste(picture)
    encoded_file = io.BytesIO()
    is_opaque = picture.mode == "RGB" or picture.getchannel("A").getextrema() == (255, 255)
    if is_opaque:
        pixels.convert("RGB").save(encoded_file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
        return "jpg", encoded_file.getvalue()
    pixels.save(encoded_file, "PNG", optimize=True)
    return "png", encoded_file.getvalue()
