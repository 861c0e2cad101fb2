"""Pictures in files and in memory, whole or not at all."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emd_core.errors import UserError
from emd_core.reading import impostor, reading

MAX_PIXELS = 50_000_000  # of a picture: a file of a megabyte can claim gigabytes
SERVED = ("PNG", "JPEG")  # what comes over the network


def decode(picture: bytes, formats: tuple[str, ...] | None = SERVED) -> NDArray[np.uint8] | None:
    """A picture's bytes -> HWC uint8 RGB, [0, 255]; None where they are no whole picture of at most MAX_PIXELS.

    Turned upright as its EXIF data ask; 16 bits become 8, grey becomes RGB, and transparency is dropped.
    """
    try:
        with Image.open(BytesIO(picture), formats=formats) as file:
            if file.width * file.height > MAX_PIXELS:
                return None
            # Whether it is whole is Pillow's word: OpenCV fills up with grey what was cut off a file, and from memory
            # in some versions (not in 5.0). Of a JPEG an eighth of the size is enough to see its end.
            file.draft("L", (1, 1))
            file.load()
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture of a file, of any format that Pillow and OpenCV both know."""
    remedy = "restore it, or drop it and its annotation"
    with reading(path, "a readable image", remedy):
        image = decode(path.read_bytes(), formats=None)
    if image is None:
        found = impostor(path) or f"is not a readable image, or it is cut off; {remedy}"
        raise UserError(f"{path} {found}.")
    return image
