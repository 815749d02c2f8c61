"""Decoding and re-encoding of a picture. Runs only in a decoder process."""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from PIL import ExifTags, Image, ImageCms, ImageFile

# The formats that Pillow may decode; fewer decoders limit the attack surface.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
_MAX_UPLOADED_SIDE_PX = 4096
_MAX_STORED_SIDE_PX = 1024
# A picture is first reduced by an integer factor to at least this multiple of the stored size, and
# then resized: much faster than resizing all its pixels.
_REDUCING_GAP = 1.5
_JPEG_QUALITY = 85
# Level 3 takes 50 % longer and saves 2 % of the bytes. Level 9 takes ten times as long.
_PNG_COMPRESSION_LEVEL = 1
# Encoders write about ten scans. Each scan can cost as much time as a whole picture.
_MAX_JPEG_SCANS = 100
# A start-of-scan marker with its length and its number of components (ITU-T T.81, B.2.3). Appended
# data, such as the video of a motion photo, contains the two bytes of the marker by chance.
_JPEG_START_OF_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
# The pixels of these modes can be resized as they are.
_RESIZABLE_MODES = ("L", "RGB", "CMYK")
# Converts a sample of a PNG's transparent color as Pillow converts the samples of the pixels, by
# Pillow's name of the pixel format. Pillow leaves the transparent color unchanged.
_TO_8_BITS: dict[str, Callable[[int], int]] = {
    "L;2": lambda sample: (sample & 0b11) * 0x55,
    "L;4": lambda sample: (sample & 0b1111) * 0x11,
    "I;16B": lambda sample: sample >> 8,
    "RGB;16B": lambda sample: sample >> 8,
}
_MODE_BY_ICC_COLOR_SPACE = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_TRANSPOSITION_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def reencode(content: bytes) -> tuple[str, bytes]:
    """Return the file name extension and the bytes of a re-encoded picture.

    It is a JPEG, or a PNG if it is transparent. It is upright, in sRGB, at most 1024 pixels wide
    and high, and without metadata. Of an animation, it is the first frame. Raises any exception if
    the content is not a valid picture.
    """
    # Pillow's warnings about large pictures are ignored, because `_decode` rejects them.
    warnings.simplefilter("ignore")
    with Image.open(io.BytesIO(content), formats=_FORMATS) as uploaded:
        _check_cost(uploaded, content)
        return _encode(_decode(uploaded))


def _check_cost(uploaded: Image.Image, content: bytes) -> None:
    """Raise ValueError if a picture is too large or has too many scans to be decoded."""
    if max(uploaded.size) > _MAX_UPLOADED_SIDE_PX:
        raise ValueError(
            f"the picture has {uploaded.width} × {uploaded.height} pixels;"
            f" the maximum is {_MAX_UPLOADED_SIDE_PX} × {_MAX_UPLOADED_SIDE_PX}"
        )
    if uploaded.format == "JPEG" and len(_JPEG_START_OF_SCAN.findall(content)) > _MAX_JPEG_SCANS:
        raise ValueError(f"the picture has more than {_MAX_JPEG_SCANS} scans")


def _decode(uploaded: ImageFile.ImageFile) -> Image.Image:
    """Return the picture upright, in sRGB, and reduced, in the mode RGB or RGBA."""
    profile: bytes = uploaded.info.get("icc_profile") or b""
    # Pillow removes the tiles when it decodes the pixels.
    tiles = list(uploaded.tile)
    if uploaded.format != "JPEG":  # the JPEG decoder reduces the picture while it decodes
        uploaded.load()
    orientation = _orientation(uploaded)
    eight_bit_picture = _with_eight_bit_samples(uploaded, tiles)
    frame = _partial_frame(uploaded, tiles)
    is_transparent = eight_bit_picture.has_transparency_data or frame is not None
    picture = _resizable(eight_bit_picture, is_transparent=is_transparent)
    if frame is not None:
        canvas = Image.new(picture.mode, picture.size)
        canvas.paste(picture.crop(frame), frame)
        picture = canvas
    picture.thumbnail(
        (_MAX_STORED_SIDE_PX, _MAX_STORED_SIDE_PX),
        Image.Resampling.BICUBIC,
        reducing_gap=_REDUCING_GAP,
    )
    if is_transparent:
        picture = picture.convert("RGBA")
    picture = _convert_to_srgb(picture, profile)
    transposition = _TRANSPOSITION_BY_ORIENTATION.get(orientation)
    return picture.transpose(transposition) if transposition is not None else picture


def _orientation(uploaded: Image.Image) -> Any:
    """Return the EXIF orientation; None without one, or if the metadata is invalid."""
    try:
        return uploaded.getexif().get(ExifTags.Base.Orientation)
    # Pillow's parser raises exceptions of any type, but the pixels are valid.
    except Exception:  # noqa: BLE001
        return None


def _with_eight_bit_samples(uploaded: Image.Image, tiles: list[Any]) -> Image.Image:
    """Return the picture with 8 bits per sample, also in the transparent color of a PNG."""
    color = uploaded.info.get("transparency")
    if uploaded.mode == "I;16":
        # The high bytes of the 16-bit samples, which are little-endian.
        picture = Image.frombytes("L", uploaded.size, uploaded.tobytes()[1::2])
    else:
        picture = uploaded
    to_8_bits = _TO_8_BITS.get(str(tiles[0].args)) if tiles else None
    if to_8_bits is None or color is None:
        return picture
    is_grey = isinstance(color, int)
    picture.info["transparency"] = to_8_bits(color) if is_grey else tuple(map(to_8_bits, color))
    return picture


def _partial_frame(uploaded: Image.Image, tiles: list[Any]) -> tuple[int, int, int, int] | None:
    """Return the box of a GIF's first frame; None if it covers the whole picture.

    The rest of the picture is transparent, as in browsers. Pillow fills it with a color.
    """
    if uploaded.format != "GIF" or not tiles or tiles[0].extents == (0, 0, *uploaded.size):
        return None
    box: tuple[int, int, int, int] = tiles[0].extents
    return box


def _resizable(picture: Image.Image, *, is_transparent: bool) -> Image.Image:
    """Return a picture in a mode that can be resized: L, RGB, CMYK or RGBa."""
    if is_transparent:
        rgba_picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        # The colors of transparent pixels must not affect their neighbors.
        return rgba_picture.convert("RGBa")
    return picture if picture.mode in _RESIZABLE_MODES else picture.convert("RGB")


def _convert_to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture to RGB or RGBA, by its ICC profile if that is valid."""
    output_mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    try:
        # The tags D2B0 to D2B3 can have thousands of calculations for each pixel. Without them, the
        # tags that every profile must have are used.
        source_profile = ImageCms.ImageCmsProfile(io.BytesIO(profile.replace(b"D2B", b"\0\0\0")))
        color_space = source_profile.profile.xcolor_space.strip()
        if _MODE_BY_ICC_COLOR_SPACE.get(color_space) == picture.mode.removesuffix("A"):
            converted: Any = ImageCms.profileToProfile(
                picture, source_profile, ImageCms.createProfile("sRGB"), outputMode=output_mode
            )
            return converted  # type: ignore[no-any-return]
    except (ImageCms.PyCMSError, OSError):
        pass
    return picture.convert(output_mode)


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
    pixels.save(encoded_file, "PNG", compress_level=_PNG_COMPRESSION_LEVEL)
    return "png", encoded_file.getvalue()
