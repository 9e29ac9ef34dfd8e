"""Small pictures of models, made of what lies beside them: decoded here, where a broken one harms nobody."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from ....shared import logs
from ....shared.files import read_file
from ....shared.library import MAX_PREVIEW_BYTES, PREVIEW_SIDE
from ...reference_pictures import convert_picture

logger = logs.get_logger(__name__)
FORMATS = ("PNG", "JPEG", "WEBP")
MAX_FILE, MAX_PIXELS = 16 << 20, 32_000_000


def make_thumbnail(path: Path) -> bytes | None:
    """The PNG file of a picture, ``PREVIEW_SIDE`` pixels along its longer side at most; None for one that cannot be read."""
    try:
        data = read_file(path, MAX_FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return None
                picture.draft("RGB", (PREVIEW_SIDE * 2, PREVIEW_SIDE * 2))
                small = Image.fromarray(convert_picture(ImageOps.exif_transpose(picture)))
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        out = io.BytesIO()
        small.save(out, "PNG")
    except Exception as error:  # whatever the library raises for a damaged file
        logger.info("The picture %s cannot be shown (%s)", path, type(error).__name__)
        return None
    return out.getvalue() if out.tell() <= MAX_PREVIEW_BYTES else None
