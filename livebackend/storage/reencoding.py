"""Pictures that are read, checked and written anew: nothing that was sent is kept as it was."""

import io
import warnings
from pathlib import Path
from threading import BoundedSemaphore
from typing import BinaryIO

from PIL import Image, ImageCms, ImageOps

from livebackend.storage.local_disk import PictureFolders, new_folder
from livebackend.storage.protocol import Announce, NotAPicture, NotKept

# Whatever else Pillow can read stays unread: each reader is one more to trust.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
_SIDE_MAX = 4096
_KEPT_SIDE_MAX = 1024
_JPEG_QUALITY = 85
# A picture takes up to 64 MiB while it is read; the next ones wait.
_WAIT_S = 3
# What Pillow raises for files that are not what they claim to be.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, IndexError, Warning)


class PicturesReEncoded:
    """Keeps a picture's pixels: upright, at most 1024 wide and high, without any metadata.

    It is kept as JPEG, or as PNG if parts of it are transparent, and of an animation the first
    frame. The location is its URL below `url`.
    """

    def __init__(
        self, root: Path, *, url: str, free_bytes_min: int, wait_s: float = _WAIT_S
    ) -> None:
        """`wait_s`: how long a picture waits for the one that is encoded now."""
        self._folders = PictureFolders(root, free_bytes_min=free_bytes_min)
        self._url = url.rstrip("/")
        self._wait_s = wait_s
        self._turn = BoundedSemaphore(1)
        self.find = self._folders.find

    def keep(self, filename: str, content: BinaryIO, announce: Announce) -> str:
        if not self._turn.acquire(timeout=self._wait_s):
            raise NotKept("too many pictures at once")
        try:
            ending, encoded = re_encoded(content)
        finally:
            self._turn.release()
        folder, name = new_folder(), f"picture.{ending}"
        location = f"{self._url}/pictures/{folder}/{name}"
        announce(location)
        self._folders.write(folder, name, io.BytesIO(encoded))
        return location

    def remove(self, location: str) -> None:
        self._folders.remove(location.rsplit("/", 2)[-2])


def re_encoded(content: BinaryIO) -> tuple[str, bytes]:
    """The picture made anew: its name's ending, and its bytes. Raises NotAPicture."""
    try:
        # Pillow warns of what is refused here anyway.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(content, formats=_FORMATS) as sent:
                return _encoded(_read(sent))
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise NotAPicture(f"{type(error).__name__}: {error}") from error


def _read(sent: Image.Image) -> Image.Image:
    """The picture's pixels, upright, in sRGB. Its size is judged before it is read."""
    if max(sent.size) > _SIDE_MAX:
        raise ValueError(f"{sent.width} × {sent.height} pixels")
    # A JPEG can be read at a fraction of its size, in a fraction of the time.
    sent.draft(None, (2 * _KEPT_SIDE_MAX, 2 * _KEPT_SIDE_MAX))
    sent.load()
    # A CMYK picture's profile tells of ink, and is of no use for what Pillow makes of it.
    profile = sent.info.get("icc_profile") if sent.mode != "CMYK" else None
    picture = _in_8_bits(sent)
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    picture = picture.convert("RGBA" if transparent else "RGB")
    picture.thumbnail((_KEPT_SIDE_MAX, _KEPT_SIDE_MAX), Image.Resampling.LANCZOS)
    picture = ImageOps.exif_transpose(picture)
    return _in_srgb(picture, profile) if profile else picture


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture's upper 8 bits; others as they are."""
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda value: value / 256).convert("L")
    return picture


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """The picture in the colours of all screens; without its profile it would look pale.

    A profile that does not fit the picture is no reason to refuse it.
    """
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        turned = ImageCms.profileToProfile(picture, given, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError):
        return picture
    return turned or picture


def _encoded(picture: Image.Image) -> tuple[str, bytes]:
    # Into a new one: what Pillow remembers of the old one's metadata stays behind.
    bare = Image.new(picture.mode, picture.size)
    bare.paste(picture)
    written = io.BytesIO()
    opaque = picture.mode == "RGB" or picture.getchannel("A").getextrema() == (255, 255)
    if opaque:
        bare.convert("RGB").save(written, "JPEG", quality=_JPEG_QUALITY, optimize=True)
        return "jpg", written.getvalue()
    bare.save(written, "PNG", optimize=True)
    return "png", written.getvalue()
