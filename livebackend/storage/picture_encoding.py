"""Decoding and re-encoding of a picture. Runs only in a decoder process."""

import io
import re
import warnings
from typing import Any

from PIL import ExifTags, Image, ImageCms

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


def _decode(uploaded: Image.Image) -> Image.Image:
    """Return the picture upright, in sRGB, and reduced, in the mode RGB or RGBA."""
    profile: bytes = uploaded.info.get("icc_profile") or b""
    orientation: Any = uploaded.getexif().get(ExifTags.Base.Orientation)
    is_transparent = uploaded.has_transparency_data
    picture = _resizable(uploaded, is_transparent=is_transparent)
    # The JPEG decoder reduces the picture while it decodes.
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


def _resizable(uploaded: Image.Image, *, is_transparent: bool) -> Image.Image:
    """Return a picture in a mode that can be resized: L, RGB, CMYK or RGBa."""
    if is_transparent:
        rgba_picture = uploaded if uploaded.mode == "RGBA" else uploaded.convert("RGBA")
        # The colors of transparent pixels must not affect their neighbors.
        return rgba_picture.convert("RGBa")
    if uploaded.mode == "I;16":
        # The high bytes of the 16-bit samples, which are little-endian.
        return Image.frombytes("L", uploaded.size, uploaded.tobytes()[1::2])
    return uploaded if uploaded.mode in _RESIZABLE_MODES else uploaded.convert("RGB")


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
