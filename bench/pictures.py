"""Pictures that are slow to decode."""

from io import BytesIO

from PIL import Image


def many_scan_jpeg(scan_count: int) -> bytes:
    """Return a progressive JPEG of 4096 × 4096 pixels that repeats its last scan."""
    buffer = BytesIO()
    Image.new("L", (4096, 4096), 128).save(buffer, "JPEG", progressive=True, quality=50)
    jpeg = buffer.getvalue()
    last_scan = jpeg.rindex(b"\xff\xda")
    scan = jpeg[last_scan:-2]
    return jpeg[:last_scan] + scan * scan_count + jpeg[-2:]
